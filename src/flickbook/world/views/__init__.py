"""Six views: small landscapes and dances for the prompts people really type.

Each view is a module with `NAME`, `TRAITS` (words by trait), `draw`, `captions`, `brief_captions`, `PHRASES`
(the sentences of `world/grammar.py`) and `read`, which reads the words back from frames; `recognise` tells which view
a film shows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from types import ModuleType

import numpy as np

from flickbook.world.views import city, night, reef, sea, shapes, sunrise
from flickbook.world.views.recognise import recognise

__all__ = ["VIEWS", "draw", "recognise", "sample"]

#: Every view by the name that `Scene.kind` carries.
VIEWS: dict[str, ModuleType] = {view.NAME: view for view in (sunrise, night, sea, city, reef, shapes)}


def sample(seed: int) -> tuple[str, dict[str, str]]:
    """Draw a view's name and one word for each of its traits, all equally likely."""
    rng = np.random.default_rng([seed, 0x71E35])
    kind = tuple(VIEWS)[int(rng.integers(len(VIEWS)))]
    words: dict[str, tuple[str, ...]] = VIEWS[kind].TRAITS
    return kind, {trait: values[int(rng.integers(len(values)))] for trait, values in words.items()}


def draw(kind: str, traits: Mapping[str, str], seed: int) -> np.ndarray:
    """The film (16, 128, 128, 3) uint8 of view `kind`, 8 frames a second; the same arguments give the same pixels.

    Raises KeyError for an unknown view, trait or word.
    """
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    film: np.ndarray = VIEWS[kind].draw(traits, rng)
    return film
