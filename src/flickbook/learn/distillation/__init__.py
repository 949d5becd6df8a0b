"""Distillation: students that make a model's films in few steps, for `--speed turbo`.

Read in this order: `student` (a whole distillation, from a model to a model's directory), `distill` (targets and
updates).
"""
