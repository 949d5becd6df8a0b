"""The sound of films: its samples, what is done to them, and their encoding.

Belongs here: pure functions of samples, and the PyAV code that resamples and encodes them. Decoding of files that come
from outside is in `media/untrusted`.
"""
