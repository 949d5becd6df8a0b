"""Records of a Plan: the operations on finished frames, and the track of the film."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from flickbook.records import Record, Sha256

Loop = Literal["", "pingpong", "blend", "cut"]
Camera = Literal["", "pan-left", "pan-right", "tilt-up", "tilt-down", "zoom-in", "zoom-out"]
AudioFit = Literal["pad", "trim", "loop"]
#: The value of `audio` for a film without sound.
NO_AUDIO: Final = "none"


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

    def keeps_end(self, num_frames: int) -> bool:
        """Whether a film of `num_frames` frames still ends with the view of its last frame."""
        whole = self.trim is None or self.trim[1] == num_frames
        return whole and not (self.steady or self.camera or self.loop)

    def nothing(self) -> bool:
        """Whether it leaves every frame unchanged."""
        return self == Polish()


class Sounding(Record):
    """A record that says which sound a film has.

    `audio` is the SHA-256 of the file with its track, "none" for a film without sound, or "" for the sound that the
    model makes, or that the joined films have. A track that is shorter than the film is followed by silence, unless
    `audio_fit` is "loop", which repeats it; one that is longer is refused, unless `audio_fit` is "trim" or "loop". It
    fades in and out over `audio_fade` seconds. Fields at their defaults are left out of the JSON, so that the records
    of older versions are unchanged.
    """

    audio: Sha256 | Literal["", "none"] = Field(default="", exclude_if=lambda value: value == "")
    audio_fit: AudioFit = Field(default="pad", exclude_if=lambda value: value == "pad")
    audio_fade: Annotated[float, Field(ge=0, le=60)] = Field(default=0.0, exclude_if=lambda value: value == 0)

    def track(self) -> str:
        """Return the SHA-256 of the file with the film's track, "" if it has none."""
        return "" if self.audio == NO_AUDIO else self.audio
