"""The judge: right on true films, raw and soft; and strict on films that show something else."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageFilter
from tests.world.calibration import Transform, calibrate

from flickbook.errors import RequestError
from flickbook.world import detect, motion, render, scenes
from flickbook.world.blobs import label
from flickbook.world.scenes import BACKGROUNDS, COLOURS, SHAPES, Actor, Scene

GROUPS = [("core", False), ("core", True), ("pair", False), ("digits", False)]
CORE = Scene("core", 5, "grey", (Actor("square", "red", "left", "medium"),))
PAIR = Scene("pair", 5, "black", (Actor("star", "red", "left"), Actor("ring", "blue", "right")))


def soften(frames: np.ndarray) -> np.ndarray:
    """Gaussian blur of 1.2 pixels and noise of sigma 5, as a small model's films are soft."""
    blurred = [Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.2)) for frame in frames]
    noise = np.random.default_rng(int(frames.sum())).normal(0, 5, frames.shape)
    return np.clip(np.stack(blurred) + noise + 0.5, 0, 255).astype(np.uint8)


def fade(frames: np.ndarray) -> np.ndarray:
    """Blur of 1.5 pixels, less contrast, and every colour 10 levels off, red up and blue down."""
    blurred = np.stack([Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.5)) for frame in frames])
    return np.clip((blurred - 128.0) * 0.95 + 128 + np.array([10, 0, -10]), 0, 255).astype(np.uint8)


def smear(frames: np.ndarray) -> np.ndarray:
    """A shadow and a glow of 12 levels, each 16 pixels wide, as an autoencoder leaves them."""
    y, x = np.mgrid[:128, :128]
    stain = 12 * np.exp(-((x - 30) ** 2 + (y - 100) ** 2) / 128) - 12 * np.exp(-((x - 90) ** 2 + (y - 20) ** 2) / 128)
    return np.clip(frames + stain[None, ..., None], 0, 255).astype(np.uint8)


def mistakes(n: int, group: str, heldout: bool, transform: Transform | None) -> dict[str, int]:
    score = calibrate(n, group=group, heldout=heldout, transform=transform)
    assert all(total == n for _, total in score.values())
    assert set(score) == {
        "colour",
        "digit" if group == "digits" else "shape",
        "motion",
        "background",
        "count",
        "size",
        "all_correct",
    }
    return {word: n - right for word, (right, n) in score.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("group", "heldout"), GROUPS)
@pytest.mark.parametrize("transform", [None, soften, fade, smear])
def test_true_films_are_judged_true(group: str, heldout: bool, transform: Transform | None) -> None:
    wrong = mistakes(25, group, heldout, transform)
    assert max(wrong.values()) == 0, wrong


@pytest.mark.trial
@pytest.mark.parametrize(
    ("group", "heldout", "transform", "films", "allowed"),
    [
        ("core", False, None, 1000, 5),
        ("core", True, None, 1000, 5),
        ("pair", False, None, 400, 2),
        ("digits", False, None, 400, 2),
        ("core", False, soften, 600, 9),
        ("core", True, soften, 600, 9),
        ("pair", False, soften, 200, 3),
        ("digits", False, soften, 200, 3),
    ],
)
def test_the_calibration_holds_on_many_films(
    group: str, heldout: bool, transform: Transform | None, films: int, allowed: int
) -> None:
    wrong = mistakes(films, group, heldout, transform)
    wrong.pop("all_correct")
    assert max(wrong.values()) <= allowed, wrong


@pytest.mark.slow
@pytest.mark.parametrize("transform", [None, soften])
def test_an_attribute_is_true_exactly_where_two_scenes_share_it(transform: Transform | None) -> None:
    for seed in range(40):
        expected, shown = scenes.sample(seed), scenes.sample(seed + 10_000)
        frames = render.render(shown)
        verdict = detect.judge(expected, frames if transform is None else transform(frames))
        a, b = expected.actors[0], shown.actors[0]
        shared = {word: getattr(a, word) == getattr(b, word) for word in ("colour", "shape", "motion")}
        shared |= {"background": expected.background == shown.background, "count": True}
        assert verdict.counted == shared, (expected, shown)
        assert verdict.all_correct is all(shared.values())


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("ground", BACKGROUNDS)
def test_every_colour_reads_on_every_background_it_can_be_seen_on(colour: str, ground: str) -> None:
    actor = Actor("circle", colour, "left", "small")
    if scenes.possible(actor, ground):
        reading = detect.read(soften(render.render(Scene("core", 1, ground, (actor,)))), SHAPES)
        assert (reading.background, reading.count, reading.objects[0].colour) == (ground, 1, colour)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("moves", scenes.MOTIONS)
