"""Modular pipelines of diffusers, run like its other pipelines."""
