"""The sound of a film: its samples and their rate."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from flickbook.errors import RequestError
from flickbook.formats import FPS_DENOMINATOR

MIN_RATE: Final = 4_000
MAX_RATE: Final = 192_000
MAX_CHANNELS: Final = 2
#: The value of a sample of 1 in a file with 24 bits; float32 has no more.
FULL_SCALE: Final = 1 << 23
#: dBFS (decibels relative to the loudest sample that a file can hold) below which a sound counts as silent.
SILENT_DB: Final = -80.0


@dataclass(frozen=True, eq=False, repr=False)
class Sound:
    """Samples (n, channels) float32, from -1 to 1, and `rate`, samples per second of each channel (4000 to 192,000).

    There are one or two channels. Samples beyond -1 and 1 are clipped when they are encoded. Raises RequestError for
    other arrays and rates, and for samples that are not finite.
    """

    samples: np.ndarray
    rate: int

    def __post_init__(self) -> None:
        samples = self.samples
        if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 2:
            kind = f"{getattr(samples, 'dtype', type(samples).__name__)} {getattr(samples, 'shape', '')}".strip()
            raise RequestError("audio", kind, "must be a float32 array (samples, channels)", "convert it first")
        if not (len(samples) and 1 <= samples.shape[1] <= MAX_CHANNELS):
            limit = f"must have at least one sample, and 1 to {MAX_CHANNELS} channels"
            raise RequestError("audio", samples.shape, limit, "mix it down to stereo")
        if not np.isfinite(samples).all():
            raise RequestError("audio", "NaN or infinity", "must be finite numbers", "check what made the samples")
        if not MIN_RATE <= self.rate <= MAX_RATE:
            limit = f"must be {MIN_RATE} to {MAX_RATE} samples per second"
            raise RequestError("audio", self.rate, limit, "resample it, for example to 48000")

    def __repr__(self) -> str:
        """Return a summary: Sound(2 s, 48000 Hz, 2 channels)."""
        channels = self.samples.shape[1]
        return f"Sound({self.seconds:g} s, {self.rate} Hz, {channels} channel{'s' * (channels > 1)})"

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / self.rate

    @property
    def sha256(self) -> str:
        """The SHA-256 (64 hexadecimal digits) of the line "float32 96000,2 48000\\n" and the samples.

        The samples follow in time order, the channels of each together, as little-endian float32.
        """
        count, channels = self.samples.shape
        digest = hashlib.sha256(f"float32 {count},{channels} {self.rate}\n".encode())
        digest.update(np.ascontiguousarray(self.samples.astype("<f4", copy=False)).data)
        return digest.hexdigest()


def samples_in(frames: int, fps: float, rate: int) -> int:
    """Return how many samples at `rate` play during `frames` frames at `fps` per second, at least one."""
    return max(1, sample_at(frames, fps, rate))


def sample_at(frame: int, fps: float, rate: int) -> int:
    """Return the number of the sample that plays when frame number `frame` begins."""
    # The rate that a film's file stores: 23.976 is 24000/1001.
    return round(frame * rate / Fraction(fps).limit_denominator(FPS_DENOMINATOR))


def whole(samples: np.ndarray) -> np.ndarray:
    """Return samples as whole numbers of 24 bits, in float64; those beyond -1 and 1 are clipped."""
    return np.round(samples * np.float64(FULL_SCALE)).clip(-FULL_SCALE, FULL_SCALE - 1)


def difference(one: Sound, other: Sound) -> float:
    """Return the ratio (dB) of full scale to the root mean square of the difference; infinite for equal sounds.

    It is -infinity for sounds of other rates, channels or durations.
    """
    if one.rate != other.rate or one.samples.shape != other.samples.shape:
        return float("-inf")
    error = float(np.sqrt(((one.samples.astype(np.float64) - other.samples) ** 2).mean()))
    return float("inf") if error == 0 else -20 * math.log10(error)


def decibels(level: float) -> float | None:
    """Return a level (1 is full scale) in dBFS, rounded to 0.1; None for 0."""
    return None if level <= 0 else round(20 * math.log10(level), 1)


def is_silent(peak: float | None) -> bool:
    """Whether a sound with this peak (dBFS) is inaudible."""
    return peak is None or peak < SILENT_DB
