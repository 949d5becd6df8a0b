"""The film of a page: the place, the subject in its pose, and the water, wave or board that its action needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from flickbook.world.book import bipeds, land, quadrupeds, sea_and_space, sky, stage, uprights, vehicles, winged
from flickbook.world.book.page import Page
from flickbook.world.book.pen import FRAMES, PIXELS, Paint, Pen, shrink
from flickbook.world.book.pose import Pose, pose
from flickbook.world.book.sky import LIGHTS, of_land, tint

Actor = Callable[[Pen, Pose], None]
#: Heights of the two clouds of a place in pixels of the frame.
_CLOUDS = {"beach": (9.0, 15.0), "city": (4.6, 8.0), "snow": (9.0, 15.0), "meadow": (9.0, 15.0)}

#: How each subject is drawn, and its scale.
ACTORS: dict[str, tuple[Actor, float]] = {
    "cat": (quadrupeds.cat, 1.1),
    "dog": (quadrupeds.dog, 1.1),
    "panda": (bipeds.panda, 0.96),
    "horse": (quadrupeds.horse, 0.96),
    "bird": (winged.bird, 1.1),
    "fish": (winged.fish, 1.12),
    "butterfly": (winged.butterfly, 1.05),
    "person": (bipeds.person, 1.0),
    "astronaut": (bipeds.astronaut, 1.02),
    "car": (vehicles.car, 1.04),
    "bus": (vehicles.bus, 1.02),
    "train": (vehicles.train, 0.96),
    "boat": (vehicles.boat, 0.92),
    "rocket": (uprights.rocket, 0.96),
    "balloon": (uprights.balloon, 0.92),
    "tree": (uprights.tree, 0.94),
}
_PLACES = {
    "beach": (land.beach, land.beach_moves),
    "forest": (land.forest, land.forest_moves),
    "city": (land.city, land.city_moves),
    "snow": (land.snow, land.snow_moves),
    "desert": (land.desert, land.desert_moves),
    "space": (sea_and_space.space, sea_and_space.space_moves),
    "underwater": (sea_and_space.underwater, sea_and_space.underwater_moves),
    "meadow": (land.meadow, land.meadow_moves),
}


def draw(page: Page) -> np.ndarray:
    """The film (16, 128, 128, 3) uint8 of a page, 8 frames a second; the same page gives the same pixels.

    Raises KeyError for a word that is not in the book.
    """
    light = LIGHTS[page.light]
    rng = np.random.default_rng(page.seed)
    shift = float(rng.uniform())
    still, moves = _PLACES[page.place]
    ground = still(page.light, rng)
    paint = tint(light.actor, page.hue)
    scenery = of_land(page.light)
    film = np.empty((FRAMES, PIXELS, PIXELS, 3), np.uint8)
    for index in range(FRAMES):
        moment = pose(page.action, index / (FRAMES - 1), page.phase)
        picture = ground.copy()
        if page.place in _CLOUDS:
            high = Pen(sky.plain)
            first, second = _CLOUDS[page.place]
            sky.clouds(high, page.light, moment.time, [(10 + 24 * shift, first), (44 + 12 * shift, second)])
            high.stamp(picture)
        pen = Pen(sky.plain if page.place == "space" else scenery)
        moves(pen, moment.time, shift)
        pen.stamp(picture)
        _play(picture, page, moment, paint, scenery)
        film[index] = shrink(picture)
    return film


def _water(page: Page) -> float | None:
    """How high the page's own water stands above the ground in units, or None where it has none."""
    if page.place == "underwater" or page.action == "surfing":
        return None
    if page.subject == "boat":
        return 6.5
    if page.subject == "fish":
        return 26.0 if page.action == "swimming" else 9.0
    return 11.0 if page.action == "swimming" else None


def _feet(page: Page, moment: Pose) -> float:
    """The height of the subject's lowest point in pixels of the frame."""
    y = page.ground - moment.up
    if page.action == "flying":
        return y - 16
    if page.place == "underwater" and (page.action == "swimming" or page.subject == "fish"):
        return y - 11
    if page.subject == "boat":
        return y - 4 + 0.9 * moment.wave(1.0)
    if page.subject == "fish":
        return y - (2 if page.action == "swimming" else 6)
    if page.action == "swimming":
        return y - 3
    return y - (5 if page.action == "surfing" else 0)


def _play(picture: Image.Image, page: Page, moment: Pose, paint: Paint, scenery: Paint) -> None:
    """Draw the subject of one frame and what belongs to its action."""
    actor, scale = ACTORS[page.subject]
    side = 1 if page.direction == "right" else -1
    x, y = page.middle + side * moment.along, _feet(page, moment)
    ink = LIGHTS[page.light].ink
    front = Pen(paint, ink)
    pen = front.at(x, y, side * moment.tilt, page.size * scale, wide=side, high=moment.squash)
    water, back = _water(page), Pen(scenery)
    inside = page.subject == "fish" and page.action == "swimming"
    if page.action == "surfing":
        foam = Pen(tint(LIGHTS[page.light].actor))
        stage.wave(back.at(x, y, wide=side), foam.at(x, y, wide=side), page.place, moment)
        back.stamp(picture)
        foam.stamp(picture)
        stage.board(pen)
        pen.layer()
    elif water is None:
        if page.subject == "train":
            stage.rails(back, page.ground)
        if page.action == "running":
            stage.dust(back, x, page.ground, moment.time, side)
    elif inside:
        stage.flood(picture, back, page.place, stage.surface(page.ground - water, moment.time), 0.85)
    back.stamp(picture)
    if water is None and page.action != "surfing":
        stage.shadow(picture, x, page.ground + 0.6, max(5.0, 11.0 - 0.25 * (page.ground - y)))
    actor(pen, moment)
    front.stamp(picture)
    if water is not None and not inside:
        stage.flood(picture, back, page.place, stage.surface(page.ground - water, moment.time), 0.8)
        if not moment.air:
            stage.ripples(back, x, page.ground - water, moment.time, side, 9.0)
            back.stamp(picture)
    _sound(picture, page, moment, x + side * 6, y - 13)


def _sound(picture: Image.Image, page: Page, moment: Pose, x: float, y: float) -> None:
    """Letters Z that rise from (x, y) over a sleeper, notes of music around a dancer."""
    bright = Pen(sky.plain, LIGHTS[page.light].ink)
    if moment.asleep:
        stage.letters(bright, x, y, moment.time)
    elif page.action == "dancing":
        stage.notes(bright, page.middle, page.ground, moment)
    bright.stamp(picture)
