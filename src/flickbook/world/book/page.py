"""What a page of the book shows: the words, which of them fit together, and which pairs training never sees."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

PLACES = ("beach", "forest", "city", "snow", "desert", "space", "underwater", "meadow")
LIGHTS = ("day", "sunset", "night")
DIRECTIONS = ("left", "right")

_BODY = ("standing", "walking", "running", "jumping", "swimming", "surfing", "dancing", "sleeping")
_ROAD = ("standing", "driving", "jumping", "dancing")
#: What each subject can do. Vehicles and the boat are "driving"; captions say "sailing" of the boat.
ACTIONS: dict[str, tuple[str, ...]] = {
    "cat": (*_BODY, "flying"),
    "dog": (*_BODY, "flying"),
    "panda": (*_BODY, "flying"),
    "horse": _BODY,
    "bird": (*_BODY, "flying"),
    "fish": ("standing", "swimming", "jumping", "dancing", "sleeping"),
    "butterfly": ("standing", "flying", "dancing", "sleeping"),
    "person": (*_BODY, "flying"),
    "astronaut": (*_BODY, "flying"),
    "car": (*_ROAD, "flying"),
    "bus": _ROAD,
    "train": _ROAD,
    "boat": ("standing", "driving", "jumping", "dancing"),
    "rocket": ("standing", "flying", "jumping", "dancing"),
    "balloon": ("standing", "flying", "dancing"),
    "tree": ("standing", "dancing"),
}
SUBJECTS = tuple(ACTIONS)
#: Where an action makes no sense, for every subject.
_NOWHERE = {"swimming": ("city", "space"), "flying": ("underwater",)}
#: Where a subject makes no sense, whatever it does.
_NEVER = {
    "boat": ("space", "underwater"),
    "balloon": ("underwater",),
    "rocket": ("underwater",),
    "butterfly": ("underwater",),
    "fish": ("city", "desert", "space"),
}
#: What a fish can do only in the sea.
_DEEP = ("standing", "dancing", "sleeping")
#: What each subject is known for; these pairs are never held out.
_HOME: dict[str, tuple[str, str]] = {
    "cat": ("walking", "meadow"),
    "dog": ("running", "meadow"),
    "panda": ("walking", "forest"),
    "horse": ("running", "meadow"),
    "bird": ("flying", "forest"),
    "fish": ("swimming", "underwater"),
    "butterfly": ("flying", "meadow"),
    "person": ("walking", "city"),
    "astronaut": ("walking", "space"),
    "car": ("driving", "city"),
    "bus": ("driving", "city"),
    "train": ("driving", "meadow"),
    "boat": ("driving", "beach"),
    "rocket": ("flying", "space"),
    "balloon": ("flying", "meadow"),
    "tree": ("standing", "forest"),
}
#: The texts that begin what the checksum is taken of.
_RULES = {"action": "book 4174 action", "place": "book 8777 place"}
_SHARE = 8  # one pair in eight is held out


@dataclass(frozen=True)
class Page:
    """One film. The first five fields are words; the others are free variation, which captions do not name.

    `middle` is where the subject stands at half time and `ground` where its feet are, in pixels of a 64-pixel frame;
    `size` scales it, `phase` (0..1) starts its steps and `hue` turns its colours. `seed` varies the place.
    """

    subject: str
    action: str
    place: str
    light: str
    direction: str = "right"
    middle: float = 32.0
    ground: float = 55.0
    size: float = 1.0
    phase: float = 0.0
    hue: float = 0.0
    seed: int = 0


def fits(subject: str, action: str, place: str) -> bool:
    """Whether `subject` can be shown doing `action` in `place`. False for unknown words."""
    if place not in PLACES or action not in ACTIONS.get(subject, ()):
        return False
    if place in _NOWHERE.get(action, ()) or place in _NEVER.get(subject, ()):
        return False
    return not (subject == "fish" and action in _DEEP and place != "underwater")


def _withheld(kind: str, subject: str, word: str) -> bool:
    if word == "standing" or word in _HOME.get(subject, ()):
        return False
    return zlib.crc32(f"{_RULES[kind]}: {subject}, {word}".encode()) % _SHARE == 0


def held_out(page: Page) -> bool:
    """Whether the page shows a subject x action or subject x place pair that training must not see.

    The rule is a checksum of the two words, so that it never changes. Standing still is never held out, nor what a
    subject is known for: a fish swims, and lives under water.
    """
    return _withheld("action", page.subject, page.action) or _withheld("place", page.subject, page.place)


#: Every combination of subject, action and place that can be shown, and of those what training may see.
COMBINATIONS = tuple(
    (subject, action, place)
    for subject, actions in ACTIONS.items()
    for action in actions
    for place in PLACES
    if fits(subject, action, place)
)
_SEEN = {
    subject: tuple(c for c in COMBINATIONS if c[0] == subject and not held_out(Page(*c, light="day")))
    for subject in SUBJECTS
}
_HELD = tuple(c for c in COMBINATIONS if held_out(Page(*c, light="day")))


def sample(rng: np.random.Generator, heldout: bool = False) -> dict[str, str]:
    """Draw the words of a page: subject, action, place, light and direction.

    Training's pages never hold a held-out pair; with `heldout` every page does. Subjects are equally likely in
    training; held-out combinations are equally likely in evaluation.
    """
    choices = _HELD if heldout else _SEEN[SUBJECTS[int(rng.integers(len(SUBJECTS)))]]
    subject, action, place = choices[int(rng.integers(len(choices)))]
    light, direction = LIGHTS[int(rng.integers(len(LIGHTS)))], DIRECTIONS[int(rng.integers(2))]
    return {"subject": subject, "action": action, "place": place, "light": light, "direction": direction}


def named(words: Mapping[str, str]) -> Page:
    """The page of some words, without variation."""
    return Page(words["subject"], words["action"], words["place"], words["light"], words.get("direction", "right"))


def page(words: Mapping[str, str], seed: int) -> Page:
    """The page of some words, with its free variation drawn from `seed`."""
    rng = np.random.default_rng([seed, 0xB00C])
    return replace(
        named(words),
        middle=float(rng.uniform(27, 37)),
        ground=float(rng.uniform(53, 57)),
        size=float(rng.uniform(0.9, 1.12)),
        phase=float(rng.uniform()),
        hue=float(rng.uniform(-0.018, 0.018)),
        seed=int(rng.integers(2**31)),
    )
