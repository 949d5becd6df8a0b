"""The words for each value of a scene: synonyms of colours, shapes, sizes, motions, numbers and grounds.

The first word of a value is the one `captions.canonical` uses. A value's words name no other value of its table.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Final

_Table = dict[str, tuple[str, ...]]
#: The options of each symbol of the grammar.
Rules = dict[str, tuple[str, ...]]

#: Names of an object's colour: they stand before a noun and after "in".
COLOURS: Final[_Table] = {
    "red": ("red", "bright red", "crimson", "scarlet", "ruby red", "cherry red", "vermilion", "tomato red"),
    "green": ("green", "bright green", "emerald", "emerald green", "jade green", "grass green", "leaf green"),
    "blue": ("blue", "bright blue", "royal blue", "cobalt", "cobalt blue", "sapphire blue", "ultramarine"),
    "yellow": ("yellow", "bright yellow", "lemon yellow", "canary yellow", "gold", "sunflower yellow"),
    "purple": ("purple", "bright purple", "violet", "grape purple", "plum", "amethyst"),
    "orange": ("orange", "bright orange", "tangerine", "pumpkin orange", "carrot orange"),
    "white": ("white", "pure white", "snow white", "pearl white", "chalk white", "ivory"),
    "pink": ("pink", "bright pink", "hot pink", "rose", "rose pink", "bubblegum pink", "flamingo pink"),
}
#: Words for a colour that stand only before a noun.
ADJECTIVES: Final[_Table] = {
    "red": ("red coloured", "red colored", "reddish"),
    "green": ("green coloured", "green colored", "greenish"),
    "blue": ("blue coloured", "blue colored", "bluish"),
    "yellow": ("yellow coloured", "yellow colored", "golden"),
    "purple": ("purple coloured", "purple colored", "purplish"),
    "orange": ("orange coloured", "orange colored"),
    "white": ("white coloured", "white colored", "snowy", "milky"),
    "pink": ("pink coloured", "pink colored", "rosy"),
}
BACKGROUNDS: Final[_Table] = {
    "black": ("black", "jet black", "pitch black", "coal black", "inky black", "ebony"),
    "blue": ("blue", "dark blue", "deep blue", "navy", "navy blue", "indigo"),
    "grey": ("grey", "gray", "ash grey", "stone gray", "slate grey", "concrete gray"),
    "green": ("green", "dark green", "deep green", "forest green", "bottle green", "pine green"),
    "white": ("white", "pure white", "bright white", "snow white", "chalk white"),
    "brown": ("brown", "dark brown", "chocolate brown", "coffee brown", "chestnut", "earth brown"),
}
SHAPES: Final[_Table] = {
    "circle": ("circle", "ball", "disc", "disk", "dot", "sphere", "orb", "spot", "circular shape", "globe"),
    "square": ("square", "box", "block", "cube", "tile", "square shape"),
    "triangle": ("triangle", "triangular shape", "pyramid", "wedge"),
    "star": ("star", "pointed star", "five pointed star", "star shape", "pentagram"),
    "cross": ("cross", "plus", "plus sign", "plus symbol", "cross shape"),
    "ring": ("ring", "hoop", "doughnut", "donut", "hollow circle", "loop", "circular band", "annulus"),
}
SIZES: Final[_Table] = {
    "small": ("small", "little", "tiny", "mini", "miniature", "wee", "small sized"),
    "medium": ("medium", "medium sized", "mid sized", "average sized", "normal sized", "regular sized", "medium size"),
    "large": ("large", "big", "huge", "giant", "enormous", "massive", "great big", "gigantic", "oversized"),
}
#: Numbers in words; those of digits follow "digit" or "number".
NUMBERS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS: Final = ("digit", "number", "figure", "numeral")

#: Verbs: base, third person, participle, and a participle spelt the other way.
_VERBS: Final = """
    move moves moving, go goes going, slide slides sliding, glide glides gliding, drift drifts drifting,
    travel travels travelling traveling, head heads heading, float floats floating, fly flies flying,
    shift shifts shifting, cruise cruises cruising, coast coasts coasting, slip slips slipping, skim skims skimming,
    rise rises rising, climb climbs climbing, ascend ascends ascending, soar soars soaring, fall falls falling,
    sink sinks sinking, drop drops dropping, descend descends descending, plunge plunges plunging,
    bounce bounces bouncing, jump jumps jumping, hop hops hopping, leap leaps leaping,
    spring springs springing, bob bobs bobbing, circle circles circling, orbit orbits orbiting, run runs running,
    follow follows following, trace traces tracing, grow grows growing, get gets getting, become becomes becoming,
    expand expands expanding, swell swells swelling, inflate inflates inflating, enlarge enlarges enlarging,
    increase increases increasing, scale scales scaling, shrink shrinks shrinking, contract contracts contracting,
    dwindle dwindles dwindling, deflate deflates deflating, decrease decreases decreasing,
    diminish diminishes diminishing, spin spins spinning, rotate rotates rotating, turn turns turning,
    twirl twirls twirling, whirl whirls whirling, revolve revolves revolving, pivot pivots pivoting
