"""Films whose sound can be compared with their frames: a click plays in the middle of each white frame."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flickbook.media.clip import Clip
from flickbook.media.sound.samples import Sound

RATE = 48_000
#: Seconds within which no second click is looked for.
_APART = 0.04


def track(times: Sequence[float], seconds: float, rate: int = RATE, channels: int = 2) -> Sound:
    """A sound with a short click at each of `times`, in seconds."""
    samples = np.zeros((round(seconds * rate), channels), np.float32)
    decay = (0.9 * np.exp(-np.arange(rate // 100) / (rate / 500))).astype(np.float32)
    for time in times:
        start = round(time * rate)
        part = samples[start : start + len(decay)]
        part[:] = decay[: len(part), None]
    return Sound(samples, rate)


def wav(path: Path, sound: Sound) -> Path:
    """Write a sound as 16-bit WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(sound.samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes((sound.samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return path


def flashes(frames: Sequence[int], count: int, fps: float, rate: int = RATE) -> Clip:
    """A dark film with white `frames`, and a click in the middle of each."""
    pixels = np.full((count, 32, 48, 3), 16, np.uint8)
    pixels[:, :, :, 1] += np.arange(count, dtype=np.uint8)[:, None, None]  # no two frames are equal
    pixels[list(frames)] = 240
    return Clip(pixels, fps, audio=track([(frame + 0.5) / fps for frame in frames], count / fps, rate))


def seen(frames: np.ndarray) -> list[int]:
    """The numbers of the white frames; of neighbours the first."""
    white = np.flatnonzero(frames.reshape(len(frames), -1).mean(1) > 200)
    return [int(each) for each in white if each - 1 not in white]


def heard(sound: Sound) -> list[float]:
    """The times of the clicks, in seconds."""
    level = np.abs(sound.samples).max(1)
    found: list[float] = []
    at, loud = 0, 0.4 * float(level.max())
    while at < len(level):
        if level[at] > loud:
            step = round(_APART * sound.rate)
            found.append((at + int(level[at : at + step].argmax())) / sound.rate)
            at += step
        at += 1
    return found
