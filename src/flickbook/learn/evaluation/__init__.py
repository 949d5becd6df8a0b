"""Evaluation: how often a model's films show what their prompts say, and how near they are to true films.

The judge that reads a film back is in `flickbook.world`. Read in this order: `evaluate` (the built-in family),
`sources` (others' models and films), `adherence` and `collect` (what is counted of a film), `features`, `distances` and
`comparison` (FVD-w, nearest clips), `temporal` (motion and flicker), `few_steps` (diversity, a student beside its
teacher), `report`, `page` and `rate` (text, HTML and the page for rating), `coverage` (the curve). `train_features` and
`validate` make and test the network of the features.
"""
