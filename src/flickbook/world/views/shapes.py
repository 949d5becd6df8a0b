"""Abstract geometric shapes that morph and dance."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from flickbook.world.views import canvas, measure
from flickbook.world.views.canvas import Colour
from flickbook.world.views.phrases import Phrases

NAME = "shapes"
TRAITS: dict[str, tuple[str, ...]] = {
    "colours": ("warm", "cool", "rainbow"),
    "background": ("black", "white", "blue"),
    "dance": ("spinning", "pulsing", "circling", "bouncing"),
}
_COLOURS: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "warm": ((236, 34, 44), (255, 132, 20), (255, 208, 30), (240, 60, 120)),
    "cool": ((24, 190, 220), (40, 176, 110), (120, 90, 240), (90, 220, 200)),
    "rainbow": ((236, 40, 50), (255, 206, 30), (44, 190, 90), (170, 70, 230)),
}
#: Middle and rim of the ground.
_GROUNDS: dict[str, tuple[Colour, Colour]] = {
    "black": ((38, 34, 50), (8, 8, 14)),
    "white": ((255, 255, 255), (216, 220, 228)),
    "blue": ((56, 92, 190), (14, 28, 92)),
}
_ANGLES = np.linspace(0, 2 * np.pi, 60, endpoint=False)
#: Where the four shapes stand, and the corners (positive: polygon, negative: star) each morphs between.
_PLACES = ((-27.0, -25.0), (27.0, -25.0), (27.0, 25.0), (-27.0, 25.0))
_MORPHS = ((3, -5), (4, -4), (-5, 6), (4, 3))


def _profile(corners: int) -> np.ndarray:
    """Radius (60,) of a polygon, or of a star for a negative number, scaled to the area of a circle of radius 1."""
    count = abs(corners)
    within = (_ANGLES % (2 * np.pi / count)) - np.pi / count
    radius = (
        math.cos(math.pi / count) / np.cos(within)
        if corners > 0
        else 0.52 + 0.48 * (np.abs(within) * count / np.pi) ** 1.5
    )
    return radius / math.sqrt(float(np.mean(radius**2)))


_PROFILES = {corners: _profile(corners) for pair in _MORPHS for corners in pair}


def draw(traits: Mapping[str, str], rng: np.random.Generator) -> np.ndarray:
    """The film (16, 128, 128, 3) uint8; the seed sets where in its morph and in its dance each film starts."""
    inner, outer = _GROUNDS[traits["background"]]
    still = canvas.gradient((0, outer), (canvas.SIZE, outer))
    away = np.hypot(canvas.X - 64, canvas.Y - 64)
    canvas.lay(still, np.clip(1 - away / 90, 0, 1), inner)
    picture = canvas.film(still)
    dance, order = traits["dance"], int(rng.integers(4))
    phase, morph = float(rng.uniform(0, 1)), float(rng.uniform(0, 1))
    for frame, time in zip(picture, canvas.TIME.tolist(), strict=True):
        for number, (px, py) in enumerate(_PLACES):
            size, angle, turn = 17.0, 0.3 * math.sin(2 * math.pi * (time + morph) + number), 0.0
            if dance == "spinning":
                angle = 2 * math.pi * (0.75 * time + phase + number / 4)
            elif dance == "pulsing":
                size *= 1 + 0.34 * math.sin(2 * math.pi * (2 * time + phase))
            elif dance == "circling":
                turn = 2 * math.pi * (0.6 * time + phase)
            else:
                py = py * 0.8 + 17 * (1 - 2 * abs(math.sin(math.pi * (2 * time + phase))))
            x = 64 + px * math.cos(turn) - py * math.sin(turn)
            y = 64 + px * math.sin(turn) + py * math.cos(turn)
            share = 0.5 - 0.5 * math.cos(2 * math.pi * (time + morph + number / 4))
            first, second = _MORPHS[number]
            radii = (size * ((1 - share) * _PROFILES[first] + share * _PROFILES[second])).tolist()
            outline = [
                (x + r * math.sin(a + angle), y - r * math.cos(a + angle))
                for r, a in zip(radii, _ANGLES.tolist(), strict=True)
            ]
            canvas.polygon(frame, outline, _COLOURS[traits["colours"]][(number + order) % 4])
    return canvas.finish(picture)


def read(frames: np.ndarray) -> dict[str, str]:
    """The traits read back from a film (16, 128, 128, 3).

    Background: the closest ground by colour in the corners. Colours: the share of warm hues among the shapes. Dance:
    bouncing swings the centre, pulsing the area, circling leaves the four places empty, spinning does none of these
    though the outline changes.
    """
    corners = np.asarray(frames, np.float32)[:, [3, 3, 124, 124], [3, 124, 3, 124]]
    corner = np.median(corners.reshape(-1, 3), axis=0)
    ground = min(_GROUNDS, key=lambda word: float(((corner - np.array(_GROUNDS[word][1])) ** 2).sum()))
    covered = coverage(frames, ground)
    angles, chroma = measure.hue(np.asarray(frames, np.float32)[covered])
    solid = angles[chroma > 60]
    warm = float(((solid < 75) | (solid > 310)).mean()) if len(solid) else 0.5
    colours = "warm" if warm > measure.WARM else "cool" if warm < measure.COOL else "rainbow"
    return {"colours": colours, "background": ground, "dance": _read_dance(covered)}


def coverage(frames: np.ndarray, ground: str) -> np.ndarray:
    """Where shapes cover the ground: (16, 128, 128) bool, true where the colour is far from the ground's line."""
    inner, outer = (np.array(paint, np.float32) for paint in _GROUNDS[ground])
    line = inner - outer
    away = np.asarray(frames, np.float32) - outer
    share = np.clip(away @ line / float(line @ line), -0.3, 1.3)
    return measure.box(np.sqrt(((away - share[..., None] * line) ** 2).sum(-1)), 3, 3) > 55


