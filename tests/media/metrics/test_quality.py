"""The scores of a film: what each is meant to see, what leaves it alone, and what people are told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.media.faults import FAULTS

from flickbook.errors import RequestError
from flickbook.media.metrics.quality import (
    LIMITS,
    NAMES,
    cells,
    faults,
    grain,
    jerk,
    jump,
    repeats,
    scores,
    sharpness,
    speed,
    threshold,
)
from flickbook.world.render import path, render
from flickbook.world.scenes import Actor, Scene, sample

#: Which score is meant for which planted fault.
MEANT = {
    "gain_flicker": "steady",
    "local_flicker": "steady",
    "drift": "constant",
    "blur": "sharp",
    "frozen": "not_frozen",
    "black_frame": "not_black",
    "noise_frame": "not_noise",
    "grain": "clean",
    "shift_seam": "seamless",
    "tone_seam": "seamless",
    "jerky": "smooth",
    "swapped": "smooth",
    "shuffled": "smooth",
    "slowed": "moving",
}


@cache
def film(seed: int, group: str = "core") -> np.ndarray:
    frames = render(sample(seed, group))
    frames.flags.writeable = False
    return frames


@cache
def clean_scores(seed: int, group: str) -> dict[str, float]:
    """The scores of a clean film, which every fault is compared with."""
    clean = film(seed, group)
    return scores(clean, 8, seams=[len(clean) // 2])


def ranked(fault: str, group: str, seeds: Sequence[int]) -> int:
    """Of how many films the score that is meant for a fault likes the clean one better than the one with the fault."""
    name, above = MEANT[fault], 0
    for seed in seeds:
        clean = film(seed, group)
        spoilt = FAULTS[fault](clean, np.random.default_rng([7, seed]))
        above += clean_scores(seed, group)[name] > scores(spoilt, 8, seams=[len(spoilt) // 2])[name]
    return above


def test_every_fault_has_a_score() -> None:
    assert set(MEANT) == set(FAULTS) and set(MEANT.values()) == set(NAMES) - {"vbench_flicker"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_score_detects_its_fault(fault: str) -> None:
    assert ranked(fault, "core", range(8)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_score_detects_its_fault_in_98_of_100_films(fault: str) -> None:
    assert ranked(fault, "core", range(50)) >= 49


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"drift"}))
def test_a_score_detects_its_fault_in_landscapes(fault: str) -> None:
    # The light of a sunrise drifts by itself, this way or that.
    assert ranked(fault, "views", range(50)) >= 49


def test_every_score_is_from_0_to_1_and_a_clean_film_has_no_fault() -> None:
    for seed in range(6):
        found = scores(film(seed), 8, seams=[8])
        assert tuple(found) == NAMES and all(0 <= value <= 1 for value in found.values())
        assert faults(found, 16) == []


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["noise", "black", "white", "one"]),
    st.integers(0, 2**32 - 1),
)
def test_any_film_has_scores_that_are_numbers(shape: tuple[int, int, int], kind: str, seed: int) -> None:
    frames = np.zeros((*shape, 3), np.uint8)
    if kind == "noise":
        frames = np.random.default_rng(seed).integers(0, 256, frames.shape, dtype=np.uint8)
    elif kind == "white":
        frames += 255
    elif kind == "one":
        frames[-1, 0, 0] = 255
    found = scores(frames, 24, seams=range(1, len(frames)))
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in found.values())
    for line in faults(found, len(frames)) + faults(found):
        assert line and "\n" not in line


def test_a_picture_and_two_frames_have_only_the_scores_that_make_sense() -> None:
    clean = film(0)
    assert set(scores(clean[:1], 8)) == {"sharp", "clean", "not_black", "not_noise"}
    assert set(NAMES) - set(scores(clean[:2], 8)) == {"steady", "smooth"}
    assert scores(clean[:1], 8)["sharp"] == scores(np.repeat(clean[:1], 9, axis=0), 8)["sharp"]


def test_the_scores_do_not_depend_on_the_size() -> None:
    clean = film(3)
    large = clean.repeat(2, axis=1).repeat(2, axis=2)
    small, big = scores(clean, 8, seams=[8]), scores(large, 8, seams=[8])
    for name in ("steady", "constant", "smooth", "moving", "seamless", "not_frozen", "not_black"):
        assert big[name] == pytest.approx(small[name], abs=2e-4), name


def test_vbench_flicker_equals_its_formula() -> None:
    clean = film(5)
    differences = [np.abs(a.astype(float) - b.astype(float)).mean() for a, b in zip(clean, clean[1:], strict=False)]
    assert scores(clean, 8)["vbench_flicker"] == pytest.approx((255 - np.mean(differences)) / 255, abs=6e-5)


def test_a_sunrise_and_a_fast_ball_do_not_flicker() -> None:
    sunrise = next(film(seed, "views") for seed in range(100) if sample(seed, "views").kind == "sunrise")
    ball = render(Scene("core", 4, "black", (Actor("circle", "white", "bouncing", "small"),)))
    assert scores(sunrise, 8)["steady"] > 0.9 and scores(ball, 8)["steady"] > 0.6
    # Real change of light all the same: it looks like a drift, and the score says so.
    assert scores(sunrise, 8)["constant"] < LIMITS["constant"]


def test_the_motion_score_grows_with_speed_and_fps() -> None:
    way, seen = [], []
    for seed in range(150):
        scene = sample(seed)
        if scene.actors[0].motion in ("left", "right", "up", "down"):
            track = np.array(path(scene.actors[0], np.random.default_rng([seed, 0xF11])))[:, :2]
            way.append(float(np.linalg.norm(np.diff(track, axis=0), axis=1).mean()))
            seen.append(speed(cells(render(scene))) * 4)  # pixels
        if len(way) == 24:
            break
    ratio = np.array(seen) / np.array(way)
    assert np.quantile(ratio, 0.1) > 0.6 and np.quantile(ratio, 0.9) < 1.25
    clean = film(1)
    assert scores(clean, 24)["moving"] > scores(clean, 8)["moving"] > 0.3
    assert scores(np.repeat(clean[:1], 16, axis=0), 8)["moving"] == 0


def test_jerk_of_steps_1_and_2_is_a_third() -> None:
    # Light that rises evenly, and light that rises by 6 and 12: the formula, where it can be worked out by hand.
    def rising(steps: Sequence[int]) -> np.ndarray:
        light = 20 + np.cumsum([0, *steps])
        return np.broadcast_to(light[:, None, None, None], (len(light), 32, 32, 3)).astype(np.float32)

    assert jerk(rising([9] * 12)) == pytest.approx(0)
    assert jerk(rising([6, 12] * 6)) == pytest.approx(6 / 18.5, abs=1e-5)
    assert jerk(rising([9, -9] * 6)) == pytest.approx(18 / 18.5, abs=1e-5)


def test_noise_is_measured_in_levels() -> None:
    rng = np.random.default_rng(0)
    for level in (2.0, 6.0, 12.0):
        noisy = 128 + level * rng.standard_normal((128, 128, 3))
        assert grain(noisy.round().astype(np.uint8)) == pytest.approx(level, rel=0.12)


def test_frozen_black_and_noise_frames_are_counted() -> None:
    clean, rng = film(2), np.random.default_rng(0)
    for fault, line in (
        ("frozen", "3 of 16 frames repeat the one before"),
        ("black_frame", "1 of 16 frames is black"),
        ("noise_frame", "1 of 16 frames is nothing but noise"),
    ):
        assert line in faults(scores(FAULTS[fault](clean, rng), 8), 16)
    assert "19 % of the frames repeat the one before" in faults(scores(FAULTS["frozen"](clean, rng), 8))


def test_faults_are_reported_with_their_score() -> None:
    clean, rng = film(2), np.random.default_rng(0)
    dull = clean
    for _ in range(6):
        dull = FAULTS["blur"](dull, rng)
    found = scores(dull, 8)
    assert faults(found, 16) == [f"the picture is blurred (sharp {found['sharp']:.2f}, under {LIMITS['sharp']:g})"]
    for fault, words in (("gain_flicker", "flickers"), ("drift", "drift"), ("shuffled", "out of order")):
        spoilt = FAULTS[fault](FAULTS[fault](film(0), rng), rng)
        assert any(words in line for line in faults(scores(spoilt, 8), len(spoilt))), fault


def test_a_seam_is_scored_at_the_given_position() -> None:
    spoilt = FAULTS["tone_seam"](film(1), np.random.default_rng(1))
    assert scores(spoilt, 8, seams=[8])["seamless"] < 0.1 < 0.9 < scores(spoilt, 8, seams=[4])["seamless"]
    assert scores(spoilt, 8, seams=[4, 8])["seamless"] < 0.1
    assert scores(spoilt, 8)["seamless"] == 1


def test_a_reversal_at_a_seam_is_not_a_jump() -> None:
    for seed in range(4):
        ball = render(Scene("core", seed, "black", (Actor("circle", "white", "bouncing", "large"),)))
        assert min(scores(ball, 8, seams=[seam])["seamless"] for seam in range(2, 15)) > LIMITS["seamless"]


@given(st.sampled_from(NAMES), st.floats(0, 1))
def test_a_threshold_is_a_name_and_a_number(name: str, value: float) -> None:
    assert threshold(f"{name}:{value}") == (name, value) == threshold(f" {name} :{value}")


@given(st.text(max_size=30))
def test_any_threshold_text_is_parsed_or_refused(text: str) -> None:
    try:
        name, value = threshold(text)
    except RequestError as error:
        assert error.field == "retry_below" and "\n" not in str(error)
    else:
        assert name in NAMES and 0 <= value <= 1


@pytest.mark.parametrize("text", ["flicker:0.5", "steady", ":0.5", "", "Steady:1"])
def test_an_unknown_score_is_refused_with_all_names(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        threshold(text)
    assert all(name in str(refused.value) for name in NAMES)


@pytest.mark.parametrize("text", ["steady:2", "steady:-0.1", "steady:nan", "steady:inf", "steady:", "steady:0.5:1"])
def test_a_wrong_number_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="from 0 to 1"):
        threshold(text)


def test_invalid_frames_and_rates_are_refused() -> None:
    clean = film(0)
    for bad in (clean / 255, clean[0], clean[:0], None):
        with pytest.raises(RequestError, match="frames"):
            scores(bad, 8)  # type: ignore[arg-type]
    for fps in (0, -1, math.nan, 1e9):
        with pytest.raises(RequestError, match="fps"):
            scores(clean, fps)
    for seam in (0, 16, -1):
        with pytest.raises(RequestError, match="seams"):
            scores(clean, 8, seams=[seam])


def test_a_frame_counts_as_repeated_only_if_unchanged_everywhere() -> None:
    rng = np.random.default_rng(0)
    busy = rng.uniform(0, 200, (6, 8, 8, 3)).astype(np.float32)
    change = np.full(5, 20.0)
    change[2] = 0.1
    small = busy.copy()
    small[3] = small[2]
    assert repeats(small, change) == 1
    small[3, 4, 4] += 7  # something small moved
    assert repeats(small, change) == 0
    everywhere = np.cumsum(np.full((6, 8, 8, 3), 5, np.float32), axis=0)
    assert repeats(everywhere, np.full(5, 5.0)) == 0


def test_a_change_of_light_is_not_motion() -> None:
    still = np.random.default_rng(0).uniform(40, 200, (1, 32, 32, 3)).astype(np.float32)
    light = still + np.arange(8, dtype=np.float32)[:, None, None, None] * 4
    assert speed(light) < 0.01 < speed(np.stack([np.roll(still[0], step, axis=1) for step in range(8)]))


def test_steps_next_to_a_seam_are_not_the_baseline() -> None:
    levels = np.zeros((4, 8, 8, 3), np.float32)
    levels[2:] = 40
    assert jump(levels, [2]) > 100


def test_blur_in_either_direction_is_detected() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.float32)
    rows = sum(np.roll(picture, step, axis=0) for step in range(9)) / 9
    clear, down, across = (sharpness(each.astype(np.uint8)[None]) for each in (picture, rows, rows.transpose(1, 0, 2)))
    assert abs(down - across) < 0.01 and clear > down + 0.1
