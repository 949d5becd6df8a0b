"""Cutting, fitting, fading and joining: the samples that a listener would hear."""

from __future__ import annotations

import numpy as np
import pytest

from flickbook.errors import RequestError
from flickbook.media.sound import mix
from flickbook.media.sound.samples import Sound

RATE = 8_000


def ramp(count: int = 8) -> Sound:
    return Sound((np.arange(1, count + 1, dtype=np.float32) / 100)[:, None], RATE)


def tone(seconds: float) -> Sound:
    return Sound(np.full((round(seconds * RATE), 2), 0.5, np.float32), RATE)


def noise(seed: int, count: int = RATE) -> Sound:
    return Sound((np.random.default_rng(seed).standard_normal((count, 1)) / 8).astype(np.float32), RATE)


def values(sound: Sound) -> list[int]:
    return [round(float(each) * 100) for each in sound.samples[:, 0]]


def test_a_part_beyond_the_end_is_silent() -> None:
    assert values(mix.cut(ramp(), 2, 5)) == [3, 4, 5]
    assert values(mix.cut(ramp(4), 2, 7)) == [3, 4, 0, 0, 0]
    assert values(mix.cut(ramp(4), 6, 8)) == [0, 0]


def test_what_plays_during_frames() -> None:
    sound = mix.during(tone(2), 4, 12, 8)
    assert len(sound.samples) == RATE
    assert len(mix.lasting(tone(1), 12, 8).samples) == 12_000


def test_a_sound_is_repeated_and_reversed() -> None:
    assert values(mix.repeated(ramp(3), 8)) == [1, 2, 3, 1, 2, 3, 1, 2]
    assert values(mix.backwards(ramp(3))) == [3, 2, 1]


def test_a_fade_begins_and_ends_near_silence_and_leaves_the_middle() -> None:
    sound = mix.faded(tone(2), 0.5)
    assert abs(sound.samples[0]).max() < 1e-3 and abs(sound.samples[-1]).max() < 1e-3
    assert np.array_equal(sound.samples[4000:12_000], tone(1).samples)
    assert (np.diff(sound.samples[:4000, 0]) >= 0).all()
    assert mix.faded(tone(2), 0) is not None and np.array_equal(mix.faded(tone(2), 0).samples, tone(2).samples)
    short = mix.faded(tone(0.1), 5)
    assert abs(short.samples[0]).max() < 1e-2 and abs(short.samples[-1]).max() < 1e-2


def test_a_cut_sound_ends_without_a_click() -> None:
    sound = mix.softened(tone(1))
    assert abs(sound.samples[-1]).max() < 0.02
    assert np.array_equal(sound.samples[: RATE - 40], tone(1).samples[: RATE - 40])


def test_a_cross_fade_keeps_the_loudness_of_unrelated_sounds() -> None:
    one, other = noise(1), noise(2)
    mixed = mix.cross_faded(one.samples, other.samples)
    parts = [float((part**2).mean()) for part in np.array_split(mixed, 8)]
    assert min(parts) > 0.8 / 64 and max(parts) < 1.2 / 64


def test_joined_sounds_overlap_in_their_fades() -> None:
    joined = mix.joined([noise(1), noise(2), noise(3)], [100, 0])
    assert len(joined.samples) == 3 * RATE - 100
    assert np.array_equal(joined.samples[: RATE - 100], noise(1).samples[: RATE - 100])
    assert np.array_equal(joined.samples[-RATE:], noise(3).samples)
    with pytest.raises(RequestError, match="longer than a sound"):
        mix.joined([noise(1, 50), noise(2)], [100])


def test_a_blended_loop_leads_from_its_end_into_its_beginning() -> None:
    sound = noise(1)
    made = mix.blended(sound, 400)
    assert len(made.samples) == RATE - 400
    # The sample after the last is the one that followed it, with almost nothing of the first.
    assert abs(made.samples[0] - sound.samples[RATE - 400]).max() < 0.01
    assert np.array_equal(made.samples[-1], sound.samples[RATE - 401])
