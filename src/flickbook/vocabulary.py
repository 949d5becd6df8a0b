"""The words of prompts: how a text is cut into them, and which of them a model never saw in training."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable
from itertools import groupby
from pathlib import Path
from typing import Final

_FUNCTION_WORDS: Final = """
    a an the and or but nor of in on at to for from by with without into onto over under above below as is are was were
    be been being it its this that these those there here no not any some very so than then
"""
#: Words that carry no content by themselves: a phrase of these alone asks for nothing, and none is worth a note.
FUNCTION_WORDS: Final = frozenset(_FUNCTION_WORDS.split())
_CLOSE = 0.8  # how alike two spellings must be, 0 to 1, for one word to be suggested for the other

#: A common word -> words that mean something like it, for suggestions. A model may know none of either.
_MEANINGS: Final = {
    "red": "maroon burgundy rust brick blood wine",
    "pink": "fuchsia salmon blush",
    "orange": "copper bronze",
    "yellow": "mustard honey blonde",
    "green": "olive mint",
    "blue": "cerulean denim",
    "purple": "mauve aubergine",
    "brown": "tan beige khaki",
    "grey": "silver charcoal steel platinum",
    "white": "cream",
    "black": "onyx",
    "circle": "oval ellipse",
    "square": "rectangle",
    "ring": "torus",
    "cat": "lion tiger leopard cheetah panther jaguar lynx feline",
    "dog": "wolf fox hound coyote poodle bulldog hyena",
    "horse": "donkey zebra mule deer unicorn camel cow",
    "bear": "koala grizzly",
    "bird": "eagle hawk sparrow parrot owl penguin duck goose chicken swan crow pigeon seagull dove",
    "fish": "shark whale dolphin goldfish trout tuna octopus",
    "butterfly": "moth bee dragonfly insect ladybug",
    "person": "woman girl child lady people human dancer king queen princess knight wizard soldier kid robot",
    "astronaut": "cosmonaut",
    "car": "truck van taxi jeep lorry limousine",
    "bus": "coach minibus",
    "train": "subway metro tram railway",
    "boat": "ferry canoe kayak submarine dinghy raft",
    "rocket": "spaceship spacecraft missile shuttle plane airplane aeroplane aircraft",
    "balloon": "airship zeppelin blimp",
    "tree": "oak palm fir bush",
    "beach": "shore seaside island",
    "forest": "jungle woodland rainforest",
    "street": "road avenue highway alley",
    "town": "village",
    "snow": "ice glacier winter",
    "desert": "sahara savanna",
    "space": "galaxy cosmos universe planet",
    "meadow": "prairie pasture lawn park",
    "water": "river lake pond",
    "mountains": "volcano cliff canyon",
    "night": "midnight",
    "day": "afternoon midday",
    "walking": "marching hiking",
    "running": "sprinting galloping jogging chasing",
    "swimming": "diving",
    "surfing": "skating skateboarding skiing snowboarding",
    "dancing": "waltzing",
    "sleeping": "sitting lying dozing snoozing",
    "big": "colossal immense vast",
    "tiny": "minuscule microscopic",
}
_MEANT: Final = {other: word for word, others in _MEANINGS.items() for other in others.split()}


def words(text: str) -> list[str]:
    """The words of a text in order, lower case: letters, digits and inner apostrophes; emoji count as words."""

    def kind(character: str) -> str:
        category = unicodedata.category(character)
        if category[0] in "LNM" or character == "'":
            return "word"
        return "symbol" if category[0] == "S" and not character.isascii() else "gap"

    plain = unicodedata.normalize("NFC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    runs = ((k, "".join(run)) for k, run in groupby(plain, kind))
    found = (re.sub(r"'s$", "", run.strip("'")) if k == "word" else run for k, run in runs if k != "gap")
    return [word for word in found if word]


def known_words(tokenizer_dir: Path) -> frozenset[str] | None:
    """The words of a model's training captions, from words.txt beside its tokenizer; None where there is none."""
    try:
        return frozenset((tokenizer_dir / "words.txt").read_text(encoding="utf-8").split())
    except OSError:
        return None


def unknown_words(text: str, known: Collection[str] | None) -> tuple[str, ...]:
    """The content words of a text that are not `known`, in order, each once; empty without a list of known words."""
    if known is None:
        return ()
    return tuple(dict.fromkeys(word for word in words(text) if word not in known and word not in FUNCTION_WORDS))


def without_unknown(text: str, known: Collection[str] | None) -> str:
    """A negative prompt without the words that are not `known`.

    Phrases are separated by commas; one that is left without a content word is dropped. A text of known words alone is
    returned as it is.
    """
    if not unknown_words(text, known):
        return text
    phrases = ([word for word in words(phrase) if word in (known or ())] for phrase in re.split(r"[,;.\n]", text))
    return ", ".join(" ".join(phrase) for phrase in phrases if set(phrase) - FUNCTION_WORDS)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that means something like `word`, or else is spelt like it; "" where there is none."""
    candidates = sorted({each for each in known if len(each) > 2} - FUNCTION_WORDS)
    for plural, singular in (("", ""), ("s", ""), ("es", ""), ("ies", "y"), ("ves", "f")):
        meant = _MEANT.get(word.removesuffix(plural) + singular) if word.endswith(plural) else None
        if meant in candidates:
            return str(meant)
    candidates = [each for each in candidates if each[0] == word[:1]]  # of one spelt alike, the first letter must agree
    swapped = next((each for each in candidates if sorted(each) == sorted(word)), "")
    if swapped:
        return swapped
    # A hostile word may be long; matching is quadratic.
    return next(iter(difflib.get_close_matches(word[:40], candidates, n=1, cutoff=_CLOSE)), "")
