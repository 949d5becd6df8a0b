"""Evaluation: how often a model's films show what their prompts say.

Films of many prompts, their table and its report belong here; the judge that reads a film back is in
`flickbook.world`. Read in this order: `evaluate` (films, table), `few_steps` (a student beside its teacher), `page`
(the HTML report).
"""
