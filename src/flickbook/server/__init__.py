"""The HTTP service: it asks the queue and shows what is there; it computes nothing, and loads no torch."""
