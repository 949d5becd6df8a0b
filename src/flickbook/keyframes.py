"""Frames that a film shall show at given places: as a caller names them, and as a Plan stores them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flickbook.records import Record, Sha256


class Condition(Record):
    """An image file that the film shows at a frame, or at a time in seconds: exactly one of them is set.

    A negative `frame` counts from the end: -1 is the last frame. `strength`, above 0 and at most 1, is how closely the
    film keeps to the image.
    """

    image: str
    frame: int | None = None
    time: float | None = None
    strength: float = 1.0


class Keyframe(Record):
    """The SHA-256 of an image, the frame (from 0) at which the film shows it, and how closely it keeps to it."""

    image: Sha256
    frame: Annotated[int, Field(ge=0)]
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
