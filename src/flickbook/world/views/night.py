"""The moon and shooting stars over hills."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flickbook.world.views import canvas, measure
from flickbook.world.views.canvas import Colour
from flickbook.world.views.phrases import SIDES, Phrases

NAME = "night"
TRAITS: dict[str, tuple[str, ...]] = {
    "stars": ("left", "right"),
    "sky": ("blue", "purple", "green"),
    "moon": ("full", "crescent"),
}
#: Zenith and horizon of the sky, then far and near hills.
_PALETTES: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "blue": ((10, 20, 78), (62, 116, 214), (24, 50, 118), (8, 16, 44)),
    "purple": ((36, 8, 74), (168, 76, 204), (76, 28, 116), (22, 6, 42)),
    "green": ((4, 42, 44), (48, 178, 124), (14, 84, 70), (4, 28, 28)),
}
_SKIES = {word: canvas.mix(palette[0], palette[1], 0.3) for word, palette in _PALETTES.items()}
_MOON: Colour = (255, 248, 214)
#: Fixed stars, clear of the moon: x, y, brightness.
_STARS = (
    (7, 7, 0.9),
    (121, 9, 0.9),
    (62, 9, 0.9),
    (68, 34, 0.7),
    (58, 56, 0.6),
    (6, 52, 0.7),
    (122, 50, 0.7),
    (30, 66, 0.5),
    (96, 62, 0.5),
    (80, 72, 0.4),
)


def draw(traits: Mapping[str, str], rng: np.random.Generator) -> np.ndarray:
    """The film (16, 128, 128, 3) uint8; the seed places the moon, the hills and the paths of three shooting stars."""
    zenith, horizon, far, near = _PALETTES[traits["sky"]]
    still = canvas.gradient((0, zenith), (58, canvas.mix(zenith, horizon, 0.45)), (100, horizon))
    right = traits["stars"] == "right"
    for x, y, light in _STARS:
        canvas.blob(still, x, y, 1.5, 1.5, (255, 255, 255), light)
    moon = float(rng.uniform(26, 40))
    _moon(still, moon if right else canvas.SIZE - moon, float(rng.uniform(24, 32)), traits["moon"])
    sky = canvas.film(still)
    starts, heights = rng.uniform(0, 10, 3), rng.uniform(-4, 4, 3)
    for number, (start, rise) in enumerate(zip(starts.tolist(), heights.tolist(), strict=True)):
        for index, frame in enumerate(sky):
            age = (index - 4.5 * number) / 6.0
            if -0.1 <= age <= 1.3:
                _shooting(frame, age, start + (30, 10, 44)[number], rise + (16, 40, 26)[number], right)
    turn = 2 * np.pi * canvas.X[0] / canvas.SIZE
    for depth, height in enumerate((90, 102, 114)):
        line = height - 6 * np.sin((1.0, 1.4, 0.8)[depth] * turn + float(rng.uniform(0, 2 * np.pi)))
        top = int(line.min()) - 2
        canvas.lay(sky[:, top:], canvas.ridge(line, 1.0)[top:], canvas.mix(far, near, depth / 2))
    return canvas.finish(sky)


def _moon(still: np.ndarray, x: float, y: float, phase: str) -> None:
    canvas.blob(still, x, y, 30, 30, _MOON, 0.3)
    left, top, dx, dy = canvas.patch(x, y, 17)
    alpha = np.clip(14 - np.hypot(dx, dy) + 0.5, 0, 1)
    if phase == "crescent":
        alpha = alpha * np.clip(np.hypot(dx - 7, dy + 3) - 12.5, 0, 1)
    canvas.lay(still, alpha, _MOON, left, top)


def _shooting(frame: np.ndarray, age: float, start: float, height: float, right: bool) -> None:
    """One star at `age` 0..1 of its fall: 62 pixels sideways, 34 down, its tail 30 pixels long."""
    x, y = start - 10 + 62 * age, height + 34 * age
    strength = min(1.0, 4 * (age + 0.12), 3.2 * (1.32 - age))
    tail, head = (x - 28, y - 15.4), (x, y)
    if not right:
        tail, head = (canvas.SIZE - tail[0], tail[1]), (canvas.SIZE - head[0], head[1])
    before = frame.copy()
    canvas.streak(frame, tail, head, 2.0, (255, 250, 225))
    canvas.blob(frame, head[0], head[1], 3.4, 3.4, (255, 255, 245), 1.0)
    frame += (1 - strength) * (before - frame)


def read(frames: np.ndarray) -> dict[str, str]:
    """The traits read back from a film (16, 128, 128, 3).

    Stars: the way what is brighter than the time's median correlates with itself a frame later, between 5 and 16
    pixels to the right against as far to the left. Sky: chromaticity above the hills. Moon: the share of its bounding
    box that the brightest still thing fills.
    """
    calm = measure.still(frames)
    change = np.clip(measure.box(measure.luminance(frames) - measure.luminance(calm), 3, 3)[:, :84], 0, None)
    change[change < 8] = 0
    spectrum = np.fft.rfft2(change, (128, 256))
    match = np.fft.irfft2((spectrum[1:] * spectrum[:-1].conj()).sum(0), (128, 256))[:12]
    right, left = float(match[:, 5:17].max()), float(match[:, -16:-4].max())
    stars = measure.NONE
    if max(right, left) > measure.STREAKS * min(right, left) + 1:
        stars = "right" if right > left else "left"
    sky = measure.nearest(np.median(calm[4:60].reshape(-1, 3), axis=0), _SKIES)
    return {"stars": stars, "sky": sky, "moon": _read_moon(measure.luminance(calm)[:60])}


def _read_moon(light: np.ndarray) -> str:
    around = measure.box(light, 17, 17)
    y, x = np.unravel_index(int(np.argmax(around)), around.shape)
    part = light[max(int(y) - 20, 0) : int(y) + 21, max(int(x) - 20, 0) : int(x) + 21]
    part = measure.box(part, 3, 3)
    lit = part > (float(np.median(light)) + float(np.percentile(part, 98))) / 2
    rows, columns = np.flatnonzero(lit.sum(1) > 2), np.flatnonzero(lit.sum(0) > 2)
    if not len(rows) or not len(columns):
        return measure.NONE
    filled = float(lit.sum()) / ((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
    return "full" if filled > measure.FULL_MOON else "crescent"


def captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Paraphrases that name the stars' direction, the sky and the moon; the first is the plain one."""
    way, sky, moon = traits["stars"], traits["sky"], traits["moon"]
    return (
        f"a {moon} moon and shooting stars falling {way} over hills, {sky} night sky",
        f"shooting stars over hills falling to the {way}, {moon} moon, {sky} sky",
        f"a {sky} night with a {moon} moon, shooting stars flying {way} over the hills",
        f"under a {moon} moon shooting stars streak {way} across a {sky} sky above hills",
        f"{sky} night sky, {moon} moon, meteors falling to the {way} over rolling hills",
        f"a starry {sky} night over hills, stars shooting {way}, a {moon} moon",
        f"a film of shooting stars going {way} past a {moon} moon in a {sky} sky over hills",
    )


