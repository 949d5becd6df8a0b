"""Concatenation of the sounds of joined films."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from flickbook.media.sound import mix
from flickbook.media.sound.resample import resampled
from flickbook.media.sound.samples import Sound, sample_at


def join(sounds: Sequence[Sound | None], counts: Sequence[int], fade: int, fps: float) -> Sound | None:
    """Return the sound of films joined by `media.finishing.join`; None if none of them has any.

    `sounds` are those of the films, None for silence, and `counts` their numbers of frames at `fps`. Where films fade
    into each other over `fade` frames, their sounds do too, with equal power. The result has the highest rate and
    number of channels among them.
    """
    there = [sound for sound in sounds if sound is not None]
    if not there:
        return None
    rate, channels = max(sound.rate for sound in there), max(sound.samples.shape[1] for sound in there)
    silence = Sound(np.zeros((1, channels), np.float32), rate)
    begins = [sum(counts[:place]) - fade * place for place in range(len(counts))]
    # The numbers of samples are differences of positions in the joined film, so that rounding never adds up.
    spans = [
        (sample_at(first, fps, rate), sample_at(first + count, fps, rate))
        for first, count in zip(begins, counts, strict=True)
    ]
    parts = [
        mix.cut(silence if sound is None else resampled(sound, rate, channels), 0, end - start)
        for sound, (start, end) in zip(sounds, spans, strict=True)
    ]
    return mix.joined(parts, [before[1] - after[0] for before, after in pairwise(spans)])