def _read_dance(covered: np.ndarray) -> str:
    area = covered.sum((1, 2)).astype(np.float64) + 1e-9
    change = float((covered[1:] ^ covered[:-1]).sum((1, 2)).mean() / area.mean())
    if change < measure.STILL:
        return measure.NONE
    height = covered.sum(2) @ np.arange(canvas.SIZE) / area
    if float(np.std(height)) > measure.BOUNCE:
        return "bouncing"
    if float(np.std(area) / area.mean()) > measure.PULSE:
        return "pulsing"
    places = np.stack(
        [covered[:, int(64 + y) - 7 : int(64 + y) + 8, int(64 + x) - 7 : int(64 + x) + 8] for x, y in _PLACES]
    )
    empty = 1 - places.mean((0, 2, 3))
    return "circling" if float(empty.max()) > measure.ROUND else "spinning"


_DANCES: dict[str, tuple[str, str]] = {
    "spinning": ("spinning", "spinning around"),
    "pulsing": ("pulsing", "growing and shrinking in a pulse"),
    "circling": ("circling", "dancing in a circle"),
    "bouncing": ("bouncing", "bouncing up and down"),
}
_WORDS: dict[str, str] = {"warm": "warm colours", "cool": "cool colours", "rainbow": "rainbow colours"}


def captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Paraphrases that name the colours, the ground and the dance; the first is the plain one."""
    words, ground = _WORDS[traits["colours"]], traits["background"]
    plain, long = _DANCES[traits["dance"]]
    return (
        f"abstract geometric shapes morphing and {plain}, {words}, {ground} background",
        f"abstract geometric shapes morphing and dancing, {plain}, in {words} on a {ground} background",
        f"geometric shapes in {words} {long} on a {ground} background",
        f"on a {ground} background, abstract shapes in {words} morph while {plain}",
        f"{plain} abstract shapes with {words} over {ground}",
        f"a dance of geometric shapes {long}, {words}, {ground} background",
        f"a film of morphing {traits['colours']} shapes {plain} on {ground}",
    )


def brief_captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Shorter prompts that leave something out."""
    return (
        "abstract geometric shapes morphing and dancing",
        "geometric shapes dancing",
        f"abstract shapes {_DANCES[traits['dance']][0]}",
        f"abstract geometric shapes in {_WORDS[traits['colours']]}",
        f"abstract shapes on a {traits['background']} background",
        f"morphing shapes in {_WORDS[traits['colours']]} {_DANCES[traits['dance']][1]}",
    )


