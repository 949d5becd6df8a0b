"""Waves with a sailboat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flickbook.world.views import canvas, measure
from flickbook.world.views.canvas import Colour
from flickbook.world.views.phrases import SIDES, Phrases

NAME = "sea"
TRAITS: dict[str, tuple[str, ...]] = {
    "direction": ("left", "right"),
    "sail": ("white", "red", "yellow", "green"),
    "weather": ("calm", "stormy", "sunset"),
}
_SAILS: dict[str, Colour] = {
    "white": (250, 250, 250),
    "red": (222, 28, 36),
    "yellow": (255, 216, 20),
    "green": (24, 158, 66),
}
_WOOD: Colour = (70, 44, 34)
#: Zenith and horizon of the sky, then far and near water.
_PALETTES: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "calm": ((66, 150, 236), (178, 222, 250), (52, 150, 206), (12, 70, 150)),
    "stormy": ((46, 54, 70), (112, 122, 136), (72, 92, 108), (22, 34, 52)),
    "sunset": ((96, 50, 132), (255, 150, 76), (190, 88, 112), (58, 30, 88)),
}
_HORIZON = 74


def _waves(phase: np.ndarray, stormy: bool) -> list[np.ndarray]:
    """Three moving wave lines (16, 128) of y, far to near."""
    lines = []
    for depth, (height, length) in enumerate(((76, 42), (92, 56), (110, 70))):
        swell = (2.0, 2.6, 3.4)[depth] * (2.3 if stormy else 1.0)
        turn = 2 * np.pi * (canvas.X / length - (0.9 + 0.3 * depth) * canvas.TIME[:, None] + phase[depth])
        lines.append((height - swell * (np.sin(turn) + 0.25 * np.cos(2 * turn))).astype(np.float32))
    return lines


def draw(traits: Mapping[str, str], rng: np.random.Generator) -> np.ndarray:
    """The film (16, 128, 128, 3) uint8; the seed sets the waves' phases, the boat's start and the sun."""
    weather, right = traits["weather"], traits["direction"] == "right"
    zenith, horizon, far, near = _PALETTES[weather]
    still = canvas.gradient((0, zenith), (_HORIZON, horizon), (_HORIZON + 1, far))
    light = float(rng.uniform(34, 94))
    if weather == "sunset":
        canvas.blob(still, light, 66, 46, 34, (255, 214, 120), 0.75)
        canvas.disc(still, light, 66, 15, (255, 238, 170), 1.2)
    elif weather == "calm":
        canvas.blob(still, light, 20, 26, 26, (255, 250, 214), 0.6)
        canvas.disc(still, light, 20, 9, (255, 246, 180), 1.2)
    sea = canvas.film(still)
    start, travel = float(rng.uniform(24, 36)), float(rng.uniform(62, 72))
    lines = _waves(rng.uniform(0, 1, 3), weather == "stormy")
    for depth, line in enumerate(lines):
        colour = canvas.mix(far, near, depth / 2)
        canvas.lay(sea[:, 64:], canvas.ridge(line, 0.9)[:, 64:], colour)
        crest = canvas.ridge(line, 0.9)[:, 64:] - canvas.ridge(line + 3.2, 2.2)[:, 64:]
        canvas.lay(sea[:, 64:], 0.5 * np.clip(crest, 0, 1), canvas.mix(horizon, (255, 255, 255), 0.3))
        if weather == "sunset":
            path = 0.5 * np.exp(-(((canvas.X - light) / (9 + 4 * depth)) ** 2)) * canvas.ridge(line + 3, 3)[:, 64:]
            canvas.lay(sea[:, 64:], path.astype(np.float32), (255, 196, 118))
        if depth == 0:
            for index, (frame, time) in enumerate(zip(sea, canvas.TIME.tolist(), strict=True)):
                x = start + travel * time
                x = x if right else canvas.SIZE - x
                under = lines[1][index]
                y = float(np.interp(x, canvas.X[0], under))
                slope = float(np.interp(x + 9, canvas.X[0], under) - np.interp(x - 9, canvas.X[0], under)) / 18
                _boat(frame, x, y, 0.5 * slope, right, _SAILS[traits["sail"]])
    for frame, time in zip(sea, canvas.TIME.tolist(), strict=True):
        _clouds(frame, time, weather)
    return canvas.finish(sea)


def _boat(frame: np.ndarray, x: float, y: float, tilt: float, right: bool, sail: Colour) -> None:
    """A boat whose keel stands at (x, y), heeled by `tilt` radians, its bow to the right or the left."""

    def turn(points: canvas.Points) -> canvas.Points:
        side = 1 if right else -1
        return [(x + side * px - py * tilt, y + py + side * px * tilt) for px, py in points]

    canvas.polygon(frame, turn([(-1, -10), (1, -10), (1, -56), (-1, -56)]), _WOOD)
    canvas.polygon(frame, turn([(-2, -54), (-2, -13), (-18, -13), (-12, -32)]), sail)
    canvas.polygon(frame, turn([(2, -52), (9, -34), (19, -13), (2, -13)]), sail)
    canvas.polygon(frame, turn([(-20, -10), (23, -10), (15, 3), (-14, 3)]), (104, 52, 34))


def _clouds(frame: np.ndarray, time: float, weather: str) -> None:
    """Dark cloud banks in a storm, else two light clouds; all drift to the right."""
    if weather == "stormy":
        for x, y, size in ((-2, 8, 1.0), (36, 4, 1.2), (76, 9, 1.1), (116, 4, 1.2)):
            canvas.blob(frame, x + 10 * time, y, 24 * size, 11 * size, (30, 34, 46), 0.85)
        return
    colour: Colour = (255, 255, 255) if weather == "calm" else (255, 172, 150)
    for x, y in ((18, 34), (98, 26)):
        canvas.blob(frame, x + 8 * time, y, 17, 4.5, colour, 0.75)
        canvas.blob(frame, x + 4 + 8 * time, y - 3, 8, 5, colour, 0.7)


def read(frames: np.ndarray) -> dict[str, str]:
    """The traits read back from a film (16, 128, 128, 3).

    Direction and sail: the track and the closest paint of what differs most from the time's median between the clouds
    and the hull. Weather: the closest sky by colour at three heights.
    """
    calm = measure.still(frames)
    part = np.asarray(frames[:, 24:60], np.float32)
    change = measure.box(np.abs(part - calm[24:60]).sum(-1), 3, 3)
    sail = measure.strong(change, 0.25)
    way = measure.side(measure.travel(sail, 1))
    core = measure.box((sail > 0).astype(np.float32), 5, 5) > 0.9
    word = measure.NONE
    if core.any():
        paint = part[core].astype(np.float64)
        away = np.stack([((paint - np.array(colour)) ** 2).sum(-1) for colour in (*_SAILS.values(), _WOOD)])
        votes = np.bincount(np.argmin(away, 0), minlength=len(_SAILS) + 1)
        word = tuple(_SAILS)[int(np.argmax(votes[:-1]))]  # the mast is not a sail
    rows = np.median(calm[[2, 18, 52, 66]], axis=1)
    weather = min(_PALETTES, key=lambda name: float(((rows - _sky(name)) ** 2).sum()))
    return {"direction": way, "sail": word, "weather": weather}


def _sky(weather: str) -> np.ndarray:
    """What the sky's rows 2, 18, 52 and 66 look like (4, 3)."""
    zenith, horizon = _PALETTES[weather][:2]
    return np.array([canvas.mix(zenith, horizon, y / _HORIZON) for y in (2, 18, 52, 66)])


