"""The picture book: flat drawings of a subject doing something in a place by day, at sunset or at night.

Films have 16 frames of 128 x 128 pixels, 8 a second. `sample` draws the words of a page by lot, `page` adds what no
word says, and `draw` draws its film; `held_out` tells which pages training never sees.
"""

from __future__ import annotations

from flickbook.world.book.film import draw
from flickbook.world.book.page import (
    ACTIONS,
    COMBINATIONS,
    DIRECTIONS,
    LIGHTS,
    PLACES,
    SUBJECTS,
    Page,
    fits,
    held_out,
    page,
    sample,
)

__all__ = [
    "ACTIONS",
    "COMBINATIONS",
    "DIRECTIONS",
    "LIGHTS",
    "PLACES",
    "SUBJECTS",
    "Page",
    "draw",
    "fits",
    "held_out",
    "page",
    "sample",
]
