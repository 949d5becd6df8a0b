"""Colour transfer: the mean and spread of an image's colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST = 1.0  # levels: stretching flat content would only amplify its grain


@dataclass(frozen=True, eq=False)
class Tone:
    """Mean and standard deviation of red, green and blue, each (3,), in levels of 0 to 255."""

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, picture: np.ndarray) -> Tone:
        """Return the tone of an image (height, width, 3) uint8."""
        values = picture.astype(np.float64)
        return cls(values.mean((0, 1)), values.std((0, 1)))

    def towards(self, other: Tone, t: float) -> Tone:
        """Interpolate linearly to another tone; t is 0 to 1."""
        return Tone((1 - t) * self.mean + t * other.mean, (1 - t) * self.spread + t * other.spread)

    def transfer_to(self, picture: np.ndarray) -> np.ndarray:
        """Transfer this tone to an image (height, width, 3) uint8.

        The method is that of Reinhard et al. 2001, but in RGB. Values are clipped to 0 to 255.
        """
        tone = Tone.of(picture)
        moved = (picture - tone.mean) * (self.spread / np.maximum(tone.spread, _LEAST)) + self.mean
        return np.asarray(moved.clip(0, 255).round().astype(np.uint8))
