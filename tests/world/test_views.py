"""The six views: pictures that repeat, sentences that name every word, and words that read back from the pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image, ImageFilter

from flickbook.world import captions, render, scenes, views
from flickbook.world.views import VIEWS, measure
from flickbook.world.views.recognise import features, recognise

FILMS = 10  # a view and a condition


def films(kind: str, count: int = FILMS, seed: int = 600_000) -> list[tuple[dict[str, str], np.ndarray]]:
    """Films whose traits go round so that every word of every trait occurs."""
    words = VIEWS[kind].TRAITS
    longest = max(len(values) for values in words.values())
    assert count >= longest
    chosen = [
        {
            trait: values[(k + k // longest * number) % len(values)]
            for number, (trait, values) in enumerate(words.items())
        }
        for k in range(count)
    ]
    return [(traits, views.draw(kind, traits, seed + k)) for k, traits in enumerate(chosen)]


def softened(frames: np.ndarray, seed: int) -> np.ndarray:
    """What a small model may make of a film: blurred by 1.2 pixels, 5 % less contrast, noise of 4."""
    blurred = [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.2)), np.float32) for frame in frames]
    noise = np.random.default_rng(seed).normal(0, 4, frames.shape)
    return np.clip(128 + 0.95 * (np.stack(blurred) - 128) + noise + 0.5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_has_the_stated_form_and_repeats(kind: str) -> None:
    traits, frames = films(kind)[0]
    assert frames.shape == (16, 128, 128, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames, views.draw(kind, traits, 600_000))
    assert not np.array_equal(frames, views.draw(kind, traits, 600_001))


@pytest.mark.parametrize("kind", VIEWS)
def test_every_word_changes_the_picture_clearly(kind: str) -> None:
    words = VIEWS[kind].TRAITS
    assert 2 <= len(words) <= 4 and all(2 <= len(values) <= 6 for values in words.values())
    first = {trait: values[0] for trait, values in words.items()}
    for trait, values in words.items():
        drawn = [views.draw(kind, {**first, trait: value}, 5).astype(np.float32) for value in values]
        for one, two in itertools.combinations(drawn, 2):
            assert float(np.abs(one - two).max(-1).mean()) > 0.9, trait


@pytest.mark.parametrize("kind", VIEWS)
def test_every_frame_moves_and_none_jumps(kind: str) -> None:
    for _, frames in films(kind, 4):
        steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).max(-1)
        assert (steps.mean((1, 2)) > 0.3).all() and (steps.mean((1, 2)) < 60).all()


def test_sampling_repeats_and_reaches_every_view_and_word() -> None:
    drawn = [views.sample(seed) for seed in range(600)]
    assert drawn == [views.sample(seed) for seed in range(600)]
    seen = {(kind, trait, word) for kind, traits in drawn for trait, word in traits.items()}
    every = {
        (kind, trait, word) for kind, view in VIEWS.items() for trait, words in view.TRAITS.items() for word in words
    }
    assert seen == every


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(KeyError):
        views.draw("night", {"stars": "left", "sky": "plaid", "moon": "full"}, 1)
    with pytest.raises(KeyError):
        views.draw("desert", {}, 1)


#: What a sentence may say instead of a word of a trait.
PHRASES = {
    "rising": ("rising", "sunrise"),
    "setting": ("setting", "sunset"),
    "rain": ("rain", "rainy"),
    "snow": ("snow", "snowy"),
    "pulsing": ("pulsing", "growing and shrinking"),
    "circling": ("circling", "in a circle"),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_captions_name_every_trait_and_brief_ones_leave_something_out(kind: str) -> None:
    view = VIEWS[kind]
    every = [dict(zip(view.TRAITS, words, strict=True)) for words in itertools.product(*view.TRAITS.values())]
    for traits in every:
        full, brief = view.captions(traits), view.brief_captions(traits)
        assert len(set(full)) >= 6 and len(set(brief)) >= 3
        for sentence in full:
            for word in traits.values():
                assert any(phrase in sentence for phrase in PHRASES.get(word, (word,))), (sentence, word)
            assert " a orange" not in f" {sentence}" and sentence == sentence.strip()
        assert not set(full) & set(brief)
        other = {
            trait: values[(values.index(traits[trait]) + 1) % len(values)] for trait, values in view.TRAITS.items()
        }
        assert not set(full) & set(view.captions(other))
    assert len({view.captions(traits)[0] for traits in every}) == len(every)


@pytest.mark.parametrize(
    "prompt",
    [
        "a peaceful sunset over mountain ranges",
        "shooting stars over hills",
        "a sailboat on the waves at sunset",
        "a neon city in the rain with flying vehicles",
        "fish swimming in a vibrant coral reef",
        "abstract geometric shapes morphing and dancing",
    ],
)
def test_the_prompts_people_type_are_among_the_captions(prompt: str) -> None:
    drawn = [scenes.sample(seed, "views") for seed in range(200)]
    assert any(prompt in captions.brief_captions(scene) for scene in drawn)


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True], ids=["raw", "softened"])
@pytest.mark.parametrize("kind", VIEWS)
def test_every_word_reads_back_and_the_view_is_recognised(kind: str, soft: bool) -> None:
    for number, (traits, frames) in enumerate(films(kind)):
        seen = softened(frames, number) if soft else frames
        assert VIEWS[kind].read(seen) == traits
        assert recognise(seen) == kind


@pytest.mark.parametrize("group", ["core", "pair", "digits"])
def test_objects_on_a_plain_ground_are_no_view(group: str) -> None:
    for seed in range(12):
        frames = render.render(scenes.sample(seed, group))
        assert recognise(frames) == "none"
        assert recognise(softened(frames, seed)) == "none"


def test_noise_and_plain_grounds_are_no_view() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 128, 128, 3)).astype(np.uint8)
    assert recognise(noise) == "none"
    for level in (0, 90, 255):
        assert recognise(np.full((16, 128, 128, 3), level, np.uint8)) == "none"


@pytest.mark.parametrize(
    ("kind", "trait"),
    [
        ("sunrise", "direction"),
        ("night", "stars"),
        ("sea", "direction"),
        ("city", "vehicles"),
        ("reef", "direction"),
        ("shapes", "dance"),
    ],
)
def test_a_film_that_stands_still_moves_nowhere_and_backwards_turns_round(kind: str, trait: str) -> None:
    turned = {"left": "right", "right": "left", "rising": "setting", "setting": "rising"}
    for traits, frames in films(kind, 4):
        assert VIEWS[kind].read(np.repeat(frames[8:9], 16, axis=0))[trait] == measure.NONE
        back = VIEWS[kind].read(frames[::-1])[trait]
        assert back == turned.get(traits[trait], traits[trait])


def test_a_flicker_of_the_light_is_neither_snow_nor_a_wave() -> None:
    flicker = np.random.default_rng(3).normal(0, 7, (16, 1, 1, 1))
    for kind, word in (("city", {"weather": "clear"}), ("night", {})):
        traits = {trait: values[0] for trait, values in VIEWS[kind].TRAITS.items()} | word
        seen = np.clip(views.draw(kind, traits, 4) + flicker + 0.5, 0, 255).astype(np.uint8)
        assert VIEWS[kind].read(seen) == traits and recognise(seen) == kind


def test_grey_has_no_colour_word() -> None:
    grey = np.full((16, 128, 128, 3), 120, np.uint8)
    assert VIEWS["reef"].read(grey) == {"fish": "none", "direction": "none", "water": "none"}
    assert VIEWS["city"].read(grey)["neon"] == VIEWS["night"].read(grey)["sky"] == "none"


def test_features_tell_a_landscape_from_a_plain_ground() -> None:
    landscape = features(films("night")[0][1])
    ground = features(render.render(scenes.sample(3, "core")))
    assert landscape["upright"] > 3 * measure.UPRIGHT and landscape["rim"] > 1.5 * measure.RIM
    assert ground["upright"] < measure.UPRIGHT / 2 and ground["rim"] < measure.RIM / 5 and ground["parts"] == 0


def test_box_is_the_mean_over_the_window() -> None:
    values = np.random.default_rng(1).normal(size=(2, 12, 14)).astype(np.float32)
    mean = measure.box(values, 3, 5)
    assert mean.shape == values.shape
    assert np.allclose(mean[:, 5, 7], values[:, 4:7, 5:10].mean((1, 2)), atol=1e-5)
    assert np.allclose(measure.box(np.full((9, 9), 7.0), 5, 3), 7.0)


@pytest.mark.slow
def test_travel_follows_a_moving_spot() -> None:
    spot = np.zeros((16, 30, 60), np.float32)
    for frame in range(16):
        spot[frame, 10:13, 5 + 3 * frame : 8 + 3 * frame] = 1
    assert measure.travel(spot, 1) == pytest.approx(45) and measure.travel(spot, 0) == pytest.approx(0, abs=1e-6)
    assert measure.side(45) == "right" and measure.side(-45) == "left" and measure.side(3) == "none"
