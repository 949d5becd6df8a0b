"""Loops run round without a jump, on films of the world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.media.finishing.loop import blended, loop, steps
from flickbook.world.render import render
from flickbook.world.scenes import Actor, Scene, sample

Steps = Callable[..., np.ndarray]
Numbers = Callable[[np.ndarray], list[int]]


def test_pingpong_repeats_neither_end(steps: Steps, numbers: Numbers) -> None:
    assert numbers(loop(steps(5), "pingpong")) == [0, 1, 2, 3, 4, 3, 2, 1]
    assert numbers(loop(steps(2), "pingpong")) == [0, 1]


@pytest.mark.parametrize("seed", range(8))
def test_a_blend_has_no_seam(seed: int) -> None:
    film = render(sample(seed, "core" if seed % 2 else "views"))
    usual = steps(film)[1:].max()
    done = loop(film, "blend")
    seam = steps(done)[0]
    assert len(film) // 2 <= len(done) < len(film)
    assert seam <= 1.06 * usual, "from the last frame to the first"
    assert steps(done).max() <= 2.5 * usual, "nor is there a jump within the fade"


def test_a_blend_keeps_the_frames_between_its_fades() -> None:
    film = render(sample(3, "core"))
    done = blended(film, 5)
    assert len(done) == 11 and np.array_equal(done[5:], film[5:11])
    assert steps(np.stack([done[0], film[11]]))[1] < steps(np.stack([done[0], film[0]]))[1]


def test_an_automatic_overlap_is_as_short_as_possible() -> None:
    # A shape that turns round ends nearly where it began, so one frame is enough.
    film = render(Scene("core", 1, "grey", (Actor("circle", "red", "circling", "medium"),)))
    still = np.repeat(film[:1], 12, axis=0)
    assert len(loop(still, "blend")) == 11
    assert len(loop(film, "blend")) >= len(loop(render(sample(1, "core")), "blend"))


def test_a_cut_finds_one_turn() -> None:
    angle = 2 * np.pi * (np.arange(30) - 4) / 20
    film = np.zeros((30, 64, 64, 3), np.uint8)
    for frame, a in zip(film, angle, strict=True):
        y, x = round(32 + 20 * np.sin(a)), round(32 + 20 * np.cos(a))
        frame[y - 5 : y + 5, x - 5 : x + 5] = 220
    done = loop(film, "cut")
    assert len(done) == 20, "one turn"
    assert steps(done)[0] <= 1.01 * steps(film)[1:].max()
    # Half-way through a swing the picture is the same, and everything moves the other way.
    swing = np.zeros((24, 64, 64, 3), np.uint8)
    for frame, t in zip(swing, range(24), strict=True):
        x = round(32 + 20 * np.sin(2 * np.pi * t / 16))
        frame[20:40, x - 5 : x + 5] = 220
    assert len(loop(swing, "cut")) == 16


def test_a_film_without_a_repetition_is_not_cut() -> None:
    film = render(Scene("core", 1, "grey", (Actor("square", "red", "left", "medium"),)))
    with pytest.raises(RequestError, match="finds no frame to go back to") as refused:
        loop(film, "cut")
    assert refused.value.field == "loop" and "blend or pingpong" in str(refused.value)


@given(st.integers(2, 40), st.sampled_from(["pingpong", "blend", "cut"]), st.integers(0, 99))
def test_films_of_any_length_can_be_looped(n: int, mode: str, seed: int) -> None:
    film = np.random.default_rng(seed).integers(0, 256, (n, 4, 5, 3), dtype=np.uint8)
    given_ = film.copy()
    least = {"pingpong": 2, "blend": 4, "cut": 6}[mode]
    if n < least:
        with pytest.raises(RequestError, match=f"needs {least} frames and there are {n}"):
            loop(film, mode)  # type: ignore[arg-type]
        return
    done = loop(film, mode)  # type: ignore[arg-type]
    assert done.dtype == np.uint8 and done.shape[1:] == film.shape[1:] and np.array_equal(film, given_)
    if mode == "pingpong":
        assert len(done) == 2 * n - 2
    else:
        assert n // 2 <= len(done) < n


def test_invalid_loops_are_refused() -> None:
    film = render(sample(0, "core"))
    with pytest.raises(RequestError, match="must be pingpong, blend or cut"):
        loop(film, "round")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="at most 2000 frames"):
        loop(np.zeros((2001, 1, 1, 3), np.uint8), "cut")
