"""The command line: parse, call, print. What computes is imported inside the functions, so that help is fast."""
