"""The film of a page: the place, the subject in its pose, and the water, wave or board that its action needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from flickbook.world.book import aloft, beyond, bipeds, land, quadrupeds, sky, stage, vehicles, winged
from flickbook.world.book.light import LIGHTS, of_land, tint
from flickbook.world.book.page import Page
from flickbook.world.book.pen import FRAMES, SIZE, Paint, Pen, shrink
from flickbook.world.book.pose import Pose, pose

Actor = Callable[[Pen, Pose], None]
#: Places under an open sky.
_CLOUDS = ("beach", "forest", "city", "snow", "meadow")

_ACTORS: dict[str, tuple[Actor, float]] = {
    "cat": (quadrupeds.cat, 1.1),
    "dog": (quadrupeds.dog, 1.1),
    "panda": (bipeds.panda, 0.96),
    "horse": (quadrupeds.horse, 1.06),
    "bird": (winged.bird, 1.1),
    "fish": (winged.fish, 1.12),
    "butterfly": (winged.butterfly, 1.05),
    "person": (bipeds.person, 1.0),
    "astronaut": (bipeds.astronaut, 1.02),
    "car": (vehicles.car, 1.04),
    "bus": (vehicles.bus, 1.02),
    "train": (vehicles.train, 1.0),
    "boat": (vehicles.boat, 0.92),
    "rocket": (aloft.rocket, 0.96),
    "balloon": (aloft.balloon, 0.92),
    "tree": (aloft.tree, 0.94),
}
_PLACES = {
    "beach": (land.beach, land.beach_moves),
    "forest": (land.forest, land.forest_moves),
    "city": (land.city, land.city_moves),
    "snow": (land.snow, land.snow_moves),
    "desert": (land.desert, land.desert_moves),
    "space": (beyond.space, beyond.space_moves),
    "underwater": (beyond.underwater, beyond.underwater_moves),
    "meadow": (land.meadow, land.meadow_moves),
}


def draw(page: Page) -> np.ndarray:
    """The film (16, 64, 64, 3) uint8 of a page, 8 frames a second; the same page gives the same pixels.

    Raises KeyError for a word that is not in the book.
    """
    light = LIGHTS[page.light]
    rng = np.random.default_rng(page.seed)
    shift = float(rng.uniform())
    still, moves = _PLACES[page.place]
    ground = still(page.light, rng)
    paint = tint(light.actor, page.hue)
    scenery = of_land(page.light)
    film = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    for index in range(FRAMES):
        moment = pose(page.action, index / (FRAMES - 1), page.phase)
        picture = ground.copy()
        if page.place in _CLOUDS:
            high = Pen(sky.plain)
            sky.clouds(high, page.light, moment.time, [(10 + 24 * shift, 9.0), (44 + 12 * shift, 15.0)])
            high.stamp(picture)
        pen = Pen(sky.plain if page.place == "space" else scenery)
        moves(pen, moment.time, shift)
        pen.stamp(picture)
        _play(picture, page, moment, paint, scenery)
        film[index] = shrink(picture)
    return film


def _afloat(page: Page) -> bool:
    """Whether the page needs water of its own."""
    if page.place == "underwater" or page.action == "surfing":
        return False
    return page.action == "swimming" or page.subject in ("boat", "fish")


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
    actor, scale = _ACTORS[page.subject]
    side = 1 if page.direction == "right" else -1
    x, y = page.middle + side * moment.along, _feet(page, moment)
    ink = LIGHTS[page.light].ink
    front = Pen(paint, ink)
    pen = front.at(x, y, side * moment.tilt, page.size * scale, wide=side, high=moment.squash)
    wet = _afloat(page)
    back = Pen(scenery)
    if page.action == "surfing":
        stage.wave(back.at(x, y, wide=side), page.place, moment)
        back.stamp(picture)
        stage.board(pen)
        pen.layer()
    elif not wet:
        if page.subject == "train":
            stage.rails(back, page.ground)
            back.stamp(picture)
        lift = page.ground - y
        stage.shadow(picture, x, page.ground + 0.6, max(5.0, 11.0 - 0.25 * lift))
    if page.action == "running":
        stage.dust(back, x, page.ground, moment.time, side)
        back.stamp(picture)
    deep = page.subject == "fish"
    line = stage.surface(page.ground - (26 if deep and page.action == "swimming" else 9 if deep else 11), moment.time)
    if page.subject == "boat":
        line = stage.surface(page.ground - 6.5, moment.time)
    if wet and deep and page.action == "swimming":
        stage.flood(picture, back, page.place, line, 0.85)
    actor(pen, moment)
    front.stamp(picture)
    if wet and not (deep and page.action == "swimming"):
        stage.flood(picture, back, page.place, line, 0.8)
        if not moment.air:
            stage.ripples(back, x, page.ground - (6.5 if page.subject == "boat" else 11), moment.time, side, 9.0)
            back.stamp(picture)
    bright = Pen(sky.plain, ink)
    if moment.asleep:
        stage.letters(bright, x + side * 6, y - 13, moment.time)
    elif page.action == "dancing":
        stage.notes(bright, page.middle, page.ground, moment)
    bright.stamp(picture)
