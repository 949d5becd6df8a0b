"""A neon city at night with flying vehicles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flickbook.world.views import canvas, measure
from flickbook.world.views.canvas import Colour
from flickbook.world.views.phrases import SIDES, Phrases

NAME = "city"
TRAITS: dict[str, tuple[str, ...]] = {
    "neon": ("pink", "cyan", "green", "orange"),
    "weather": ("rain", "clear", "snow"),
    "vehicles": ("left", "right"),
}
_NEON: dict[str, Colour] = {
    "pink": (255, 50, 160),
    "cyan": (30, 224, 250),
    "green": (60, 250, 90),
    "orange": (255, 140, 24),
}
_NIGHT: Colour = (14, 12, 34)
_STREET = 108
_RAIN = canvas.scatter(5, 1.4, 7.5, -0.25)
_SNOW = canvas.scatter(5, 2.1, 2.1, 0.0)
#: Left edge and width of the six buildings; which carry an upright sign.
_LOTS = ((-2, 22), (22, 18), (42, 24), (68, 18), (88, 20), (110, 22))
_SIGNS = (1, 4)


def draw(traits: Mapping[str, str], rng: np.random.Generator) -> np.ndarray:
    """The film (16, 128, 128, 3) uint8; the seed sets the roofs, the vehicles' starts and the rain's phase."""
    neon, right = _NEON[traits["neon"]], traits["vehicles"] == "right"
    city = canvas.film(_skyline(neon, rng))
    starts, lanes = rng.uniform(-6, 6, 2), rng.uniform(-3, 3, 2)
    for frame, time in zip(city, canvas.TIME.tolist(), strict=True):
        for number, (begin, travel, y) in enumerate(((20, 76, 24), (42, 66, 50))):
            x = begin + float(starts[number]) + travel * time
            _vehicle(frame, x if right else canvas.SIZE - x, y + float(lanes[number]), right, neon)
    if traits["weather"] != "clear":
        shift, drop = (int(v) for v in rng.integers(0, canvas.SIZE, 2))
        rain = traits["weather"] == "rain"
        pattern, fall, side = (_RAIN, 8, -2) if rain else (_SNOW, 4, 1)
        moved = np.stack([np.roll(pattern, (drop + fall * k, shift + side * k), (0, 1)) for k in range(canvas.FRAMES)])
        canvas.lay(city, moved * np.float32(0.5 if rain else 0.85), (190, 210, 240) if rain else (250, 250, 255))
    return canvas.finish(city)


def _skyline(neon: Colour, rng: np.random.Generator) -> np.ndarray:
    """The still part: sky, buildings with windows and signs, and the shining street."""
    haze = canvas.mix(_NIGHT, neon, 0.62)
    still = canvas.gradient((0, _NIGHT), (50, canvas.mix(_NIGHT, neon, 0.2)), (_STREET, haze))
    windows = _windows()
    for number, ((left, width), height) in enumerate(zip(_LOTS, rng.uniform(34, 76, 6).tolist(), strict=True)):
        roof = _STREET - height
        inside = np.clip(width / 2 - np.abs(canvas.X - left - width / 2) + 0.5, 0, 1)
        wall = inside * np.clip((canvas.Y - roof) / 1.6 + 0.5, 0, 1)
        canvas.lay(still, wall, (20, 18, 44) if number % 2 else (30, 26, 60))
        canvas.lay(still, windows * wall * np.clip((canvas.Y - roof - 6) / 2, 0, 1), (255, 206, 130))
        edge = inside * np.exp(-(((canvas.Y - roof - 1.5) / 1.8) ** 2))
        canvas.lay(still, edge.astype(np.float32), neon)
        if number in _SIGNS:
            middle = left + width / 2
            for soft, strength in ((6.0, 0.4), (2.4, 1.0)):
                sign = np.exp(-(((canvas.X - middle) / soft) ** 4)) * np.exp(
                    -(((canvas.Y - roof - 20) / (9 + soft)) ** 6)
                )
                canvas.lay(still, (strength * sign).astype(np.float32), neon)
    street = canvas.gradient((_STREET, canvas.mix(_NIGHT, neon, 0.75)), (canvas.SIZE, canvas.mix(_NIGHT, neon, 0.1)))
    canvas.lay(still, np.repeat(np.clip((canvas.Y - _STREET) / 2 + 0.5, 0, 1), canvas.SIZE, 1), street)
    return still


def _windows() -> np.ndarray:
    """Coverage (128, 128) of lit windows on a fixed lattice of 8 by 11 pixels, two of three lit."""
    column, row = np.floor(canvas.X / 8), np.floor(canvas.Y / 11)
    lit = (column * 2 + row) % 3 != 0
    dx, dy = np.abs(canvas.X % 8 - 4), np.abs(canvas.Y % 11 - 5.5)
    soft = np.clip(2.2 - dx, 0, 1) * np.clip(3.0 - dy, 0, 1)
    return np.asarray(0.62 * soft * lit * (canvas.Y < _STREET - 4), np.float32)


def _vehicle(frame: np.ndarray, x: float, y: float, right: bool, neon: Colour) -> None:
    """A flying car with a cabin, a glow below, a lamp in front and a red trail behind."""
    side = 1 if right else -1
    canvas.streak(frame, (x - 34 * side, y), (x - 9 * side, y), 2.6, (255, 40, 40))
    canvas.blob(frame, x, y + 6, 17, 5, neon, 0.9)
    canvas.blob(frame, x + 19 * side, y + 1, 10, 4.5, (255, 250, 214), 0.75)
    cabin = [(-6, -2), (-3, -7), (4, -7), (9, -2)]
    hull = [(-12, -2), (-8, -3.5), (10, -3.5), (15, 0), (12, 3.5), (-10, 3.5), (-13, 1)]
    canvas.polygon(frame, [(x + side * px, y + py) for px, py in cabin], (120, 200, 255))
    canvas.polygon(frame, [(x + side * px, y + py) for px, py in hull], (232, 232, 244))
    canvas.disc(frame, x + 13 * side, y, 2.6, (255, 255, 235))


def read(frames: np.ndarray) -> dict[str, str]:
    """The traits read back from a film (16, 128, 128, 3).

    Neon: chromaticity of the shining street. Vehicles: the track of the long bright things that differ from the time's
    median above the roofs. Weather: what fluctuates below the vehicles, measured by products of pixels two apart (which
    noise does not enter); rain is alike along its slant, snow alike in all directions.
    """
    calm = measure.still(frames)
    neon = measure.nearest(np.median(calm[111:117].reshape(-1, 3), axis=0), _NEON)
    change = measure.luminance(frames) - measure.luminance(calm)
    flying = np.clip(measure.box(change, 5, 19)[:, 8:64], 0, None)
    way = measure.side(measure.travel(measure.strong(flying, 0.6), 1))
    low = change[:, 68:] - change[:, 68:].mean((1, 2), keepdims=True)
    power = max(_match(low, 2, 0), _match(low, 0, 2), 0.0) ** 0.5
    weather = "clear"
    if power > measure.FALLING:
        slanted = _match(low, 5, -1) - _match(low, 1, 5)
        weather = "rain" if slanted > measure.STREAKED * power**2 else "snow"
    return {"neon": neon, "weather": weather, "vehicles": way}


def _match(change: np.ndarray, down: int, right: int) -> float:
    """Mean product of pixels `down` and `right` apart."""
    height, width = change.shape[1:]
    left = max(-right, 0)
    first = change[:, : height - down, left : width - max(right, 0)]
    second = change[:, down:, left + right : width - max(right, 0) + right]
    return float((first * second).mean())


_WEATHER = {"rain": "in the rain", "clear": "on a clear night", "snow": "in the snow"}
_ADJECTIVE = {"rain": "rainy", "clear": "clear", "snow": "snowy"}


def captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Paraphrases that name the neon, the weather and the vehicles' direction; the first is the plain one."""
    neon, way = traits["neon"], traits["vehicles"]
    when, kind = _WEATHER[traits["weather"]], _ADJECTIVE[traits["weather"]]
    lead = "an" if neon == "orange" else "a"
    return (
        f"{lead} {neon} neon city {when} with flying vehicles moving {way}",
        f"a neon city {when} with flying vehicles going {way}, {neon} lights",
        f"flying cars moving {way} through {lead} {neon} neon city {when}",
        f"a {kind} night in a futuristic city with {neon} neon lights, flying cars heading {way}",
        f"{neon} neon skyline {when}, vehicles flying to the {way}",
        f"a cyberpunk city {when}, {neon} neon, flying vehicles going to the {way}",
        f"a film of flying vehicles crossing {way} over a {kind} city of {neon} neon",
    )