_SKY = {"calm": "on a calm sea", "stormy": "on a stormy sea", "sunset": "on the waves at sunset"}


def captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Paraphrases that name the sail, the direction and the weather; the first is the plain one."""
    way, sail, weather = traits["direction"], traits["sail"], traits["weather"]
    where = _SKY[weather]
    when = {"calm": "calm weather", "stormy": "stormy weather", "sunset": "sunset"}[weather]
    return (
        f"a sailboat with a {sail} sail moving {way} {where}",
        f"a {sail} sailboat sailing {way} over the waves, {when}",
        f"waves with a {sail} sailboat going {way}, {when}",
        f"{when} at sea, a boat with a {sail} sail sails to the {way}",
        f"a boat with {sail} sails drifting to the {way} {where}",
        f"ocean waves and a {sail} sailboat heading {way}, {when}",
        f"a film of a {sail} sailboat sailing {way} {where}",
    )


def brief_captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Shorter prompts that leave something out."""
    return (
        f"a sailboat {_SKY[traits['weather']]}",
        "waves with a sailboat",
        f"a {traits['sail']} sailboat on the sea",
        f"a sailboat sailing {traits['direction']}",
        f"a boat {_SKY[traits['weather']]}",
        f"a boat with a {traits['sail']} sail moving {traits['direction']}",
    )


