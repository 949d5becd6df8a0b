"""The sound of joined films: each part begins with its own film."""

from __future__ import annotations

import numpy as np
import pytest
from tests.clicks import flashes, heard, seen, track

from flickbook.media.finishing.join import join as join_frames
from flickbook.media.sound.join import join


@pytest.mark.parametrize("fade", [0, 3])
@pytest.mark.parametrize("fps", [8, 24000 / 1001])
def test_clicks_stay_at_the_white_frames(fade: int, fps: float) -> None:
    films = [flashes([5, 9], 16, fps), flashes([6], 13, fps, 44_100), flashes([8, 12], 17, fps)]
    frames = join_frames([film.frames for film in films], fade=fade)
    sound = join([film.audio for film in films], [16, 13, 17], fade, fps)
    assert sound is not None and sound.rate == 48_000
    assert sound.seconds == pytest.approx(len(frames) / fps, abs=1e-4)
    assert heard(sound) == pytest.approx([(frame + 0.5) / fps for frame in seen(frames)], abs=0.002)


def test_a_film_without_sound_is_silent_between_the_others() -> None:
    film = flashes([4], 8, 8)
    sound = join([None, film.audio, None], [8, 8, 8], 0, 8)
    assert sound is not None and heard(sound) == pytest.approx([1 + 4.5 / 8], abs=0.001)
    assert not sound.samples[:48_000].any() and not sound.samples[-40_000:].any()
    assert join([None, None], [8, 8], 2, 8) is None


def test_the_result_has_the_most_channels() -> None:
    mono = track([0.2], 1, channels=1)
    sound = join([mono, None], [8, 8], 0, 8)
    assert sound is not None and sound.samples.shape == (96_000, 1)
    both = join([mono, track([0.5], 1)], [8, 8], 0, 8)
    assert both is not None and both.samples.shape == (96_000, 2)
    assert np.array_equal(both.samples[:48_000, 0], both.samples[:48_000, 1])
