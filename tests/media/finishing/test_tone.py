"""The tone of a picture, and giving one to another."""

from __future__ import annotations

import numpy as np

from flickbook.media.finishing.tone import Tone

RNG = np.random.default_rng(0)


def picture(mean: float, spread: float) -> np.ndarray:
    return RNG.normal(mean, spread, (64, 64, 3)).clip(0, 255).astype(np.uint8)


def test_an_image_takes_a_given_tone() -> None:
    aim = Tone.of(picture(90, 20))
    given = Tone.of(aim.transfer_to(picture(150, 35)))
    assert np.abs(given.mean - aim.mean).max() < 0.5 and np.abs(given.spread - aim.spread).max() < 0.5


def test_an_images_own_tone_does_not_change_it() -> None:
    image = picture(120, 30)
    assert np.array_equal(Tone.of(image).transfer_to(image), image)


def test_a_flat_image_takes_the_colour_without_grain() -> None:
    flat = np.full((32, 32, 3), 40, np.uint8)
    flat[0, 0] += 1
    given = Tone.of(picture(150, 60)).transfer_to(flat)
    assert given.dtype == np.uint8 and np.ptp(given[1:], axis=(0, 1)).max() == 0
    assert abs(float(given[1:].mean()) - 150) < 5


def test_levels_are_clipped_to_their_range() -> None:
    assert Tone(np.full(3, 250.0), np.full(3, 80.0)).transfer_to(picture(100, 40)).max() == 255


def test_halfway_between_two_tones() -> None:
    dark, light = Tone.of(picture(60, 10)), Tone.of(picture(180, 30))
    middle = dark.towards(light, 0.5)
    assert np.allclose(middle.mean, (dark.mean + light.mean) / 2)
    assert np.allclose(middle.spread, (dark.spread + light.spread) / 2)
    assert np.array_equal(dark.towards(light, 0).mean, dark.mean)
