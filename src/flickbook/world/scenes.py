"""What a procedural film shows: the vocabulary, scene descriptions, and how they are drawn by lot.

A `Scene` is exact: rendering it twice gives the same pixels. Everything a caption may say is in its fields;
what no caption says (where an object starts, how fast it is) follows from `seed`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from flickbook.errors import RequestError

FRAMES, SIZE, FPS = 16, 128, 8

#: sRGB of each colour word; far enough apart that a compressed film still tells them.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 32, 38),
    "green": (36, 170, 60),
    "blue": (38, 72, 225),
    "yellow": (250, 215, 30),
    "purple": (140, 45, 185),
    "orange": (250, 130, 20),
    "white": (245, 245, 245),
    "pink": (250, 130, 185),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (12, 12, 14),
    "blue": (30, 60, 150),
    "grey": (128, 128, 128),
    "green": (20, 95, 50),
    "white": (236, 236, 236),
    "brown": (110, 70, 40),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
MOTIONS = ("left", "right", "up", "down", "bouncing", "circling", "growing", "shrinking", "spinning")
#: Half the height of an object in pixels of a 128-pixel frame.
SIZES: dict[str, int] = {"small": 14, "medium": 20, "large": 27}
DIGITS = tuple("0123456789")
#: The groups whose scenes are objects on a plain background. "several" are two or three equal objects.
OBJECTS = ("core", "pair", "several", "digits")

#: Words that would name the same paint twice.
_CLASHING = {("white", "white"), ("blue", "blue"), ("green", "green")}
#: A turn of these cannot be seen.
_ROUND = ("circle", "ring")

#: The least share of the pairs with which every colour, shape and motion still occurs in training.
LEAST_COVERAGE = 0.25

#: Pairs that training never shows (evaluation does): colour x shape and shape x motion.
HELD_OUT_COLOUR_SHAPE = frozenset(
    {
        ("red", "star"),
        ("green", "circle"),
        ("blue", "triangle"),
        ("yellow", "square"),
        ("purple", "ring"),
        ("orange", "cross"),
        ("white", "triangle"),
        ("pink", "square"),
    }
)
HELD_OUT_SHAPE_MOTION = frozenset(
    {
        ("circle", "up"),
        ("square", "circling"),
        ("triangle", "left"),
        ("star", "down"),
        ("cross", "growing"),
        ("ring", "right"),
    }
)


def _balanced(
    first: tuple[str, ...], second: tuple[str, ...], never: frozenset[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """All pairs but those of `never`, in an order whose first part uses every word about equally often."""
    left = [pair for pair in itertools.product(first, second) if pair not in never]
    used: Counter[str] = Counter()
    found = []
    while left:
        pair = min(left, key=lambda each: (used[each[0]], used[each[1]]))
        left.remove(pair)
        used.update(pair)
        found.append(pair)
    return tuple(found)


#: The pairs that training may show, in the order in which a smaller coverage keeps them.
TRAINING_COLOUR_SHAPE = _balanced(tuple(COLOURS), SHAPES, HELD_OUT_COLOUR_SHAPE)
TRAINING_SHAPE_MOTION = _balanced(SHAPES, MOTIONS, HELD_OUT_SHAPE_MOTION | {(shape, "spinning") for shape in _ROUND})


@dataclass(frozen=True)
class Actor:
    """One object. `size` is empty where the motion itself changes the size."""

    shape: str
    colour: str
    motion: str
    size: str = "medium"


@dataclass(frozen=True)
class Scene:
    """A film of the world. `kind` is core, pair, several, digits, book, or the name of a view.

    Pages of the book and views keep their words in `traits`.
    """

    kind: str
    seed: int
    background: str = ""
    actors: tuple[Actor, ...] = ()
    traits: dict[str, str] = field(default_factory=dict, hash=False)


def held_out(actor: Actor) -> bool:
    """Whether an actor shows a pair that training must not see."""
    return (actor.colour, actor.shape) in HELD_OUT_COLOUR_SHAPE or (actor.shape, actor.motion) in HELD_OUT_SHAPE_MOTION


@cache
def _covered_pairs(coverage: float) -> frozenset[tuple[str, str]]:
    kept = (pairs[: round(coverage * len(pairs))] for pairs in (TRAINING_COLOUR_SHAPE, TRAINING_SHAPE_MOTION))
    return frozenset(pair for pairs in kept for pair in pairs)


def covered(actor: Actor, coverage: float) -> bool:
    """Whether both pairs of an actor are among the first `coverage`, 0.25 to 1, of those that training may show."""
    if coverage >= 1:
        return True
    return {(actor.colour, actor.shape), (actor.shape, actor.motion)} <= _covered_pairs(coverage)


def possible(actor: Actor, background: str) -> bool:
    """Whether a picture could show every word: no white on white, no spinning circle."""
    if (actor.colour, background) in _CLASHING:
        return False
    return not (actor.motion == "spinning" and actor.shape in _ROUND)


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _actor(
    rng: np.random.Generator, background: str, motions: tuple[str, ...], heldout: bool, coverage: float = 1.0
) -> Actor:
    """Draw one actor by rejection; every allowed combination is equally likely."""
    while True:
        motion = _pick(rng, motions)
        size = "" if motion in ("growing", "shrinking") else _pick(rng, tuple(SIZES))
        actor = Actor(_pick(rng, SHAPES), _pick(rng, tuple(COLOURS)), motion, size)
        if possible(actor, background) and held_out(actor) == heldout and (heldout or covered(actor, coverage)):
            return actor


def sample(seed: int, group: str = "core", heldout: bool = False, coverage: float = 1.0) -> Scene:
    """Draw a scene of `group` (core, pair, several, digits, views or book) from `seed`.

    With `heldout` a core scene or a page of the book shows a held-out pair; without it never does. Other groups have no
    held-out pairs of their own, and their shapes keep to the pairs training may see. `coverage` below 1 leaves only
    that share of the colour x shape and of the shape x motion pairs to training, for all groups of shapes; the held-out
    pairs stay the same. Raises RequestError for an unknown group.
    """
    rng = np.random.default_rng([seed, 0x5CE4E])
    if group == "book":
        from flickbook.world import book

        return Scene("book", seed, traits=book.sample(rng, heldout))
    if group == "views":
        from flickbook.world import views

        kind, traits = views.sample(seed)
        return Scene(kind, seed, traits=dict(traits))
    if group not in OBJECTS:
        raise RequestError("group", group, f"must be {', '.join(OBJECTS)}, views or book", "name one of these")
    background = _pick(rng, tuple(BACKGROUNDS))
    if group == "several":
        actor = replace(_actor(rng, background, MOTIONS[:5], False, coverage), size="")
        count = 2 + int(rng.integers(2))
        return Scene("several", seed, background, (replace(actor, size="medium" if count == 2 else "small"),) * count)
    if group == "core":
        return Scene("core", seed, background, (_actor(rng, background, MOTIONS, heldout, coverage),))
    if group == "digits":
        while True:
            actor = Actor(_pick(rng, DIGITS), _pick(rng, tuple(COLOURS)), _pick(rng, MOTIONS[:4]), "large")
            if possible(actor, background):
                return Scene("digits", seed, background, (actor,))
    while True:
        first, second = (_actor(rng, background, MOTIONS[:4], False, coverage) for _ in range(2))
        sideways = [actor.motion in ("left", "right") for actor in (first, second)]
        if first.colour != second.colour and sideways[0] == sideways[1]:
            small = tuple(Actor(a.shape, a.colour, a.motion, "medium") for a in (first, second))
            return Scene("pair", seed, background, small)
