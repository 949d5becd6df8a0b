"""Plan and Placement in, steps and frames out."""