def test_every_shape_reads_in_every_motion(shape: str, moves: str) -> None:
    actor = Actor(shape, "yellow", moves, "" if moves in ("growing", "shrinking") else "small")
    if scenes.possible(actor, "black"):
        seen = detect.read(soften(render.render(Scene("core", 2, "black", (actor,)))), SHAPES).objects
        assert seen == (detect.Sighting("yellow", shape, moves, actor.size),)


@pytest.mark.parametrize(
    ("field", "word"), [("colour", "orange"), ("shape", "cross"), ("motion", "right"), ("motion", "bouncing")]
)
def test_one_wrong_word_costs_that_word_alone(field: str, word: str) -> None:
    other = replace(CORE, actors=(replace(CORE.actors[0], **{field: word}),))
    verdict = detect.judge(CORE, render.render(other))
    assert [name for name, held in verdict.counted.items() if not held] == [field]


def test_a_wrong_background_costs_the_background_alone() -> None:
    verdict = detect.judge(CORE, render.render(replace(CORE, background="brown")))
    assert [name for name, held in verdict.counted.items() if not held] == ["background"]


def test_a_wrong_size_is_told_but_does_not_count() -> None:
    verdict = detect.judge(CORE, render.render(replace(CORE, actors=(replace(CORE.actors[0], size="large"),))))
    assert verdict.apart == {"size": False} and verdict.all_correct


@pytest.mark.parametrize("moves", scenes.MOTIONS)
def test_a_frozen_film_has_no_motion(moves: str) -> None:
    actor = Actor("square", "red", moves, "" if moves in ("growing", "shrinking") else "medium")
    frozen = np.repeat(render.render(replace(CORE, actors=(actor,)))[5:6], 16, 0)
    assert detect.read(frozen).objects[0].motion == "none"
    assert detect.read(soften(frozen)).objects[0].motion == "none"
    assert not detect.judge(replace(CORE, actors=(actor,)), frozen).counted["motion"]


def test_a_still_is_a_film_without_motion() -> None:
    seen = detect.read(render.render(CORE)[:1]).objects
    assert seen == (detect.Sighting("red", "square", "none", "medium"),)


def test_time_reversed_swaps_opposites() -> None:
    for moves, opposite in [("left", "right"), ("up", "down"), ("growing", "shrinking")]:
        size = "" if moves == "growing" else "small"
        frames = render.render(replace(CORE, actors=(Actor("star", "red", moves, size),)))
        assert [detect.read(film).objects[0].motion for film in (frames, frames[::-1])] == [moves, opposite]


def test_shuffled_frames_have_no_clear_motion() -> None:
    order = np.random.default_rng(2).permutation(16)
    for moves in ("left", "up", "bouncing", "circling", "growing"):
        frames = render.render(replace(CORE, actors=(Actor("star", "red", moves, "small"),)))
        assert detect.read(frames[order]).objects[0].motion == "unclear"


def test_an_empty_film_has_no_objects_and_nothing_right_but_its_background() -> None:
    frames = np.full((16, 128, 128, 3), BACKGROUNDS["grey"], np.uint8)
    assert detect.read(frames) == detect.Reading("grey", (), 0)
    verdict = detect.judge(CORE, soften(frames))
    assert [name for name, held in verdict.counted.items() if held] == ["background"]
    assert verdict.apart == {"size": False}


def test_two_blobs_are_two_and_a_speck_is_none() -> None:
    frames = render.render(CORE)
    frames[:, 4:8, 4:8] = COLOURS["white"]
    assert detect.read(frames).count == 1
    frames[:, 4:14, 4:14] = COLOURS["yellow"]
    reading = detect.read(frames)
    assert reading.count == 2 and [seen.colour for seen in reading.objects] == ["red", "yellow"]
    verdict = detect.judge(CORE, frames)
    assert [name for name, held in verdict.counted.items() if not held] == ["count"]


def test_a_faint_patch_is_ground_and_a_clear_one_an_object() -> None:
    for grey, count in ((180, 0), (210, 1)):  # 20 and 31 in CIELAB from the ground
        frames = np.full((16, 128, 128, 3), 128, np.uint8)
        frames[:, 40:80, 40:80] = grey
        assert detect.read(frames).count == count


def test_a_faint_bridge_does_not_join_two_objects() -> None:
    frames = np.full((16, 128, 128, 3), BACKGROUNDS["black"], np.uint8)
    frames[:, 60:68, 30:100] = 60
    frames[:, 44:84, 10:40] = frames[:, 44:84, 90:120] = COLOURS["red"]
    assert detect.read(frames).count == 2


