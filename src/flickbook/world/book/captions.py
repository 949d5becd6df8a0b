"""Words for a page: many sentences that say the same film, and shorter ones that leave something out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from flickbook.world.book.page import Page, named
from flickbook.world.words import Rules, article

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
#: The light as a time of its own: "it is night and a cat is running".
TIME_WORDS: dict[str, tuple[str, ...]] = {
    "day": ("day", "daytime", "a bright day", "noon"),
    "sunset": ("sunset", "dusk", "evening"),
    "night": ("night", "night time", "a dark night"),
}
#: Actions that go somewhere: "through" and "to the left" need one.
GOING = ("walking", "running", "flying", "swimming", "driving")


#: Sentences that name the subject, the action, the place and the light.
_WHOLE = (
    "{who} {doing} {where} {when}",
    "{who} {doing} {when} {where}",
    "{who} is {doing} {where} {when}",
    "{who} is {doing} {when} {where}",
    "{who} {doing} {where}, {when}",
    "{who}, {doing}, {where}, {when}",
    "{who} {where}, {doing}, {when}",
    "{who} {where} {when}, {doing}",
    "{when}, {who} {doing} {where}",
    "{when}, {who} is {doing} {where}",
    "{when} {who} is {doing} {where}",
    "{where}, {who} {doing} {when}",
    "{where}, {who} is {doing} {when}",
    "{where} {when}, {who} {doing}",
    "{where} {when}, {who} is {doing}",
    "{when}, {where}, {who} is {doing}",
    "{doing} {where} {when}: {who}",
    "{doing} {where}, {who} {when}",
    "{scene} {when} with {who} {doing}",
    "{scene} {when}, {who} {doing}",
    "{scene} {when}, and {who} is {doing}",
    "{scene} {when} where {who} is {doing}",
    "{scene}, {who}, {doing}, {when}",
    "{time}, {scene}, {who} {doing}",
    "{film} of {who} {doing} {where} {when}",
    "{film} of {who} {doing} {where}, {when}",
    "{film} showing {who} {doing} {where} {when}",
    "{film} in which {who} is {doing} {where} {when}",
    "{film} of {who} that is {doing} {where} {when}",
    "{film} of {scene} {when} with {who} {doing}",
    "{picture} of {who} {doing} {where} {when}",
    "{picture} of {who} that is {doing} {where} {when}",
    "{show} {who} {doing} {where} {when}",
    "{show} {who} {doing} {where}, {when}",
    "{show} {who} that is {doing} {where} {when}",
    "{show} {scene} {when} with {who} {doing}",
    "there is {who} {doing} {where} {when}",
    "{when} there is {who} {doing} {where}",
    "we see {who} {doing} {where} {when}",
    "you can see {who} {doing} {where} {when}",
    "{who} can be seen {doing} {where} {when}",
    "it is {time} and {who} is {doing} {where}",
    "it is {time}, {who} is {doing} {where}",
    "{who} is {doing} {where}; it is {time}",
    "{who} {doing} {where} while it is {time}",
    "{who} {where}; it is {doing} {when}",
    "the {subject} is {doing} {where} {when}",
    "{subject} {doing}, {scene}, {time}",
    "{subject} {doing} {where}, {time}",
)
#: Sentences that leave something out.
_BRIEF = (
    "{who} {doing}",
    "{subject} {doing}",
    "{who} is {doing}",
    "{who} {doing} {where}",
    "{who} is {doing} {where}",
    "{who} {doing} {when}",
    "{who} is {doing} {when}",
    "{film} of {who} {doing}",
    "{film} of {who} {doing} {when}",
    "{film} of {who} {doing} {where}",
    "{show} {who} {doing} {when}",
    "{who} {around}",
    "{who} {around} {when}",
    "{scene} {when} with {who}",
    "{who}",
)
_PICTURES = ("a drawing", "a cartoon", "a picture book drawing", "an illustration", "a picture")


def action_words(page: Page) -> tuple[str, ...]:
    """The words for what the subject does, the plain one first."""
    return _OWN_WORDS.get((page.subject, page.action), ACTION_WORDS[page.action])


def place_words(page: Page) -> tuple[str, ...]:
    """The phrases for the place that suit the action, the plain one first. What flies is over the place."""
    if page.action == "flying":
        return _BELOW[page.place]
    return tuple(w for w in PLACE_WORDS[page.place] if page.action in GOING or not w.startswith("through"))


def rules(words: Mapping[str, str]) -> Rules:
    """The rules by which `world/grammar.py` says a page of these words; the plain word of each is drawn half of the
    time, and the direction of what goes somewhere is named at times."""
    page = named(words)
    doing = _half(action_words(page))
    if page.action in GOING:
        doing = doing * 7 + tuple(f"{each} to the {page.direction}" for each in doing)
    return {
        "whole": (_WHOLE[0],) * 12 + _WHOLE,
        "brief": _BRIEF,
        "subject": _half(SUBJECT_WORDS[page.subject]),
        "who": tuple(article(noun) for noun in _half(SUBJECT_WORDS[page.subject])),
        "doing": doing,
        "where": _half(place_words(page)),
        "around": (place_words(Page(page.subject, "standing", page.place, page.light))[0],),
        "when": _half(LIGHT_WORDS[page.light]),
        "time": TIME_WORDS[page.light],
        "scene": (SCENES[page.place],),
        "picture": _PICTURES,
    }


def every_rules() -> Iterator[Rules]:
    """Rules that together hold every option of the book's captions."""
    nouns = chain.from_iterable(SUBJECT_WORDS.values())
    places = chain.from_iterable((*PLACE_WORDS.values(), *_BELOW.values()))
    acts = chain.from_iterable((*ACTION_WORDS.values(), *_OWN_WORDS.values()))
    lights = chain.from_iterable((*LIGHT_WORDS.values(), *TIME_WORDS.values()))
    ways = ("to the left", "to the right")
    yield {"words": (*_WHOLE, *_BRIEF, *_PICTURES, *SCENES.values(), *nouns, *places, *acts, *lights, *ways)}


def _half(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options with the plain word, which is the first, as often as all others together."""
    return options[:1] * max(1, len(options) - 2) + options


def captions(words: Mapping[str, str]) -> tuple[str, ...]:
    """Five sentences that name everything; the first is the plain one, as in "a cat running in the snow at night"."""
    page = named(words)
    subject, doing = article(SUBJECT_WORDS[page.subject][0]), action_words(page)
    where, when = place_words(page), LIGHT_WORDS[page.light]
    return (
        f"{subject} {doing[0]} {where[0]} {when[0]}",
        f"{subject} is {doing[0]} {where[0]} {when[0]}",
        f"{when[0]}, {subject} {doing[-1]} {where[0]}",
        f"{where[-1]}, {subject} is {doing[0]} {when[0]}",
        f"a film of {subject} {doing[0]} {where[0]} {when[-1]}",
    )


def brief_captions(words: Mapping[str, str]) -> tuple[str, ...]:
    """Prompts that leave out the light, the place or the action."""
    page = named(words)
    subject, doing = article(SUBJECT_WORDS[page.subject][0]), action_words(page)[0]
    return (
        f"{subject} {doing}",
        f"{subject} {doing} {place_words(page)[0]}",
        f"{subject} {doing} {LIGHT_WORDS[page.light][0]}",
    )
