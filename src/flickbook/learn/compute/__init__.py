"""How a training computes: in which precision, in how much memory, how fast, and on a GPU as one graph."""
