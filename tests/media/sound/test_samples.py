"""A Sound: what it accepts, and its hash."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from flickbook.errors import RequestError
from flickbook.media.sound.samples import Sound, difference, is_silent, sample_at, samples_in


def sine(level: float = 1.0, rate: int = 48_000) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)[:, None]


@pytest.mark.parametrize(
    ("samples", "rate", "limit"),
    [
        (np.zeros((8, 2)), 48_000, "float32"),
        (np.zeros(8, np.float32), 48_000, r"\(samples, channels\)"),
        (np.zeros((0, 2), np.float32), 48_000, "at least one sample"),
        (np.zeros((8, 6), np.float32), 48_000, "1 to 2 channels"),
        (np.full((8, 2), np.nan, np.float32), 48_000, "finite"),
        (np.zeros((8, 2), np.float32), 100, "4000 to 192000"),
    ],
)
def test_other_arrays_and_rates_are_refused(samples: np.ndarray, rate: int, limit: str) -> None:
    with pytest.raises(RequestError, match=limit) as caught:
        Sound(samples, rate)
    assert caught.value.field == "audio"


def test_the_hash_is_that_of_the_samples_in_their_order_of_time() -> None:
    samples = np.arange(6, dtype=np.float32).reshape(3, 2) / 8
    expected = hashlib.sha256(b"float32 3,2 48000\n" + samples.astype("<f4").tobytes()).hexdigest()
    assert Sound(samples, 48_000).sha256 == expected
    assert Sound(np.asfortranarray(samples), 48_000).sha256 == expected
    assert Sound(samples, 44_100).sha256 != expected
    assert Sound(samples.reshape(6, 1), 48_000).sha256 != expected


def test_what_is_below_16_bits_is_silent() -> None:
    assert is_silent(None) and is_silent(-96.3) and not is_silent(-60.0)


def test_the_difference_of_two_sounds() -> None:
    one, other = Sound(sine(), 48_000), Sound(sine(0.99), 48_000)
    assert difference(one, one) == float("inf")
    assert difference(one, other) == pytest.approx(43.0, abs=0.1)
    assert difference(one, Sound(sine()[1:], 48_000)) == float("-inf")


def test_positions_of_frames_do_not_drift() -> None:
    fps = 24000 / 1001
    assert sample_at(24_000, fps, 48_000) == 1001 * 48_000
    assert [sample_at(frame, 8, 44_100) for frame in (1, 2, 16)] == [5512, 11025, 88_200]
    assert samples_in(16, 8, 44_100) == 88_200 and samples_in(0, 8, 44_100) == 1


def test_a_summary_has_no_samples() -> None:
    assert repr(Sound(sine(), 48_000)) == "Sound(1 s, 48000 Hz, 1 channel)"
