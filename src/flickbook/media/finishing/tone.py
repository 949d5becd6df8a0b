"""The tone of a picture: how bright each colour is in it, and how far it spreads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST = 1.0  # levels: stretching what is flat would only show its grain


@dataclass(frozen=True, eq=False)
class Tone:
    """Mean and standard deviation of red, green and blue, each (3,), in levels of 0 to 255."""

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, picture: np.ndarray) -> Tone:
        """The tone of a picture (height, width, 3) uint8."""
        values = picture.astype(np.float64)
        return cls(values.mean((0, 1)), values.std((0, 1)))

    def towards(self, other: Tone, t: float) -> Tone:
        """The tone at t, 0 to 1, of the way to another."""
        return Tone((1 - t) * self.mean + t * other.mean, (1 - t) * self.spread + t * other.spread)

    def given(self, picture: np.ndarray) -> np.ndarray:
        """A picture (height, width, 3) uint8 moved and stretched to this tone, as Reinhard et al. 2001 transfer colour,
        in RGB; what would leave 0 to 255 stays at the end."""
        own = Tone.of(picture)
        moved = (picture - own.mean) * (self.spread / np.maximum(own.spread, _LEAST)) + self.mean
        return np.asarray(moved.clip(0, 255).round().astype(np.uint8))
