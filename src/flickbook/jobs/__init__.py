"""The queue, the processes that work on it, and who may use it."""
