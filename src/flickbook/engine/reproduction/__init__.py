"""Making a film again from the Recipe in its file.

What belongs here: everything that starts from an existing Recipe: reproducing it, varying it, comparing two of them.
Read `reproduce` (the same film again, with a verdict) and `file_search` (locates inputs by SHA-256), then `rerun` (a
Request for a variation) and `compare` (the differences of two Recipes).
"""
