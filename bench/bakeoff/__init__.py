"""Which architecture learns most from the same work: candidates for the built-in model, trained with equal operations.

Read in this order: `networks` (the candidates that the package does not have), `race` (training and evaluation), and
`report` (the table).
"""