#: What the grammar says of this view.
PHRASES = Phrases(
    whole=(
        "a {boat} with a {sail} sail {moving} {way} {when}",
        "a {boat} with {sail} sails {moves} {way} {when}",
        "a {sail} {boat} {moving} {way} over the {waves}, {state}",
        "a {sail} {boat} {moves} {way} across the {waves} {when}",
        "{waves} with a {sail} {boat} {moving} {way}, {state}",
        "{state}, a {boat} with a {sail} sail {moving} {way}",
        "{when}, a {boat} with {sail} sails {moves} {way}",
        "{when} a {sail} {boat} is {moving} {way} on the {sea}",
        "{film} of a {sail} {boat} {moving} {way} {when}",
        "{film} of a {boat} with a {sail} sail {moving} {way}, {state}",
        "{show} a {boat} with a {sail} sail {moving} {way} {when}",
        "{show} a {sail} {boat} on the {sea} {moving} {way}, {state}",
        "{watch} a {sail} {boat} {move} {way} {when}",
        "there is a {boat} with {sail} sails {moving} {way} {when}",
        "a {boat} is {moving} {way} {when}, its sail is {sail}",
        "{moving} {way} over the {waves}: a {sail} {boat}, {state}",
        "the {sail} sail of a {boat} {moving} {way} {when}",
    ),
    brief=(
        "a {boat} {when}",
        "{waves} with a {boat}",
        "a {sail} {boat} on the {sea}",
        "a {boat} {moving} {way}",
        "a {boat} with a {sail} sail",
        "a {boat}, {state}",
    ),
    scenery={
        "boat": ("sailboat", "sailboat", "boat", "sailing boat", "yacht", "sailing ship"),
        "waves": ("waves", "sea", "ocean", "ocean waves", "water", "open sea"),
        "sea": ("sea", "ocean", "water", "waves"),
        "moving": ("moving", "sailing", "going", "heading", "drifting", "gliding", "cruising", "travelling"),
        "moves": ("moves", "sails", "goes", "heads", "drifts", "glides", "cruises", "travels"),
        "move": ("move", "sail", "go", "head", "drift", "glide", "cruise", "travel"),
    },
    traits={
        "direction": SIDES,
        "sail": {
            "white": {"sail": ("white", "white", "snow white", "ivory")},
            "red": {"sail": ("red", "red", "crimson", "scarlet")},
            "yellow": {"sail": ("yellow", "yellow", "golden", "lemon yellow")},
            "green": {"sail": ("green", "green", "emerald", "bright green")},
        },
        "weather": {
            "calm": {
                "when": ("on a calm sea", "in calm weather", "on calm water", "in fair weather", "on a quiet sea"),
                "state": ("calm sea", "calm weather", "calm water", "fair weather", "quiet sea"),
            },
            "stormy": {
                "when": ("in a storm", "in stormy weather", "on a stormy sea", "on a rough sea", "in rough weather"),
                "state": ("stormy sea", "stormy weather", "stormy waves", "rough sea", "rough weather"),
            },
            "sunset": {
                "when": ("at sunset", "at sunset", "at sundown", "in the evening light", "while the sun sets"),
                "state": ("sunset", "sunset light", "sundown", "evening light", "twilight"),
            },
        },
    },
)
