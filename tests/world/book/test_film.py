"""The films of the picture book: they draw, repeat, move, and their subjects are told apart."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest

from flickbook.world import book
from flickbook.world.book import Page
from flickbook.world.book.film import ACTORS
from flickbook.world.book.pen import Pen, sheet, shrink
from flickbook.world.book.pose import pose
from flickbook.world.book.sky import plain

#: Behind a subject that is drawn alone: no subject has this colour.
GROUND = (120, 200, 160)
PAIRS = [(subject, action) for subject, actions in book.ACTIONS.items() for action in actions]


def page(subject: str, action: str, place: str = "", light: str = "day") -> Page:
    """A page in `place`, else in the first place that fits."""
    places = [each for each in book.PLACES if book.fits(subject, action, each)]
    return Page(subject, action, place or places[0], light, seed=3)


def covered(shown: Page) -> np.ndarray:
    """Where (16, 128, 128) the subject and what belongs to it change the place."""
    empty = book.draw(replace(shown, middle=-300.0))
    return np.abs(book.draw(shown).astype(int) - empty).max(-1) > 12


@pytest.mark.slow
def test_every_subject_draws_everything_it_can_do() -> None:
    for number, (subject, action) in enumerate(PAIRS):
        places = [place for place in book.PLACES if book.fits(subject, action, place)]
        place, light = places[number % len(places)], book.LIGHTS[number % 3]
        film = book.draw(Page(subject, action, place, light, book.DIRECTIONS[number % 2], seed=number))
        assert film.shape == (16, 128, 128, 3) and film.dtype == np.uint8
        assert film.std() > 10, (subject, action, place, light)


@pytest.mark.slow
def test_sampled_pages_draw() -> None:
    rng = np.random.default_rng(7)
    for heldout in (False, True):
        for _ in range(25):
            assert book.draw(book.page(book.sample(rng, heldout), 3)).shape == (16, 128, 128, 3)


def test_the_same_page_gives_the_same_pixels_and_another_seed_another_place() -> None:
    shown = page("cat", "running", "snow", "night")
    assert (book.draw(shown) == book.draw(shown)).all()
    assert (book.draw(shown) != book.draw(replace(shown, seed=4))).mean() > 0.02


def test_an_unknown_word_is_a_key_error() -> None:
    for field in ("subject", "action", "place", "light"):
        with pytest.raises(KeyError):
            book.draw(replace(page("cat", "running"), **{field: "nothing"}))


@cache
def stills(subject: str, action: str) -> np.ndarray:
    """The subject alone (16, 128, 128, 3), held at one place and upright: only its parts can move."""
    actor, scale = ACTORS[subject]
    frames = []
    for index in range(16):
        picture = sheet()
        picture.paste(GROUND, (0, 0, *picture.size))
        pen = Pen(plain)
        actor(pen.at(32, 50, size=scale), pose(action, index / 15, 0.1))
        pen.stamp(picture)
        frames.append(shrink(picture))
    return np.stack(frames)


@pytest.mark.parametrize(("subject", "action"), [pair for pair in PAIRS if pair[1] not in ("standing", "sleeping")])
def test_parts_move_with_the_action(subject: str, action: str) -> None:
    frames = stills(subject, action).astype(int)
    changed = (np.abs(frames - frames[0]).max(-1) > 40).sum((1, 2)).max()
    assert changed >= {"boat": 6, "balloon": 6, "car": 8, "bus": 8}.get(subject, 12)


_OTHERS = [pytest.param(each, marks=pytest.mark.slow) for each in ("dog", "panda", "horse", "bird", "astronaut")]


@pytest.mark.parametrize("subject", ["cat", "person", *_OTHERS])
def test_each_action_has_its_own_pose(subject: str) -> None:
    """No frame of an action looks like lying asleep, and no frame of these three looks like walking."""
    asleep = stills(subject, "sleeping")[0].astype(int)
    walking = stills(subject, "walking").astype(int)
    for action in ("standing", "walking", "running", "flying", "dancing"):
        if action in book.ACTIONS[subject]:
            away = (np.abs(stills(subject, action) - asleep).max(-1) > 40).sum((1, 2))
            assert away.min() > 60, action
    for action in ("dancing", "flying", "surfing"):
        if action in book.ACTIONS[subject]:
            away = (np.abs(stills(subject, action)[:, None] - walking[None]).max(-1) > 40).sum((2, 3))
            assert away.min() > 20, action


@pytest.mark.parametrize("direction", book.DIRECTIONS)
@pytest.mark.parametrize("subject", ["dog", "car", "butterfly"])
def test_what_goes_somewhere_goes_in_its_direction(subject: str, direction: str) -> None:
    action = {"dog": "running", "car": "driving", "butterfly": "flying"}[subject]
    mask = covered(replace(page(subject, action, "meadow"), direction=direction))[:, :112]
    first, last = (np.flatnonzero(mask[k].any(0)).mean() for k in (0, 15))
    assert (last - first) * (1 if direction == "right" else -1) > 24


@pytest.mark.slow
def test_subjects_are_large() -> None:
    """From 27 to 48 percent of the frame's height, standing in a meadow."""
    for subject in book.SUBJECTS:
        if book.fits(subject, "standing", "meadow"):
            mask = covered(page(subject, "standing", "meadow"))
            if subject == "boat":
                continue  # its water covers the ground
            mask[:, 110:] = False  # the shadow
            rows = np.flatnonzero(mask[5].any(1))
            assert 34 <= rows[-1] - rows[0] + 1 <= 62, subject


def test_subjects_differ_in_outline_and_colour() -> None:
    looks = {subject: stills(subject, "standing")[4].astype(int) for subject in book.SUBJECTS}
    for one, two in combinations(book.SUBJECTS, 2):
        first, second = looks[one], looks[two]
        either = (np.abs(first - GROUND).max(-1) > 12) | (np.abs(second - GROUND).max(-1) > 12)
        differs = np.abs(first - second).max(-1) > 60
        assert differs.sum() > 0.4 * either.sum(), (one, two)


def test_places_and_lights_differ() -> None:
    empty = {
        (place, light): book.draw(Page("cat", "standing", place, light, middle=-300.0, seed=2))[0].astype(int)
        for place in book.PLACES
        for light in book.LIGHTS
    }
    for one, two in combinations(empty, 2):
        assert (np.abs(empty[one] - empty[two]).max(-1) > 24).mean() > 0.12, (one, two)
    for place in book.PLACES:
        assert empty[place, "night"].mean() < 0.65 * empty[place, "day"].mean()


def test_places_move() -> None:
    for place in book.PLACES:
        film = book.draw(Page("cat", "standing", place, "day", middle=-300.0)).astype(int)
        assert (np.abs(film - film[0]).max(-1) > 24).sum((1, 2)).max() > 5, place


def test_swimmers_are_in_water_and_surfers_on_a_wave() -> None:
    for action in ("swimming", "surfing"):
        wet = book.draw(page("cat", action, "meadow"))[8, 60:].astype(float)
        dry = book.draw(page("cat", "walking", "meadow"))[8, 60:].astype(float)
        assert wet[..., 2].mean() > wet[..., 0].mean() + 30
        assert dry[..., 2].mean() < dry[..., 1].mean() - 30
