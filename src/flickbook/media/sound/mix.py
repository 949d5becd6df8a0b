"""What is done to the samples of a sound: cut, fit, fade, repeat, reverse, join. Each function returns a new Sound."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.sound.samples import FULL_SCALE, Sound, sample_at, samples_in, whole
from flickbook.spec import Loop

#: Seconds over which a sound that was cut in the middle is faded, so that the cut makes no click.
_DECLICK: Final = 0.005


def cut(sound: Sound, start: int, end: int) -> Sound:
    """Return the samples `start` to `end`, `end` excluded; beyond the sound's end they are silent."""
    part = sound.samples[start:end]
    missing = end - start - len(part)
    return Sound(np.pad(part, ((0, missing), (0, 0))) if missing else part.copy(), sound.rate)


def during(sound: Sound, first: int, last: int, fps: float) -> Sound:
    """Return what plays during the frames `first` to `last`, `last` excluded, of a film at `fps`."""
    start = sample_at(first, fps, sound.rate)
    return cut(sound, start, start + samples_in(last - first, fps, sound.rate))


def lasting(sound: Sound, frames: int, fps: float) -> Sound:
    """Return the sound, cut or followed by silence to the duration of `frames` frames at `fps`."""
    return during(sound, 0, frames, fps)


def stored(sound: Sound) -> Sound:
    """Return the sound as a lossless file returns it: clipped, with 24 bits. Storing it again changes nothing."""
    return Sound((whole(sound.samples) / FULL_SCALE).astype(np.float32), sound.rate)


def repeated(sound: Sound, count: int) -> Sound:
    """Return `count` samples: the sound again and again from its beginning."""
    times = -(-count // len(sound.samples))
    return Sound(np.tile(sound.samples, (times, 1))[:count].copy(), sound.rate)


def backwards(sound: Sound) -> Sound:
    """Return the sound in reverse."""
    return Sound(sound.samples[::-1].copy(), sound.rate)


def faded(sound: Sound, seconds: float) -> Sound:
    """Fade in over the first `seconds` and out over the last, along a quarter of a cosine.

    A sound that is shorter than both fades gets fades of half its duration.
    """
    count = min(round(seconds * sound.rate), len(sound.samples) // 2)
    if count < 1:
        return sound
    samples, rise = sound.samples.copy(), _rise(count)
    samples[:count] *= rise
    samples[-count:] *= rise[::-1]
    return Sound(samples, sound.rate)


def softened(sound: Sound) -> Sound:
    """Fade out over the last 5 milliseconds, for a sound that was cut while it played."""
    count = min(round(_DECLICK * sound.rate), len(sound.samples))
    samples = sound.samples.copy()
    samples[len(samples) - count :] *= _rise(count)[::-1]
    return Sound(samples, sound.rate)


def cross_faded(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cross-fade two equally long parts (n, channels) with equal power: cos² + sin² = 1.

    The loudness of unrelated sounds stays even, whereas a linear fade is 3 dB quieter in its middle.
    """
    rise = _rise(len(first))
    mixed: np.ndarray = (first * rise[::-1] + second * rise).astype(np.float32)
    return mixed


def joined(sounds: Sequence[Sound], fades: Sequence[int]) -> Sound:
    """Concatenate sounds of one rate and number of channels; `fades` are the samples that neighbours share.

    Raises RequestError for a fade that is longer than a sound.
    """
    parts = [sounds[0].samples]
    for (before, after), fade in zip(pairwise(sounds), fades, strict=True):
        if fade > min(len(before.samples), len(after.samples)):
            raise RequestError("fade", fade, "is longer than a sound", "choose a shorter fade")
        if fade:
            last = parts[-1]
            parts[-1] = last[: len(last) - fade]
            parts.append(cross_faded(before.samples[-fade:], after.samples[:fade]))
        parts.append(after.samples[fade:])
    return Sound(np.concatenate(parts), sounds[0].rate)


def blended(sound: Sound, overlap: int) -> Sound:
    """Cross-fade the last `overlap` samples into the first ones; the result is that much shorter and repeats evenly."""
    samples = sound.samples
    mixed = cross_faded(samples[len(samples) - overlap :], samples[:overlap])
    return Sound(np.concatenate([mixed, samples[overlap : len(samples) - overlap]]), sound.rate)


def looped(sound: Sound, mode: Loop, part: tuple[int, int], frames: int, fps: float) -> Sound:
    """Return the sound of a loop: of `frames` frames at `fps`, from which `media.finishing.loop` keeps `part`.

    "pingpong" plays the sound back as it does the frames, "blend" fades its end into its beginning, and "cut" keeps
    what plays during the part.
    """
    whole = lasting(sound, frames, fps)
    if mode == "pingpong":
        back = backwards(during(whole, 1, frames - 1, fps)) if frames > 2 else None
        return whole if back is None else joined([whole, back], [0])
    return blended(whole, sample_at(part[0], fps, sound.rate)) if mode == "blend" else during(whole, *part, fps)


def _rise(count: int) -> np.ndarray:
    """Return a gain (count, 1) float32 from above 0 to below 1: a quarter of a sine."""
    at = (np.arange(count) + 0.5) / count
    return np.sin(at * np.pi / 2).astype(np.float32)[:, None]
