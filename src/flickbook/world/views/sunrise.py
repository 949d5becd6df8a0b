"""A sun that rises or sets over three ranges of mountains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flickbook.world.views import canvas, measure
from flickbook.world.views.canvas import Colour
from flickbook.world.views.phrases import Phrases

NAME = "sunrise"
TRAITS: dict[str, tuple[str, ...]] = {
    "direction": ("rising", "setting"),
    "sky": ("orange", "pink", "purple", "blue"),
    "weather": ("clear", "cloudy", "misty"),
}
#: Zenith, middle and horizon of the sky, then far and near mountains.
_PALETTES: dict[str, tuple[Colour, Colour, Colour, Colour, Colour]] = {
    "orange": ((214, 84, 34), (250, 142, 48), (255, 206, 110), (176, 74, 52), (58, 22, 34)),
    "pink": ((206, 84, 150), (248, 136, 176), (255, 204, 206), (172, 82, 132), (62, 24, 66)),
    "purple": ((66, 34, 128), (122, 66, 186), (206, 140, 226), (96, 54, 146), (30, 14, 62)),
    "blue": ((44, 112, 206), (102, 172, 238), (206, 232, 250), (70, 122, 168), (18, 44, 74)),
}
_SUN: Colour = (255, 246, 196)
_LOW_SUN: Colour = (255, 196, 104)
_DUSK = np.array((0.74, 0.56, 0.66), np.float32)  # what a low sun leaves of the sky's red, green and blue
_LOW, _HIGH = 99.0, 34.0  # the sun's height y behind the ridge and in the sky


def _ranges(rng: np.random.Generator) -> list[np.ndarray]:
    """Three ridge lines (128,) of y, far to near, each of two slow waves."""
    lines = []
    for height, swell, wave in ((78, 9, 1.6), (94, 8, 2.1), (110, 6, 1.3)):
        first, second = rng.uniform(0, 2 * np.pi, 2)
        turn = 2 * np.pi * canvas.X[0] / canvas.SIZE
        peak = np.abs(np.sin(0.5 * wave * turn + first))  # a folded wave has the sharp peaks of a mountain
        lines.append((height - swell * (2 * (1 - peak) - 0.8) - 2 * np.sin(2 * turn + second)).astype(np.float32))
    return lines


def draw(traits: Mapping[str, str], rng: np.random.Generator) -> np.ndarray:
    """The film (16, 128, 128, 3) uint8; the seed moves the sun sideways and shapes the ridges and clouds."""
    zenith, middle, horizon, far, near = _PALETTES[traits["sky"]]
    lines = _ranges(rng)
    x, drift = float(rng.uniform(42, 86)), float(rng.uniform(-8, 8))
    sky = canvas.film(canvas.gradient((0, zenith), (48, middle), (92, horizon)))
    climb = canvas.TIME if traits["direction"] == "rising" else 1 - canvas.TIME
    for frame, rise, time in zip(sky, climb.tolist(), canvas.TIME.tolist(), strict=True):
        frame *= rise + (1 - rise) * _DUSK
        sun = canvas.mix(_LOW_SUN, _SUN, rise)
        y = _LOW + (_HIGH - _LOW) * rise
        canvas.blob(frame, x, y, 52, 40, canvas.mix(horizon, sun, 0.4), 0.55)
        canvas.blob(frame, x, y, 24, 24, sun, 0.55)
        canvas.disc(frame, x, y, 13, canvas.mix(sun, _SUN, 0.4), 1.2)
        if traits["weather"] == "cloudy":
            _clouds(frame, drift + 14 * time, canvas.mix(middle, (255, 250, 250), 0.72 - 0.2 * (1 - rise)))
    for depth, line in enumerate(lines):
        colour = canvas.mix(far, near, (0.0, 0.5, 1.0)[depth])
        top = int(line.min()) - 2
        canvas.lay(sky[:, top:], canvas.ridge(line, 1.0)[top:], colour)
        if traits["weather"] == "misty":
            foot = np.clip((canvas.Y - 76 - 15 * depth) / 30, 0, 1)  # thicker towards the foot of each range
            bank = (0.85, 0.75, 0.5)[depth] * foot * canvas.ridge(line, 1.0)
            canvas.lay(sky[:, top:], bank[top:].astype(np.float32), canvas.mix(horizon, (250, 250, 252), 0.6))
    return canvas.finish(sky)


def _clouds(frame: np.ndarray, shift: float, colour: Colour) -> None:
    """Three long soft clouds that drift to the right."""
    for x, y, size in ((16, 22, 1.1), (66, 38, 0.9), (106, 16, 1.2)):
        for step, wide, high in ((0, 17, 5), (-9, 9, 5), (7, 10, 7)):
            canvas.blob(frame, x + shift + step * size, y - (high - 5), wide * size, high * size, colour, 0.8)


def read(frames: np.ndarray) -> dict[str, str]:
    """The traits read back from a film (16, 128, 128, 3).

    Direction: the track of the disc that is brighter than both the time's mean and its frame's sky. Sky: chromaticity
    at the top of the brightest frames. Weather: mist makes the mountains brighter towards their feet, clouds are
    bright bands that stay in the upper sky.
    """
    light = measure.luminance(frames)
    change = light - light.mean(0)
    change -= np.median(change[:, :70], axis=(1, 2), keepdims=True)
    sun = np.clip(measure.box(change, 15, 15)[:, :100], 0, None)
    moved = measure.travel(measure.strong(sun, 0.6) ** 2, 0)
    bright = np.argsort(light[:, :40].mean((1, 2)))[-5:]
    top = np.median(frames[bright, :10].reshape(-1, 3), axis=0)
    stays = measure.luminance(measure.still(frames))
    smooth = measure.box(stays, 5, 9)
    foot = float(np.median(smooth[92:124] - smooth[88:120])) / 4
    band = smooth[13:48] - np.maximum(smooth[:35], smooth[26:61])
    weather = "clear"
    if foot > measure.MIST:
        weather = "misty"
    elif float(np.percentile(band, 97)) > measure.CLOUD:
        weather = "cloudy"
    direction = measure.NONE
    if abs(moved) >= measure.LEAST_TRAVEL:
        direction = "rising" if moved < 0 else "setting"
    sky = measure.nearest(top, {word: palette[0] for word, palette in _PALETTES.items()})
    return {"direction": direction, "sky": sky, "weather": weather}


_WEATHER = {"clear": "a clear", "cloudy": "a cloudy", "misty": "a misty"}


def captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Paraphrases that name direction, sky and weather; the first is the plain one."""
    sky, weather = traits["sky"], traits["weather"]
    coming = traits["direction"] == "rising"
    verb, event, time = ("rising", "sunrise", "morning") if coming else ("setting", "sunset", "evening")
    lead = "an" if sky == "orange" else "a"
    return (
        f"a sun {verb} over mountains, {sky} sky, {weather} weather",
        f"a peaceful {event} over mountain ranges with {lead} {sky} sky, {weather}",
        f"{_WEATHER[weather]} {sky} {event} over the mountains",
        f"the sun is {verb} behind the mountains in {lead} {sky} sky on {_WEATHER[weather]} {time}",
        f"{event} in the mountains, {weather} {sky} sky",
        f"mountains on {_WEATHER[weather]} {time}, the sun {verb} in {lead} {sky} sky",
        f"a film of a beautiful {event} over mountain peaks, {weather}, {sky} sky",
    )


