"""The judge of the picture book: right on true films, also soft ones, and unclear where a film shows something else."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.world.calibration import Transform, calibrate

from flickbook.errors import RequestError
from flickbook.world import book, detect
from flickbook.world.book.read import HEADS, read
from flickbook.world.motion import UNCLEAR
from flickbook.world.render import render
from flickbook.world.scenes import Scene, sample

COUNTED = ("subject", "action", "place", "light")
#: Seeds that neither training of the judge nor of the model uses.
FIRST = 700_000_000


@cache
def film(
    subject: str, action: str, place: str, light: str = "day", seed: int = 3, direction: str = "right"
) -> np.ndarray:
    words = {"subject": subject, "action": action, "place": place, "light": light, "direction": direction}
    return book.draw(book.page(words, seed))


def soften(frames: np.ndarray) -> np.ndarray:
    """Gaussian blur of 1.2 pixels and noise of sigma 5, as a small model's films are soft."""
    blurred = [Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.2)) for frame in frames]
    noise = np.random.default_rng(int(frames.sum())).normal(0, 5, frames.shape)
    return np.clip(np.stack(blurred) + noise + 0.5, 0, 255).astype(np.uint8)


def score(count: int, heldout: bool, transform: Transform | None = None) -> dict[str, int]:
    found = calibrate(count, group="book", heldout=heldout, transform=transform, first_seed=FIRST)
    assert all(found[word][1] == count for word in COUNTED)
    return {word: right for word, (right, _) in found.items()}


@pytest.mark.parametrize("heldout", [False, True])
def test_true_films_are_read(heldout: bool) -> None:
    right = score(12, heldout)
    assert min(right[word] for word in COUNTED) >= 11, right


def test_soft_films_are_read() -> None:
    right = score(10, True, soften)
    assert min(right[word] for word in COUNTED) >= 9, right


@pytest.mark.trial
@pytest.mark.parametrize("heldout", [False, True])
@pytest.mark.parametrize(("transform", "share", "together"), [(None, 0.97, 0.95), (soften, 0.95, 0.9)])
def test_many_films_are_read(heldout: bool, transform: Transform | None, share: float, together: float) -> None:
    right = score(300, heldout, transform)
    assert min(right[word] for word in COUNTED) >= 300 * share, right
    assert right["all_correct"] >= 300 * together, right


def test_a_direction_is_judged_apart_where_the_action_goes_somewhere() -> None:
    words = {"subject": "dog", "action": "running", "place": "meadow", "light": "day", "direction": "left"}
    running = film("dog", "running", "meadow", direction="left")
    assert detect.judge(Scene("book", 3, traits=words), running).apart == {"direction": True}
    assert detect.judge(Scene("book", 3, traits={**words, "direction": "right"}), running).apart == {"direction": False}
    still = {**words, "action": "standing"}
    verdict = detect.judge(Scene("book", 3, traits=still), film("dog", "standing", "meadow"))
    assert verdict.apart == {} and set(verdict.counted) == set(COUNTED)


@pytest.mark.parametrize(
    ("subject", "place", "first", "second"),
    [
        ("dog", "meadow", "running", "walking"),
        ("cat", "forest", "sleeping", "standing"),
        ("rocket", "space", "flying", "jumping"),
    ],
)
def test_two_actions_of_one_subject_are_told_apart(subject: str, place: str, first: str, second: str) -> None:
    for action in (first, second):
        scene = Scene("book", 3, traits={"subject": subject, "action": action, "place": place, "light": "day"})
        assert detect.judge(scene, film(subject, action, place)).all_correct
        other = first if action == second else second
        assert not detect.judge(scene, film(subject, other, place)).counted["action"]


@pytest.mark.parametrize("kind", ["noise", "colour", "core", "pair", "view", "sea"])
def test_what_is_no_page_is_unclear(kind: str) -> None:
    rng = np.random.default_rng(4)
    shown = {
        "noise": lambda: rng.integers(0, 256, (16, 128, 128, 3), dtype=np.uint8),
        "colour": lambda: np.full((16, 128, 128, 3), (90, 160, 220), np.uint8),
        "core": lambda: render(sample(FIRST, "core")),
        "pair": lambda: render(sample(FIRST, "pair")),
        "view": lambda: render(sample(FIRST, "views")),
        "sea": lambda: render(sample(FIRST + 1, "views")),
    }[kind]()
    found = read(shown)
    assert {found[word] for word in ("subject", "action")} == {UNCLEAR}, found
    assert [found[word] for word in COUNTED].count(UNCLEAR) >= 3, found


@pytest.mark.parametrize("action", ["running", "walking", "jumping"])
def test_a_frozen_film_does_not_show_its_action(action: str) -> None:
    frames = film("dog", action, "meadow")
    for frame in (0, 5):
        found = read(np.repeat(frames[frame : frame + 1], 16, axis=0))
        assert found["action"] != action and found["place"] == "meadow", found


def test_shuffled_frames_do_not_show_a_run() -> None:
    order = np.random.default_rng(1).permutation(16)
    assert read(film("dog", "running", "meadow")[order])["action"] != "running"


def test_a_film_of_two_subjects_shows_neither() -> None:
    first, second = film("dog", "walking", "city"), film("astronaut", "walking", "city")
    for frames in (np.concatenate([first[:8], second[8:]]), (first // 2 + second // 2)):
        assert read(frames)["subject"] == UNCLEAR


def test_a_film_that_melts_or_shakes_or_is_a_blur_shows_no_action() -> None:
    frames = film("dog", "running", "meadow")
    rng = np.random.default_rng(2)
    shaken = np.stack([np.roll(frame, tuple(rng.integers(-14, 15, 2)), (0, 1)) for frame in frames])
    blur = np.stack([np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(9))) for frame in frames])
    assert read(shaken)["action"] == UNCLEAR
    assert {read(blur)[word] for word in ("subject", "action")} == {UNCLEAR}


def test_a_place_without_a_subject_has_none() -> None:
    words = {"subject": "dog", "action": "running", "place": "desert", "light": "night", "direction": "right"}
    page = book.page(words, 5)
    empty = book.draw(book.Page(**{**vars(page), "middle": -300.0}))
    found = read(empty)
    assert (found["subject"], found["action"], found["place"]) == (UNCLEAR, UNCLEAR, "desert")


def test_other_frames_are_refused() -> None:
    for wrong in (np.zeros((16, 64, 64, 3), np.uint8), np.zeros((15, 128, 128, 3), np.uint8)):
        with pytest.raises(RequestError):
            read(wrong)


def test_the_heads_hold_every_word_of_the_book_once() -> None:
    every = [action for actions in book.ACTIONS.values() for action in actions]
    assert Counter(HEADS["action"]) == Counter(set(every))
    assert (HEADS["subject"], HEADS["place"], HEADS["light"]) == (book.SUBJECTS, book.PLACES, book.LIGHTS)
