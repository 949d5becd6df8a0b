"""Conversion of a sound to another rate or number of channels, by FFmpeg's resampler."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np

from flickbook.media.sound.samples import Sound

LAYOUTS: Final = {1: "mono", 2: "stereo"}
#: Samples given to the resampler at once.
_BLOCK: Final = 1 << 16
_LARGE: Final = 1_000_000


def resampled(sound: Sound, rate: int, channels: int | None = None) -> Sound:
    """Return the sound at `rate` samples per second, with `channels` (default: its own), and of the same duration.

    Two channels are mixed to one by their mean; one is copied to both.
    """
    channels = channels or sound.samples.shape[1]
    samples = sound.samples
    if channels == 1 and samples.shape[1] == 2:
        samples = samples.mean(1, keepdims=True, dtype=np.float32)
    elif channels == 2 and samples.shape[1] == 1:
        samples = samples.repeat(2, 1)
    if rate == sound.rate:
        return Sound(samples, rate)
    return Sound(_converted(samples, sound.rate, rate, max(1, round(len(samples) * rate / sound.rate))), rate)


def played(sound: Sound, speed: float) -> Sound:
    """Return the sound played `speed` times as fast, at its own rate. Its pitch rises or falls with the speed."""
    count = max(1, round(len(sound.samples) / speed))
    # Only the ratio of the two rates matters, and the resampler takes whole ones.
    ratio = Fraction(speed).limit_denominator(10_000)
    scale = max(1, _LARGE // max(ratio.numerator, ratio.denominator))
    made = _converted(sound.samples, ratio.numerator * scale, ratio.denominator * scale, count)
    return Sound(made, sound.rate)


def _converted(samples: np.ndarray, rate: int, new_rate: int, count: int) -> np.ndarray:
    """Return `count` samples of a sound whose rate was converted, cut or followed by silence."""
    import av  # lazy, so that machines that only train need no codecs

    layout = LAYOUTS[samples.shape[1]]
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=new_rate)
    parts: list[np.ndarray] = []
    for start in range(0, len(samples), _BLOCK):
        block = np.ascontiguousarray(samples[start : start + _BLOCK].T)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.rate = rate
        parts += [each.to_ndarray() for each in resampler.resample(frame)]
    parts += [each.to_ndarray() for each in resampler.resample(None)]
    found = np.concatenate(parts, axis=1).T[:count]
    return np.ascontiguousarray(np.pad(found, ((0, count - len(found)), (0, 0))), dtype=np.float32)
