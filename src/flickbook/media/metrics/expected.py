"""Quality scores that may be low because the prompt asks for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

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


def expected(prompts: Sequence[str]) -> frozenset[str]:
    """Return the names of the scores whose low value the `prompts` of a film explain.

    Several different prompts imply a change of colours, and a visible change where the next one begins.
    """
    found = {name for name, pattern in _PATTERNS.items() if any(pattern.search(each) for each in prompts)}
    if len({each.strip().lower() for each in prompts}) > 1:
        found |= {"constant", "seamless"}
    return frozenset(found)
