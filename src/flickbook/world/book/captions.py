"""Words for a page: many sentences that say the same film, and shorter ones that leave something out."""

from __future__ import annotations

import numpy as np

from flickbook.world.book.page import Page

#: Names of each subject; the first is the plain one.
SUBJECT_WORDS: dict[str, tuple[str, ...]] = {
    "cat": ("cat", "ginger cat", "orange cat", "kitten"),
    "dog": ("dog", "brown dog", "puppy"),
    "panda": ("panda", "panda bear", "black and white panda"),
    "horse": ("horse", "brown horse", "chestnut horse", "pony"),
    "bird": ("bird", "blue bird", "little bird"),
    "fish": ("fish", "orange fish", "clownfish", "striped fish"),
    "butterfly": ("butterfly", "pink butterfly", "colourful butterfly"),
    "person": ("person", "man", "boy", "person in a red shirt"),
    "astronaut": ("astronaut", "spaceman", "astronaut in a white suit"),
    "car": ("car", "red car", "automobile"),
    "bus": ("bus", "yellow bus", "school bus"),
    "train": ("train", "steam train", "locomotive", "green steam engine"),
    "boat": ("boat", "sailboat", "sailing boat", "boat with a white sail"),
    "rocket": ("rocket", "space rocket", "red and white rocket", "rocket ship"),
    "balloon": ("balloon", "hot air balloon", "striped balloon"),
    "tree": ("tree", "apple tree", "green tree"),
}
#: Words for each action; the first is the plain one.
ACTION_WORDS: dict[str, tuple[str, ...]] = {
    "standing": ("standing", "standing still"),
    "walking": ("walking", "strolling", "going for a walk"),
    "running": ("running", "racing", "running fast"),
    "jumping": ("jumping", "leaping", "hopping", "jumping up and down"),
    "flying": ("flying", "flying through the air", "soaring"),
    "swimming": ("swimming", "swimming in the water", "going for a swim"),
    "surfing": ("surfing", "surfing on a wave", "riding a wave", "riding a surfboard"),
    "dancing": ("dancing", "dancing to music", "doing a dance"),
    "sleeping": ("sleeping", "asleep", "taking a nap"),
    "driving": ("driving", "driving along", "driving past"),
}
#: Where a subject has its own words for an action.
_OWN_WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("boat", "driving"): ("sailing", "sailing along", "floating by"),
    ("boat", "standing"): ("floating", "floating still"),
    ("train", "driving"): ("driving", "rolling along", "riding past", "going along the rails"),
    ("fish", "standing"): ("floating", "floating still", "resting in the water"),
    ("balloon", "flying"): ("flying", "floating", "floating in the air", "drifting in the air"),
    ("rocket", "flying"): ("flying", "blasting off", "flying through the air", "shooting up"),
    ("bird", "swimming"): ("swimming", "swimming in the water", "paddling"),
    ("car", "standing"): ("standing", "parked", "standing still"),
    ("bus", "standing"): ("standing", "parked", "standing still"),
}
#: Phrases for each place; the first is the plain one.
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "beach": ("at the beach", "on the beach", "by the sea", "on the sand by the ocean"),
    "forest": ("in the forest", "in the woods", "among the trees", "through the forest"),
    "city": ("on a city street", "in the city", "in town", "through the city"),
    "snow": ("in the snow", "in a snowy landscape", "while it snows", "through the snow"),
    "desert": ("in the desert", "among the dunes", "near the pyramids", "through the desert"),
    "space": ("in space", "in outer space", "among the stars", "on the moon"),
    "underwater": ("under water", "underwater", "at the bottom of the sea", "under the sea"),
    "meadow": ("in a meadow", "in a field of flowers", "on the grass", "through a meadow"),
}
#: Phrases for each place below what flies; the first is the plain one.
_BELOW: dict[str, tuple[str, ...]] = {
    "beach": ("over the beach", "above the beach", "by the sea"),
    "forest": ("over the forest", "in the forest", "through the forest", "among the trees"),
    "city": ("over the city", "above a city street", "through the city"),
    "snow": ("over the snow", "in the snow", "while it snows", "through the snow"),
    "desert": ("over the desert", "in the desert", "above the dunes", "near the pyramids"),
    "space": ("in space", "through space", "in outer space", "among the stars"),
    "meadow": ("over a meadow", "above a field of flowers", "in a meadow"),
}
#: The place as a thing of its own: "a forest at night with a cat".
SCENES: dict[str, str] = {
    "beach": "a beach",
    "forest": "a forest",
    "city": "a city street",
    "snow": "a snowy landscape",
    "desert": "a desert",
    "space": "outer space",
    "underwater": "the sea floor",
    "meadow": "a meadow",
}
#: Phrases for each light; the first is the plain one.
LIGHT_WORDS: dict[str, tuple[str, ...]] = {
    "day": ("by day", "during the day", "in daylight", "on a bright day"),
    "sunset": ("at sunset", "at dusk", "in the evening light", "as the sun sets"),
    "night": ("at night", "by night", "under the moon", "on a dark night"),
}
_LEAD: dict[str, str] = {"day": "on a bright day", "sunset": "at sunset", "night": "at night"}
#: Actions that go somewhere: "through" and "to the left" need one.
_GOING = ("walking", "running", "flying", "swimming", "driving")