def test_an_object_in_shade_is_one_object_of_its_whole_outline() -> None:
    frames = np.full((16, 128, 128, 3), BACKGROUNDS["black"], np.uint8)
    frames[:, 44:84, 44:84] = COLOURS["white"]
    frames[:, 44:84, 44:56] = 190
    reading = detect.read(frames)
    assert reading.count == 1 and reading.objects[0] == detect.Sighting("white", "square", "none", "medium")


def test_an_object_of_a_few_frames_is_not_listed() -> None:
    frames = render.render(CORE)
    frames[:4, 4:20, 4:20] = COLOURS["yellow"]
    assert [seen.colour for seen in detect.read(frames).objects] == ["red"]


def test_an_outline_cut_by_the_edge_does_not_outvote_whole_ones() -> None:
    pictures = [Image.new("RGB", (128, 128), BACKGROUNDS["grey"]) for _ in range(16)]
    for k, picture in enumerate(pictures):
        x = 6 if k < 11 else 40
        ImageDraw.Draw(picture).ellipse((x - 30, 34, x + 30, 94), fill=COLOURS["red"])
    assert detect.read(np.stack([np.asarray(picture) for picture in pictures])).objects[0].shape == "circle"


def test_what_is_true_in_half_of_the_frames_does_not_hold() -> None:
    frames, other = (
        render.render(CORE),
        replace(CORE, background="blue", actors=(replace(CORE.actors[0], colour="pink"),)),
    )
    frames[8:] = render.render(other)[8:]
    reading = detect.read(frames)
    assert (reading.background, reading.objects[0].colour) == ("unclear", "unclear")
    frames = render.render(CORE)
    frames[10:] = BACKGROUNDS["grey"]
    assert detect.read(frames).count is None


def test_a_colour_without_a_word_is_unclear() -> None:
    frames = np.full((16, 128, 128, 3), (0, 255, 255), np.uint8)
    frames[:, 40:80, 40:80] = (0, 0, 0)
    reading = detect.read(frames)
    assert (reading.background, reading.objects[0].colour) == ("unclear", "unclear")


def test_a_shape_without_a_word_is_unclear() -> None:
    frames = np.full((16, 128, 128, 3), BACKGROUNDS["black"], np.uint8)
    frames[:, 60:66, 20:100] = COLOURS["red"]
    assert detect.read(frames).objects[0].shape == "unclear"


def test_objects_of_a_pair_are_matched_by_colour() -> None:
    for order in (PAIR.actors, PAIR.actors[::-1]):
        assert detect.judge(PAIR, render.render(replace(PAIR, actors=order))).all_correct


@pytest.mark.parametrize("field", ["colour", "shape", "motion"])
def test_a_pair_with_swapped_words_is_wrong(field: str) -> None:
    one, two = PAIR.actors
    swapped = (replace(one, **{field: getattr(two, field)}), replace(two, **{field: getattr(one, field)}))
    verdict = detect.judge(PAIR, render.render(replace(PAIR, actors=swapped)))
    assert not verdict.all_correct
    assert verdict.counted["background"] and verdict.counted["count"]
    if field != "colour":  # swapped colours are the same colours: then shape and motion are wrong
        assert [name for name, held in verdict.counted.items() if not held] == [field]


def test_a_pair_that_lacks_an_object_is_wrong() -> None:
    verdict = detect.judge(PAIR, render.render(replace(PAIR, kind="core", actors=PAIR.actors[:1])))
    assert verdict.counted == {"colour": False, "shape": False, "motion": False, "background": True, "count": False}