#: What the grammar says of this view.
PHRASES = Phrases(
    whole=(
        "{shapes} {morphing} and {dancing}, {colours}, {ground} background",
        "{shapes} in {colours} {morphing} and {dancing} on a {ground} background",
        "{shapes} in {colours} {morph} and {dance} on a {ground} {backdrop}",
        "{shapes} in {colours} are {dancing} against a {ground} {backdrop}",
        "on a {ground} background, {shapes} in {colours} {morph} while {dancing}",
        "on a {ground} {backdrop} {shapes} in {colours} are {dancing}",
        "{shapes} {dancing} over {ground} in {colours}",
        "a dance of {shapes} {dancing}, {colours}, {ground} background",
        "{film} of {morphing} {shapes} in {colours} {dancing} on {ground}",
        "{film} of {shapes} {dancing} in {colours} in front of a {ground} {backdrop}",
        "{show} {shapes} {dancing} in {colours} on a {ground} background",
        "{show} {shapes} that {morph} and {dance}, in {colours} on {ground}",
        "{watch} {shapes} in {colours} {dance} on a {ground} background",
        "{ground} background with {shapes} in {colours} {dancing}",
        "{colours}: {shapes} {morphing} and {dancing} over a {ground} background",
        "there are {shapes} in {colours} {dancing} on a {ground} {backdrop}",
        "the background is {ground} and {shapes} in {colours} are {dancing}",
    ),
    brief=(
        "{shapes} {morphing} and dancing",
        "{shapes} {dancing}",
        "{shapes} in {colours}",
        "{shapes} on a {ground} background",
        "a dance of {shapes}",
        "{morphing} {shapes}",
    ),
    scenery={
        "shapes": ("abstract geometric shapes", "geometric shapes", "abstract shapes", "geometric figures")
        + ("abstract forms", "polygons and stars"),
        "morphing": ("morphing", "changing", "transforming", "shifting"),
        "morph": ("morph", "change", "transform", "shift"),
        "backdrop": ("background", "backdrop", "wall", "screen"),
    },
    traits={
        "colours": {
            word: {"colours": tuple(f"{name} {noun}" for name in names for noun in ("colours", "colors", *more))}
            for word, names, more in (
                ("warm", ("warm", "warm", "fiery"), ("tones", "hues")),
                ("cool", ("cool", "cool", "cold"), ("tones", "hues")),
                ("rainbow", ("rainbow", "rainbow", "many different", "all the rainbow"), ()),
            )
        },
        "background": {
            "black": {"ground": ("black", "black", "black", "jet black", "pitch black")},
            "white": {"ground": ("white", "white", "white", "pure white", "snow white")},
            "blue": {"ground": ("blue", "blue", "blue", "dark blue", "deep blue", "navy")},
        },
        "dance": {
            "spinning": {
                "dancing": ("spinning", "spinning around", "rotating", "twirling", "turning around"),
                "dance": ("spin", "spin around", "rotate", "twirl", "turn around"),
            },
            "pulsing": {
                "dancing": ("pulsing", "pulsating", "throbbing", "growing and shrinking in a pulse"),
                "dance": ("pulse", "pulsate", "throb", "grow and shrink in a pulse"),
            },
            "circling": {
                "dancing": ("circling", "dancing in a circle", "going round in a circle", "moving in circles"),
                "dance": ("circle", "dance in a circle", "go round in a circle", "move in circles"),
            },
            "bouncing": {
                "dancing": ("bouncing", "bouncing up and down", "jumping up and down", "hopping"),
                "dance": ("bounce", "bounce up and down", "jump up and down", "hop"),
            },
        },
    },
)
