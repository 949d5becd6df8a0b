"""Fish in a coral reef."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from flickbook.world.views import canvas, measure
from flickbook.world.views.canvas import Colour
from flickbook.world.views.phrases import SIDES, Phrases

NAME = "reef"
TRAITS: dict[str, tuple[str, ...]] = {
    "fish": ("orange", "yellow", "purple", "red"),
    "direction": ("left", "right"),
    "water": ("blue", "turquoise", "green"),
}
_FISH: dict[str, Colour] = {
    "orange": (255, 128, 10),
    "yellow": (255, 226, 24),
    "purple": (150, 40, 190),
    "red": (226, 22, 40),
}
#: Water near the surface and in the deep.
_WATER: dict[str, tuple[Colour, Colour]] = {
    "blue": ((74, 150, 250), (10, 34, 128)),
    "turquoise": ((110, 236, 232), (6, 110, 134)),
    "green": ((140, 224, 130), (10, 84, 58)),
}
_MIDDLE = {word: canvas.mix(light, deep, 0.35) for word, (light, deep) in _WATER.items()}


def draw(traits: Mapping[str, str], rng: np.random.Generator) -> np.ndarray:
    """The film (16, 128, 128, 3) uint8; the seed sets the fishes' starts, the light rays and the coral's place."""
    light, deep = _WATER[traits["water"]]
    right, colour = traits["direction"] == "right", _FISH[traits["fish"]]
    still = canvas.gradient((0, light), (118, deep))
    ray = float(rng.uniform(0, 30))
    for x, wide in ((8, 7), (46, 10), (86, 6)):
        band = np.exp(-(((canvas.X - x - ray - 0.45 * canvas.Y + 20) / wide) ** 2)) * np.clip(1 - canvas.Y / 100, 0, 1)
        canvas.lay(still, (0.4 * band).astype(np.float32), canvas.mix(light, (255, 255, 255), 0.6))
    reef = canvas.film(still)
    starts, bubbles, shift = rng.uniform(-7, 7, 3), float(rng.uniform(0, 20)), float(rng.uniform(-6, 6))
    wag = float(rng.uniform(0, 2 * math.pi))
    for frame, time in zip(reef, canvas.TIME.tolist(), strict=True):
        for number, (x, y) in enumerate(((20, 112), (64, 90), (108, 120))):
            rise = (bubbles + 46 * time + 30 * number) % 80
            canvas.disc(frame, x + shift + 2 * math.sin(rise / 6), y - 20 - rise, 2.6, (235, 250, 255), 1.2, 0.55)
        _weed(frame, 10 + shift, time, wag)
        _weed(frame, 120 + shift, time, wag + 2)
    _coral(reef, shift)
    for frame, time in zip(reef, canvas.TIME.tolist(), strict=True):
        for number, (begin, y, size) in enumerate(((40, 24, 12.0), (18, 48, 15.0), (50, 74, 11.0))):
            x = begin + float(starts[number]) + (64, 74, 58)[number] * time
            bob = 2.5 * math.sin(2 * math.pi * time + 2 * number)
            beat = math.sin(6 * math.pi * time + wag + number)
            _fish(frame, x if right else canvas.SIZE - x, y + bob, size, right, beat, colour)
    return canvas.finish(reef)


def _fish(frame: np.ndarray, x: float, y: float, size: float, right: bool, beat: float, colour: Colour) -> None:
    """One fish of half-length `size` with a wagging tail, fins, a pale stripe and an eye."""
    side = size if right else -size

    def place(points: canvas.Points) -> canvas.Points:
        return [(x + side * px, y + size * py) for px, py in points]

    tail = 0.16 * beat
    dark = canvas.mix(colour, (0, 0, 0), 0.28)
    canvas.polygon(frame, place([(-0.62, 0), (-1.35, -0.52 + tail), (-1.16, tail), (-1.35, 0.52 + tail)]), dark)
    canvas.polygon(frame, place([(-0.45, -0.4), (-0.1, -0.86), (0.42, -0.42)]), dark)
    body = [
        (math.cos(a) * (0.98 if math.cos(a) > 0 else 0.9), 0.58 * math.sin(a))
        for a in np.linspace(0, 2 * math.pi, 28).tolist()
    ]
    canvas.polygon(frame, place(body), colour)
    canvas.polygon(frame, place([(0.08, -0.56), (0.32, -0.53), (0.32, 0.53), (0.08, 0.56)]), (255, 250, 240), 0.85)
    canvas.disc(frame, x + 0.62 * side, y - 0.14 * size, 0.15 * size, (16, 16, 24))


def _weed(frame: np.ndarray, x: float, time: float, phase: float) -> None:
    """A swaying ribbon of weed."""
    spine = [
        (x + 9 * t * t * math.sin(2 * math.pi * time + phase + 2 * t), 120 - 44 * t, 3.4 * (1 - t) + 0.8)
        for t in (0, 0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    canvas.polygon(
        frame, [(a - w, b) for a, b, w in spine] + [(a + w, b) for a, b, w in reversed(spine)], (20, 132, 84)
    )


def _coral(reef: np.ndarray, shift: float) -> None:
    """The bed: sand, a pink fan, an orange brain coral, purple tubes and a red branch."""
    for x, tall in ((62, 24), (70, 31), (78, 22)):
        for frame_part, paint in ((5.2, (128, 62, 186)), (2.4, (176, 112, 226))):
            inside = np.clip(
                frame_part - np.hypot(canvas.X - x - shift, np.minimum(canvas.Y - (122 - tall), 0)) + 0.5, 0, 1
            )
            canvas.lay(reef[:, 84:], inside[84:].astype(np.float32), paint)
    left, top, dx, dy = canvas.patch(30 + shift, 116, 26)
    lobe = 19 * (1 + 0.13 * np.cos(9 * np.arctan2(dy, dx)))
    canvas.lay(reef, np.clip(lobe - np.hypot(dx, dy) + 0.5, 0, 1), (250, 96, 150), left, top)
    canvas.lay(reef, np.clip(lobe - 8 - np.hypot(dx, dy), 0, 1) * 0.5, (255, 168, 196), left, top)
    for x, radius, paint in ((50, 10.0, (255, 150, 70)), (102, 14.0, (240, 70, 70)), (90, 8.0, (255, 200, 90))):
        canvas.disc(reef, x + shift, 120, radius, paint, 1.0)
    sand = 118 - 2.5 * np.sin(2 * np.pi * (canvas.X[0] - shift) / 90)
    canvas.lay(reef[:, 110:], canvas.ridge(sand, 1.0)[110:], (236, 206, 150))


def read(frames: np.ndarray) -> dict[str, str]:
    """The traits read back from a film (16, 128, 128, 3).

    Fish and direction: the hue most pixels vote for, and the track, of what differs from the time's median above the
    corals. Water: chromaticity of the still upper water.
    """
    calm = measure.still(frames)
    part = np.asarray(frames[:, 6:88], np.float32)
    change = measure.box(np.abs(part - calm[6:88]).sum(-1), 3, 3)
    fish = measure.strong(change, 0.5)
    angles, chroma = measure.hue(part[fish > 0])
    word = measure.nearest_hue(angles, np.where(chroma > 90, chroma, 0), _FISH)
    way = measure.side(measure.travel(fish, 1))
    water = measure.nearest(np.median(calm[10:70].reshape(-1, 3), axis=0), _MIDDLE)
    return {"fish": word, "direction": way, "water": water}


def captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Paraphrases that name the fish, their direction and the water; the first is the plain one."""
    fish, way, water = traits["fish"], traits["direction"], traits["water"]
    return (
        f"{fish} fish swimming {way} in a coral reef, {water} water",
        f"{fish} fish swimming {way} in a vibrant coral reef with {water} water",
        f"a coral reef in {water} water with {fish} fish swimming to the {way}",
        f"three {fish} fish going {way} over corals in {water} water",
        f"underwater, {water} sea, {fish} fish swim to the {way} past a reef",
        f"{water} water, a colourful reef and {fish} fish moving {way}",
        f"a film of {fish} fish gliding {way} through a {water} reef",
    )


