"""Datasets of captioned clips.

Read in this order: `entries` and `layouts` (which files a directory lists, with which captions), `dataset` (the usable
clips, and the problems of the others), `buckets` and `frames` (the sizes that clips are trained at, and their pixels),
`cache` (their latents), `summary` (the report of `--check`).
"""