def brief_captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Shorter prompts that leave something out."""
    neon, when = traits["neon"], _WEATHER[traits["weather"]]
    lead = "an" if neon == "orange" else "a"
    return (
        f"a neon city {when} with flying vehicles",
        "a neon city with flying cars",
        f"{lead} {neon} neon city",
        f"a futuristic city {when}",
        f"flying vehicles moving {traits['vehicles']} over a city",
        f"{lead} {neon} neon city {when}",
    )


#: What the grammar says of this view.
PHRASES = Phrases(
    whole=(
        "a {neon} neon {city} {when} with {cars} {flying} {way}",
        "a {modern} {city} {when}, {neon} neon {lights}, {cars} {flying} {way}",
        "{cars} {flying} {way} through a {neon} neon {city} {when}",
        "{cars} {fly} {way} over a {city} of {neon} neon {lights} {when}",
        "{cars} are {flying} {way} between {towers} with {neon} neon {lights} {when}",
        "{when}, {cars} {fly} {way} past {neon} neon {signs}",
        "{when} in a {modern} {city}, {cars} {flying} {way}, {neon} neon {lights}",
        "{neon} neon {city} {when}, {cars} {flying} {way}",
        "{film} of {cars} {flying} {way} over a {neon} neon {city} {when}",
        "{film} of a {modern} {city} {when}: {neon} neon, {cars} {flying} {way}",
        "{show} a {modern} {city} with {neon} neon {lights} {when} and {cars} {flying} {way}",
        "{show} {cars} {flying} {way} {when} above a {neon} neon {city}",
        "{watch} {cars} {fly} {way} through a {neon} neon {city} {when}",
        "{towers} with {neon} neon {signs} {when}, {cars} {flying} {way}",
        "there are {cars} {flying} {way} over a {city} lit in {neon} neon {when}",
        "a {city} glowing in {neon} neon {when}, {cars} {flying} {way}",
    ),
    brief=(
        "a neon {city} {when}",
        "a {neon} neon {city}",
        "a {modern} {city} with {cars}",
        "{cars} {flying} {way}",
        "a {modern} {city} {when}",
        "{towers} with {neon} neon {lights}",
    ),
    scenery={
        "city": ("city", "city", "town", "metropolis", "skyline", "cityscape", "downtown"),
        "modern": ("futuristic", "cyberpunk", "modern", "science fiction"),
        "cars": ("flying cars", "flying vehicles", "hover cars", "hovercars", "flying taxis"),
        "lights": ("lights", "lights", "signs", "lamps"),
        "signs": ("signs", "lights", "billboards"),
        "towers": ("skyscrapers", "towers", "tall buildings", "buildings"),
        "flying": ("moving", "going", "heading", "speeding", "rushing", "gliding", "zooming", "racing", "cruising"),
        "fly": ("fly", "move", "go", "head", "speed", "rush", "glide", "zoom", "race"),
    },
    traits={
        "neon": {
            "pink": {"neon": ("pink", "pink", "magenta", "hot pink")},
            "cyan": {"neon": ("cyan", "cyan", "aqua", "turquoise", "light blue")},
            "green": {"neon": ("green", "green", "lime", "lime green")},
            "orange": {"neon": ("orange", "orange", "amber", "bright orange")},
        },
        "weather": {
            "rain": {
                "when": ("in the rain", "in the rain", "on a rainy night", "while it rains", "in pouring rain")
                + ("in a downpour", "on a wet night")
            },
            "clear": {"when": ("on a clear night", "on a clear night", "on a dry night", "under a clear sky")},
            "snow": {
                "when": ("in the snow", "in the snow", "on a snowy night", "while it snows", "in falling snow")
                + ("in a snowfall", "in a blizzard")
            },
        },
        "vehicles": SIDES,
    },
)