"""
VERBS: Final = {entry.split()[0]: tuple(entry.split()) for entry in _VERBS.split(",")}

_SMOOTHLY: Final = ("smoothly", "steadily", "gently")


def _sideways(way: str, other: str) -> tuple[str, ...]:
    tails: tuple[str, ...] = (
        way,
        f"to the {way}",
        f"{way}ward",
        f"{way}wards",
        f"towards the {way}",
        f"toward the {way}",
    )
    tails += (f"from {other} to {way}", f"over to the {way}", f"to the {way} side", f"towards the {way} edge")
    return tails + tuple(f"{manner} to the {way}" for manner in _SMOOTHLY)


def _upright(way: str, end: str, other: str) -> tuple[str, ...]:
    tails = (way, f"{way}ward", f"{way}wards", f"straight {way}", f"to the {end}", f"towards the {end}")
    return (*tails, f"from {other} to {end}", *(f"{manner} {way}wards" for manner in _SMOOTHLY))


_GLIDE: Final = ("move", "go", "slide", "glide", "drift", "travel", "float", "fly", "coast")
_ROUND: Final = ("in a circle", "in circles", "around in a circle", "round in a circle", "round and round in circles")
_TURN: Final = ("", "around", "round", "in place", "on the spot")
#: Each motion: the verbs that say it, and what may follow each of them.
_MOVES: Final[dict[str, tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]]] = {
    "left": (((*_GLIDE, "head", "shift", "cruise", "slip", "skim"), _sideways("left", "right")),),
    "right": (((*_GLIDE, "head", "shift", "cruise", "slip", "skim"), _sideways("right", "left")),),
    "up": (
        (("move", "go", "slide", "glide", "drift", "travel", "float", "fly", "climb"), _upright("up", "top", "bottom")),
        (("rise", "climb", "ascend"), ("", "to the top", "smoothly", "steadily")),
        (("rise", "soar"), ("up", "upward", "upwards")),
    ),
    "down": (
        (("move", "go", "slide", "glide", "drift", "travel", "float"), _upright("down", "bottom", "top")),
        (("fall", "sink", "drop", "descend"), ("", "to the bottom", "smoothly", "steadily")),
        (("fall", "sink", "drop", "plunge"), ("down", "downward", "downwards")),
    ),
    "bouncing": (
        (("bounce", "jump", "hop"), ("", "up and down", "on the spot", "in place", "again and again")),
        (("bounce",), ("on the ground",)),
        (("leap", "spring", "bob"), ("up and down",)),
    ),
    "circling": (
        (("circle",), ("", "around", "round", "round and round")),
        (("move", "go", "travel", "fly", "glide", "run"), _ROUND),
        (("follow", "trace"), ("a circle", "a circular path")),
        (("orbit",), ("", "around the centre", "around the center", "around the middle")),
    ),
    "growing": (
        (("grow",), ("", "bigger", "larger", "in size")),
        (("get", "become"), ("bigger", "larger", "bigger and bigger", "larger and larger")),
        (("expand", "swell", "inflate", "enlarge"), ("", "steadily")),
        (("scale",), ("up",)),
        (("increase",), ("in size",)),
    ),
    "shrinking": (
        (("shrink",), ("", "away", "in size", "steadily")),
        (("get", "become"), ("smaller", "smaller and smaller", "tinier")),
        (("contract", "dwindle", "deflate", "diminish"), ("", "steadily")),
        (("scale",), ("down",)),
        (("decrease",), ("in size",)),
    ),
    "spinning": (
        (("spin", "rotate", "turn"), _TURN),
        (("twirl", "whirl"), ("", "around", "round")),
        (("revolve", "pivot"), ("", "on the spot")),
        (("spin",), ("like a top", "like a wheel")),
        (("turn",), ("round and round", "about")),
    ),
}


@cache
def moves(motion: str, form: str) -> tuple[str, ...]:
    """All phrases of a motion; `form` is do ("spin"), does ("spins") or doing ("spinning").

    A verb that is also a noun of a shape never stands alone: "a red ball circles" would name two shapes.
    """
    places = {"do": slice(0, 1), "does": slice(1, 2), "doing": slice(2, None)}[form]
    phrases: list[str] = []
    for verbs, tails in _MOVES[motion]:
        for verb, tail in product(verbs, tails):
            phrases += [f"{word} {tail}".strip() for word in VERBS[verb][places]]
    nouns = {form for names in SHAPES.values() for noun in names for form in (noun, plural(noun))}
    return tuple(phrase for phrase in dict.fromkeys(phrases) if phrase not in nouns)


def article(noun: str) -> str:
    """The words after "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(noun: str) -> str:
    """The plural of a shape: boxes, crosses, plus signs."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")