def article(words: str) -> str:
    """The words after "a" or "an"."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def action_words(page: Page) -> tuple[str, ...]:
    """The words for what the subject does, the plain one first."""
    return _OWN_WORDS.get((page.subject, page.action), ACTION_WORDS[page.action])


def place_words(page: Page) -> tuple[str, ...]:
    """The phrases for the place that suit the action, the plain one first. What flies is over the place."""
    if page.action == "flying":
        return _BELOW[page.place]
    return tuple(w for w in PLACE_WORDS[page.place] if page.action in _GOING or not w.startswith("through"))


def caption(page: Page) -> str:
    """The plain caption: subject, action, place and light, as in "a cat running in the snow at night"."""
    light = f" {LIGHT_WORDS[page.light][0]}"
    return f"{article(SUBJECT_WORDS[page.subject][0])} {action_words(page)[0]} {place_words(page)[0]}{light}"


def describe(page: Page, rng: np.random.Generator) -> str:
    """A caption drawn by lot that names the subject, the action, the place and the light, at times the direction.

    The plain word of each is drawn half of the time and a synonym otherwise.
    """
    who = article(_pick(rng, SUBJECT_WORDS[page.subject]))
    does, where, when = (
        _pick(rng, action_words(page)),
        _pick(rng, place_words(page)),
        _pick(rng, LIGHT_WORDS[page.light]),
    )
    if page.action in _GOING and rng.uniform() < 0.12:
        does += f" to the {page.direction}"
    scene, lead = SCENES[page.place], _LEAD[page.light]
    forms = (
        f"{who} {does} {where} {when}",
        f"{who} {does} {when} {where}",
        f"{who} is {does} {where} {when}",
        f"{who} {does} {where}, {when}",
        f"{lead}, {who} is {does} {where}",
        f"{when} {who} is {does} {where}",
        f"{scene} {lead} with {who} {does}",
        f"a film of {who} {does} {where} {when}",
        f"a drawing of {who} {does} {where} {when}",
    )
    return forms[0] if rng.uniform() < 0.4 else forms[int(rng.integers(len(forms)))]


def describe_briefly(page: Page, rng: np.random.Generator) -> str:
    """A prompt drawn by lot that leaves out the light, the place or the action, so that short prompts work too."""
    who = article(_pick(rng, SUBJECT_WORDS[page.subject]))
    does, where, when = (
        _pick(rng, action_words(page)),
        _pick(rng, place_words(page)),
        _pick(rng, LIGHT_WORDS[page.light]),
    )
    still = place_words(Page(page.subject, "standing", page.place, page.light))[0]
    forms = (
        f"{who} {does}",
        f"{who} {does} {where}",
        f"{who} {does} {when}",
        f"{who} {still}",
        f"{who} {still} {when}",
        f"{SCENES[page.place]} {_LEAD[page.light]} with {who}",
        who,
    )
    return forms[int(rng.integers(len(forms)))]


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[0] if rng.uniform() < 0.5 else words[int(rng.integers(len(words)))]
