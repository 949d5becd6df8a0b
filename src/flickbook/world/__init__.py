"""The procedural world: films rendered from a seed, their words, and the judge that reads them back.

numpy and Pillow only, so that it runs on any training machine.
"""
