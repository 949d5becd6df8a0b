"""Operations on finished frames, as a Plan stores them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flickbook.records import Record, Sha256

Loop = Literal["", "pingpong", "blend", "cut"]
Camera = Literal["", "pan-left", "pan-right", "tilt-up", "tilt-down", "zoom-in", "zoom-out"]


class Network(Record):
    """The weights of a network: its name, and the SHA-256 of its file."""

    name: str
    sha256: Sha256


class Polish(Record):
    """Operations on finished frames, applied in the order of these fields. An unset field does nothing.

    `trim` keeps the frames from the first number up to, but excluding, the second. `steady` is a strength, 0 to 1.
    `interpolate` and `upscale` are integer factors; without a network they use OpenCV's optical flow and Lanczos.
    `camera` moves a view that is smaller than the frames over them. `speed` changes the playback speed (above 1 is
    faster) and keeps the frames; `rate` is the new frame rate in frames per second and keeps the duration.
    """

    trim: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] | None = None
    steady: Annotated[float, Field(ge=0, le=1)] = 0.0
    interpolate: Annotated[int, Field(ge=1, le=8)] = 1
    interpolator: Network | None = None
    upscale: Annotated[int, Field(ge=1, le=4)] = 1
    upscaler: Network | None = None
    camera: Camera = ""
    loop: Loop = ""
    speed: Annotated[float, Field(gt=0)] = 1.0
    rate: Annotated[float, Field(gt=0)] | None = None
    text: str = ""

    def nothing(self) -> bool:
        """Whether it leaves every frame unchanged."""
        return self == Polish()
