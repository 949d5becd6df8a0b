"""Other rates and speeds: clicks stay at their times, and the duration is exact."""

from __future__ import annotations

import numpy as np
import pytest
from tests.clicks import heard, track

from flickbook.media.sound.resample import played, resampled

TIMES = [0.25, 1.0, 1.75]


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000, 96_000])
def test_clicks_stay_at_their_times_at_another_rate(rate: int) -> None:
    sound = resampled(track(TIMES, 2), rate)
    assert sound.rate == rate and len(sound.samples) == 2 * rate
    assert heard(sound) == pytest.approx(TIMES, abs=0.001)


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.3, 2.0, 7.77])
def test_a_faster_sound_is_shorter_by_the_same_factor(speed: float) -> None:
    sound = played(track(TIMES, 2), speed)
    assert sound.seconds == pytest.approx(2 / speed, abs=0.0001)
    assert heard(sound) == pytest.approx([time / speed for time in TIMES], abs=0.001)


def test_channels_are_mixed_to_their_mean_and_copied() -> None:
    stereo = track(TIMES, 2)
    left = stereo.samples.copy()
    left[:, 1] = 0
    mono = resampled(type(stereo)(left, stereo.rate), stereo.rate, 1)
    assert np.allclose(mono.samples[:, 0], left[:, 0] / 2)
    both = resampled(mono, stereo.rate, 2)
    assert both.samples.shape == left.shape and np.array_equal(both.samples[:, 0], both.samples[:, 1])
