"""Training, evaluation and what they need: a wing that no service imports."""