@pytest.mark.slow
def test_every_digit_is_told_from_every_other_and_from_shapes() -> None:
    for digit in scenes.DIGITS:
        scene = Scene("digits", 4, "white", (Actor(digit, "purple", "up", "large"),))
        frames = soften(render.render(scene))
        assert detect.read(frames).objects[0].shape == digit
        assert detect.judge(scene, frames).all_correct
        other = replace(scene, actors=(replace(scene.actors[0], shape=str((int(digit) + 1) % 10)),))
        assert [name for name, held in detect.judge(other, frames).counted.items() if not held] == ["digit"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_no_digit(shape: str) -> None:
    frames = render.render(Scene("core", 4, "white", (Actor(shape, "purple", "up", "large"),)))
    assert detect.read(frames).objects[0].shape == shape


def test_a_view_counts_its_scene_and_each_trait_and_nothing_of_another_scene() -> None:
    kinds: dict[str, Scene] = {}
    for seed in itertools.count():
        scene = scenes.sample(seed, "views")
        kinds.setdefault(scene.kind, scene)
        if len(kinds) == 6:
            break
    for scene in kinds.values():
        verdict = detect.judge(scene, render.render(scene))
        assert verdict.counted == {"scene": True} | dict.fromkeys(scene.traits, True)
        assert not any(detect.judge(scene, render.render(CORE)).counted.values())


def test_frames_of_another_form_are_refused_in_one_line() -> None:
    for frames in (
        np.zeros((16, 64, 64, 3), np.uint8),
        np.zeros((16, 128, 128, 3)),
        np.zeros((0, 128, 128, 3), np.uint8),
    ):
        with pytest.raises(RequestError, match=r"^frames=.*128, 128, 3") as caught:
            detect.read(frames)
        assert "\n" not in str(caught.value)


@settings(max_examples=25, deadline=None)
@given(
    cells=arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(8), st.just(8), st.just(3))),
    step=st.sampled_from([1, 2, 3]),
)
def test_any_film_gives_a_reading(cells: np.ndarray, step: int) -> None:
    frames = np.repeat(np.repeat(cells, 16, 1), 16, 2)
    frames[:, ::step, ::step] //= 2
    reading = detect.read(frames)
    assert reading.background in {*BACKGROUNDS, detect.UNCLEAR}
    for seen in reading.objects:
        assert seen.colour in {*COLOURS, detect.UNCLEAR} and seen.motion in {*scenes.MOTIONS, "none", detect.UNCLEAR}


@settings(max_examples=80, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))))
def test_parts_are_exactly_the_connected_ones(mask: np.ndarray) -> None:
    expected = np.zeros(mask.shape, int)
    for number, start in enumerate(zip(*np.nonzero(mask), strict=True), 1):
        frontier = [start] if not expected[start] else []
        while frontier:
            f, y, x = frontier.pop()
            if 0 <= y < mask.shape[1] and 0 <= x < mask.shape[2] and mask[f, y, x] and not expected[f, y, x]:
                expected[f, y, x] = number
                frontier += [(f, y + 1, x), (f, y - 1, x), (f, y, x + 1), (f, y, x - 1)]
    found = label(mask)
    pairs = set(zip(expected.ravel().tolist(), found.ravel().tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert ((found > 0) == mask).all()


def test_half_of_the_least_motion_is_not_enough() -> None:
    time, still = np.linspace(0, 1, 16), np.zeros(16)
    breath = 20 + 8 * np.sin(4 * time)
    assert motion.read(time, still, still, breath, still, 0.0) == "unclear"
    for travel, word in ((30.0, "right"), (12.0, "none"), (-30.0, "left")):
        assert motion.read(time, travel * time, still, still + 20, still, 0.0) == word
    assert motion.read(time, 30 * time, 30 * time, still + 20, still, 0.0) == "unclear"
    for radius, word in ((10.0, "unclear"), (16.0, "circling")):
        x, y = radius * np.cos(2 * np.pi * time), radius * np.sin(2 * np.pi * time)
        assert motion.read(time, x, y, still + 20, still, 0.0) == word
    assert motion.read(time, still, still, 20 + 10 * time, still, 0.0) == "none"
    assert motion.read(time, still, still, 20 + 30 * time, still, 0.0) == "growing"


def test_only_a_steady_turn_is_a_spin() -> None:
    time, still, period = np.linspace(0, 1, 16), np.zeros(16), np.pi / 2
    turns = {"steady": 0.35 * np.arange(16), "slow": 0.05 * np.arange(16)}
    turns |= {f"random {seed}": np.random.default_rng(seed).uniform(0, period, 16) for seed in range(8)}
    words = {name: motion.read(time, still, still, still + 20, a % period, period) for name, a in turns.items()}
    assert [name for name, word in words.items() if word == "spinning"] == ["steady"]
    assert motion.read(time, still, still, still + 20, turns["steady"], 0.0) == "none"


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(50, 100, 0.404, 0.596), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (0, 0, 0, 1)],
)
def test_the_wilson_interval_has_its_published_values(right: int, total: int, low: float, high: float) -> None:
    assert detect.wilson(right, total) == pytest.approx((low, high), abs=1e-3)


def test_calibration_applies_its_transform() -> None:
    score = calibrate(5, transform=lambda frames: frames[::-1])
    assert score["colour"] == (5, 5)
    assert calibrate(5, transform=np.zeros_like)["count"] == (0, 5)
