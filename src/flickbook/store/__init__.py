"""Where jobs are kept: one protocol, two backends."""