def brief_captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Shorter prompts that leave something out."""
    return (
        "fish swimming in a vibrant coral reef",
        "fish in a coral reef",
        f"{traits['fish']} fish in a coral reef",
        f"fish swimming {traits['direction']} in a reef",
        f"a coral reef in {traits['water']} water",
        f"{traits['fish']} fish in {traits['water']} water",
    )


#: What the grammar says of this view.
PHRASES = Phrases(
    whole=(
        "{fish} {swimming} {way} in a {vibrant} {reef}, {water} water",
        "{fish} {swim} {way} in a {reef} with {water} water",
        "{fish} are {swimming} {way} past a {vibrant} {reef} in {water} water",
        "a {vibrant} {reef} in {water} water with {fish} {swimming} {way}",
        "{three} {fish} {swimming} {way} over {corals} in {water} water",
        "underwater, {water} {sea}, {fish} {swim} {way} past a {reef}",
        "{water} water, a {vibrant} {reef} and {fish} {swimming} {way}",
        "in {water} water {fish} {swim} {way} over the {corals}",
        "{film} of {fish} {swimming} {way} through a {reef} in {water} water",
        "{film} in which {fish} {swim} {way} in a {water} {sea} over {corals}",
        "{show} {fish} {swimming} {way} in a {vibrant} {reef} under {water} water",
        "{watch} {fish} {swim} {way} in {water} water over a {reef}",
        "under the {sea} {fish} {swim} {way}, the water is {water}",
        "{corals} and {fish} {swimming} {way}, {water} water",
        "a {group} of {fish} {swimming} {way} in the {water} water of a {reef}",
        "an underwater scene with {fish} {swimming} {way}, {corals} and {water} water",
        "there are {fish} {swimming} {way} in a {water} {sea} with {corals}",
    ),
    brief=(
        "{fish} in a {reef}",
        "fish {swimming} {way}",
        "a {vibrant} {reef}",
        "a {reef} in {water} water",
        "{fish} in {water} water",
        "fish {swimming} in a {vibrant} {reef}",
        "an underwater scene with {fish}",
    ),
    scenery={
        "reef": ("coral reef", "coral reef", "reef", "coral garden", "tropical reef"),
        "vibrant": ("vibrant", "colourful", "colorful", "lively", "beautiful", "busy"),
        "corals": ("corals", "coral", "seaweed and corals", "sea plants", "coral beds"),
        "group": ("school", "shoal", "group", "family"),
        "three": ("three", "3", "a few", "some"),
        "sea": ("sea", "ocean"),
        "swimming": ("swimming", "swimming", "gliding", "moving", "drifting", "going", "heading", "passing"),
        "swim": ("swim", "swim", "glide", "move", "drift", "go", "head"),
    },
    traits={
        "fish": {
            "orange": {"fish": ("orange fish", "orange fish", "tangerine fish", "bright orange fish")},
            "yellow": {"fish": ("yellow fish", "yellow fish", "golden fish", "lemon yellow fish")},
            "purple": {"fish": ("purple fish", "purple fish", "violet fish", "bright purple fish")},
            "red": {"fish": ("red fish", "red fish", "scarlet fish", "crimson fish")},
        },
        "direction": SIDES,
        "water": {
            "blue": {"water": ("blue", "blue", "deep blue", "azure", "bright blue")},
            "turquoise": {"water": ("turquoise", "turquoise", "teal", "aqua")},
            "green": {"water": ("green", "green", "emerald", "sea green")},
        },
    },
)