def brief_captions(traits: Mapping[str, str]) -> tuple[str, ...]:
    """Shorter prompts that leave something out."""
    verb, event = ("rising", "sunrise") if traits["direction"] == "rising" else ("setting", "sunset")
    return (
        f"a peaceful {event} over mountain ranges",
        f"{event} over mountains",
        f"a sun {verb} over mountains",
        f"{_WEATHER[traits['weather']]} {event} over mountains",
        f"mountains under {'an' if traits['sky'] == 'orange' else 'a'} {traits['sky']} sky",
        f"the sun over {traits['weather']} mountains",
    )


#: What the grammar says of this view.
PHRASES = Phrases(
    whole=(
        "the sun {rising} {over} the {mountains}, {sky} sky, {clear} weather",
        "the sun {rises} {over} the {mountains} in a {sky} sky, {with}",
        "the sun is {rising} {over} the {mountains} in a {sky} sky on a {clear} {time}",
        "a {calm} {event} over the {mountains} with a {sky} sky, {clear}",
        "a {clear} {sky} {event} over the {mountains}",
        "{event} in the {range}, {clear} {sky} sky",
        "under a {clear} {sky} sky the sun {rises} {over} the {mountains}",
        "{mountains} on a {clear} {time}, the sun {rising} in a {sky} sky",
        "a {sky} sky and the sun {rising} {over} the {mountains}, {clear} weather",
        "{film} of the sun {rising} {over} the {mountains}, {clear}, with a {sky} sky",
        "{film} of a {calm} {event} over {mountains}, {clear}, {sky} sky",
        "{clear} {time}, {sky} sky, the sun {rising} {over} the {mountains}",
        "the sky is {sky} and {clear} while the sun {rises} {over} the {mountains}",
        "{mountains} at {event} under a {clear} {sky} sky",
        "{show} the sun {rising} {over} {mountains} in a {clear} {sky} sky",
        "{show} a {calm} {event} in the {range} {with} and a {sky} sky",
        "{watch} the sun {rise} {over} the {mountains} in a {clear} {sky} sky",
        "it is a {clear} {time} in the {range} and the sun is {rising} in a {sky} sky",
        "the {mountains} {with}, a {sky} sky and a {rising} sun",
    ),
    brief=(
        "{event} over {mountains}",
        "a {calm} {event}",
        "the sun {rising} {over} the {mountains}",
        "a {clear} {event} in the {range}",
        "{mountains} under a {sky} sky",
        "a {sky} {event}",
        "the sun {rises}",
    ),
    scenery={
        "mountains": ("mountains", "mountain ranges", "mountain peaks", "peaks", "hills", "alps", "ridges", "summits")
        + ("highlands", "mountain tops"),
        "range": ("mountains", "mountains", "hills", "highlands", "alps"),
        "over": ("over", "above", "behind", "beyond"),
        "calm": ("peaceful", "beautiful", "quiet", "serene", "lovely", "tranquil", "scenic", "gorgeous", "dramatic"),
    },
    traits={
        "direction": {
            "rising": {
                "rising": ("rising", "coming up", "climbing", "ascending"),
                "rises": ("rises", "comes up", "climbs", "ascends"),
                "rise": ("rise", "come up", "climb"),
                "event": ("sunrise", "sunrise", "dawn", "daybreak"),
                "time": ("morning", "early morning", "new day"),
            },
            "setting": {
                "rising": ("setting", "going down", "sinking", "descending"),
                "rises": ("sets", "goes down", "sinks", "descends"),
                "rise": ("set", "go down", "sink"),
                "event": ("sunset", "sunset", "dusk", "sundown", "nightfall"),
                "time": ("evening", "late evening"),
            },
        },
        "sky": {
            "orange": {"sky": ("orange", "orange", "amber", "peach", "apricot")},
            "pink": {"sky": ("pink", "pink", "rose", "rosy")},
            "purple": {"sky": ("purple", "purple", "violet", "lilac", "lavender")},
            "blue": {"sky": ("blue", "blue", "bright blue", "azure")},
        },
        "weather": {
            "clear": {"clear": ("clear", "clear", "cloudless"), "with": ("without clouds", "without a cloud")},
            "cloudy": {"clear": ("cloudy", "cloudy", "overcast"), "with": ("with clouds", "with drifting clouds")},
            "misty": {"clear": ("misty", "misty", "foggy", "hazy"), "with": ("in the mist", "in the fog", "with haze")},
        },
    },
)
