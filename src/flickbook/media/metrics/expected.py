"""Quality scores that may be low because the prompt asks for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

_COLOURS: Final = "red|orange|yellow|green|blue|purple|pink|white|black|grey|gray|brown|gold|silver|dark|light|bright"
#: Score -> the words that explain a low value, as regular expressions of whole words.
_EXPLAINED: Final[dict[str, tuple[str, ...]]] = {
    # A change of colour or light over the film.
    "constant": (
        "sunsets?|sunrises?|dawn|dusk|twilight|sundown|nightfall|daybreak|eclipse|time.?lapse|seasons?",
        r"(sun|moon)\b.*\b(rise|rises|rising|set|sets|setting)",
        "fad(e|es|ing)|darken(s|ing)?|brighten(s|ing)?|dim(s|ming)|chang(e|es|ing)|becom(e|es|ing)|transition(s|ing)?",
        "transform(s|ing|ation)?|morph(s|ing)?|dissolv(e|es|ing)|explod(e|es|ing)|explosions?|ignit(e|es|ing)",
        rf"turn(s|ing)?\s+(into|{_COLOURS})|from\s+({_COLOURS})\s+to\s+({_COLOURS})|(day|night)\s+(to|into)\s+(day|night)",
    ),
    # Light that comes and goes.
    "steady": (
        "flicker(s|ing)?|flash(es|ing)?|blink(s|ing)?|strob(e|es|ing)|lightning|thunderstorms?|fireworks?|disco",
        "candles?|candlelight|campfires?|bonfires?|flames?|sparkl(e|es|ing)|twinkl(e|es|ing)|glitch(es|ing)?",
    ),
    "moving": ("still|motionless|unmoving|frozen|photograph|photo",),
    "sharp": ("blur|blurred|blurry|bokeh|soft.focus|out.of.focus|fog|foggy|mist|misty|haze|hazy|smoke|smoky",),
    "clean": ("grain|grainy|noise|noisy|static|glitch|blizzard|snowstorm|vhs",),
    "not_black": (r"(fade|fades|fading|cut|cuts)\s+(to|from)\s+black|pitch.black|darkness|lights\s+out|blackout",),
}
_PATTERNS: Final = {
    name: re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE | re.DOTALL) for name, words in _EXPLAINED.items()
}
#: Colours by name, in RGB, to tell whether a picture has a colour that a prompt names.
_SHADES: Final = {
    "red": (210, 40, 40),
    "orange": (240, 140, 40),
    "yellow": (240, 220, 50),
    "green": (50, 160, 60),
    "blue": (40, 80, 210),
    "purple": (130, 50, 160),
    "pink": (245, 160, 190),
    "brown": (120, 75, 40),
    "white": (245, 245, 245),
    "gray": (128, 128, 128),
    "black": (15, 15, 15),
}
#: The share of a picture that has a colour at least, if the picture has it.
_VISIBLE: Final = 0.01


def expected(prompts: Sequence[str], picture: np.ndarray | None = None) -> frozenset[str]:
    """Return the names of the scores whose low value the `prompts` of a film explain.

    Several different prompts imply a change of colours, and a visible change where the next one begins. So does a
    `picture` (h, w, 3) uint8 that the film begins with, if it lacks a colour that a prompt names.
    """
    found = {name for name, pattern in _PATTERNS.items() if any(pattern.search(each) for each in prompts)}
    if len({each.strip().lower() for each in prompts}) > 1:
        found |= {"constant", "seamless"}
    if picture is not None and _lacks_a_colour(picture, " ".join(prompts)):
        found.add("constant")
    return frozenset(found)


def _lacks_a_colour(picture: np.ndarray, text: str) -> bool:
    """Whether a text names a colour that no visible part of a picture has."""
    named = {*re.findall("[a-z]+", text.lower().replace("grey", "gray"))} & _SHADES.keys()
    pixels = picture[:: max(1, len(picture) // 128), :: max(1, picture.shape[1] // 128)].reshape(-1, 1, 3).astype(int)
    nearest = np.square(pixels - np.array([*_SHADES.values()])).sum(-1).argmin(-1)
    return any((nearest == index).mean() < _VISIBLE for index, name in enumerate(_SHADES) if name in named)