def brief_captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Shorter prompts that leave something out."""
    return (
        "shooting stars over hills",
        "the moon and shooting stars over hills at night",
        f"a {traits['moon']} moon over hills",
        f"shooting stars falling {traits['stars']}",
        f"shooting stars in a {traits['sky']} night sky",
        f"a {traits['sky']} starry night with a {traits['moon']} moon",
    )


#: What the grammar says of this view.
PHRASES = Phrases(
    whole=(
        "{stars} {falling} {way} {over} the {hills}, {sky} night sky, {moon}",
        "{stars} {fall} {way} {over} the {hills} under a {moon} in a {sky} sky",
        "{stars} are {falling} {way} across a {sky} sky, a {moon} above the {hills}",
        "a {moon} and {stars} {falling} {way} {over} the {hills}, {sky} sky",
        "a {sky} night with a {moon}, {stars} {falling} {way} {over} the {hills}",
        "under a {moon} {stars} {fall} {way} across a {sky} sky",
        "{sky} night sky, {moon}, {stars} {falling} {way}",
        "a starry {sky} night {over} {hills}, {stars} {falling} {way}, a {moon}",
        "{film} of {stars} {falling} {way} past a {moon} in a {sky} sky",
        "{film} of a {sky} night: a {moon}, {hills}, and {stars} {falling} {way}",
        "{show} {stars} {falling} {way} {over} the {hills}, with a {moon} in a {sky} sky",
        "{watch} {stars} {fall} {way} {over} {hills} on a {sky} night with a {moon}",
        "the {moon} shines while {stars} {fall} {way} in a {sky} night sky",
        "at night, a {moon} in a {sky} sky and {stars} {falling} {way}",
        "{hills} at night under a {sky} sky with a {moon}, {stars} {falling} {way}",
        "falling stars streak {way} {over} the {hills} under a {moon} in a {sky} sky",
        "a {sky} night of falling stars that race {way} {over} {hills}, a {moon}",
        "the night sky is {sky}, there is a {moon}, and {stars} {fall} {way}",
    ),
    brief=(
        "{stars} over {hills}",
        "a {moon} over the {hills}",
        "{stars} {falling} {way}",
        "{stars} in a {sky} night sky",
        "a {sky} night with a {moon}",
        "a night of {stars} and a {moon}",
    ),
    scenery={
        "stars": ("shooting stars", "shooting stars", "meteors", "comets"),
        "hills": ("hills", "rolling hills", "dark hills", "hilltops", "low hills", "slopes"),
        "over": ("over", "above"),
        "falling": ("falling", "flying", "streaking", "racing", "darting", "rushing", "moving", "going"),
        "fall": ("fall", "fly", "streak", "race", "dart", "rush", "move", "go"),
    },
    traits={
        "stars": SIDES,
        "sky": {
            "blue": {"sky": ("blue", "blue", "dark blue", "deep blue", "navy")},
            "purple": {"sky": ("purple", "purple", "violet", "deep purple", "dark purple")},
            "green": {"sky": ("green", "green", "dark green", "deep green", "emerald")},
        },
        "moon": {
            "full": {"moon": ("full moon", "full moon", "round moon", "bright full moon")},
            "crescent": {"moon": ("crescent moon", "crescent moon", "thin moon", "sickle moon", "slender moon")},
        },
    },
)
