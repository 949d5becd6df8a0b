"""Whether a film shows what its prompt asks for, where the prompt is one of the world's and the judge can tell.

The captions themselves are the grammar. Those of a scene of placeholders, for every motion, are the forms a prompt may
have; a motion that some of a form's scenes lack is not named by it. The views' captions are few enough to be listed,
which is done once a prompt is none of those.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from flickbook.world.captions import brief_captions, captions
from flickbook.world.detect import fitted, judge
from flickbook.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    DIGITS,
    FRAMES,
    MOTIONS,
    SHAPES,
    SIZES,
    Actor,
    Scene,
    possible,
)

_PAINT, _SHAPE, _SIZE, _DIGIT = "PAINT", "SHAPE", "SIZE", "DIGIT"
_CLASS = {
    **dict.fromkeys((*COLOURS, *BACKGROUNDS), _PAINT),
    **dict.fromkeys(SHAPES, _SHAPE),
    **dict.fromkeys(SIZES, _SIZE),
}
_DIGIT_OF = dict(
    zip(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), DIGITS, strict=True)
)
_DIGIT_OF |= {digit: digit for digit in DIGITS}
_BEFORE_DIGITS = ("digit", "number")
_LONGEST = 200  # characters; no caption is half as long


@dataclass(frozen=True)
class Expectation:
    """What a prompt asks for: a scene, "" where nothing is said, and the attributes of `judge` that are named."""

    scene: Scene
    named: frozenset[str]


@dataclass(frozen=True)
class _Form:
    """What each of a prompt's words of `_CLASS` stands for, in order, and each actor's motion, "" if it is not said.

    A word of the form's own ("moving in a circle") stands for itself.
    """

    kind: str
    places: tuple[str, ...]
    motions: tuple[str, ...]


def expectation(prompt: str) -> Expectation | None:
    """What a prompt asks for, or None where it is not a caption of the world, or asks for what no picture could show.

    Capitals, commas and full stops do not matter, and "a" and "an" are one.
    """
    if len(prompt) > _LONGEST:
        return None
    words = _words(prompt)
    key, found = _key(words)
    # One kind after another: most prompts are of the first, and a kind's forms are listed when first asked for.
    form = next((forms[key] for forms in map(_forms, ("core", "digits", "pair")) if key in forms), None)
    if form is None:
        return _views().get(" ".join(words))
    values = dict(zip(form.places, found, strict=True))
    if any(place in _CLASS and place != word for place, word in values.items()):
        return None
    actors = tuple(_actor(values, number, motion) for number, motion in enumerate(form.motions, 1))
    background = values.get(f"{_PAINT}0", "")
    if background and background not in BACKGROUNDS:
        return None
    if any(actor.colour and actor.colour not in COLOURS or not possible(actor, background) for actor in actors):
        return None
    named = {"count", "digit" if form.kind == "digits" else "shape"}
    named |= {word for word in ("colour", "motion", "size") if all(getattr(actor, word) for actor in actors)}
    if any(actor.motion in ("growing", "shrinking") for actor in actors):
        named.discard("size")  # it has none to hold
    named |= {"background"} if background else set()
    return Expectation(Scene(form.kind, 0, background, actors), frozenset(named))


def agreement(prompt: str, frames: np.ndarray) -> float | None:
    """The share of what a prompt names that a film (n, height, width, 3) uint8 shows as asked, 0 to 1.

    Named may be colour, shape or digit, motion, background, size and count, of a view the scene and its traits; of two
    objects both must be right. None where the prompt is not the world's, where the pictures are not square, and for a
    view of fewer than 16 frames. Of more frames 16 are judged, evenly spaced; of a single one no motion is expected.
    Raises RequestError for other arrays.
    """
    request = expectation(prompt)
    if request is None or frames.ndim != 4 or frames.shape[1] != frames.shape[2]:
        return None
    named = request.named - ({"motion"} if len(frames) == 1 else set())
    if not request.scene.actors and len(frames) < FRAMES:
        return None
    if frames.dtype == np.uint8 and frames.size:
        frames = fitted(frames)
    verdict = judge(request.scene, frames)
    held = verdict.counted | verdict.apart
    return sum(held[word] for word in named) / len(named)


def _words(text: str) -> list[str]:
    """The words of a text in small letters, without what stands between them."""
    words = "".join(" " if c in ",:;.!" else c for c in text.lower()).split()
    return ["a" if word == "an" else word for word in words]


def _key(words: Sequence[str]) -> tuple[str, list[str]]:
    """A prompt with its words of `_CLASS` replaced by their class, and those words."""
    key, found = [], []
    for before, word in zip(("", *words), words, strict=False):
        if before in _BEFORE_DIGITS and word in _DIGIT_OF:
            key.append(_DIGIT)
            found.append(_DIGIT_OF[word])
        elif word in _CLASS:
            key.append(_CLASS[word])
            found.append(word)
        else:
            key.append(word)
    return " ".join(key), found


def _actor(values: dict[str, str], number: int, motion: str) -> Actor:
    shape = values.get(f"{_SHAPE}{number}") or values.get(f"{_DIGIT}{number}", "")
    return Actor(shape, values.get(f"{_PAINT}{number}", ""), motion, values.get(f"{_SIZE}{number}", ""))


def _placeholders(kind: str) -> Iterator[Scene]:
    """A scene for every motion, or pair of motions, whose other words are placeholders, with and without a size."""
    for motions in itertools.product(MOTIONS, repeat=2 if kind == "pair" else 1):
        if kind == "digits" and motions == ("spinning",):  # the judge knows no turn of a digit
            continue
        for size in (f"{_SIZE}1", "") if kind == "core" else ("",):
            actors = (
                Actor("0" if kind == "digits" else f"{_SHAPE}{i}", f"{_PAINT}{i}", motion, size)
                for i, motion in enumerate(motions, 1)
            )
            yield Scene(kind, 0, f"{_PAINT}0", tuple(actors))


def _form_of(text: str, kind: str) -> tuple[str, tuple[str, ...]]:
    """The key of a caption of placeholders, and the placeholders in their order."""
    key, places = [], []
    for word in text.replace(",", "").replace(":", "").split():
        if kind == "digits" and word in ("0", "zero"):
            word = f"{_DIGIT}1"
        if word[:-1] in (_PAINT, _SHAPE, _SIZE, _DIGIT):
            places.append(word)
            word = word[:-1]
        elif word in _CLASS:  # "moving in a circle"
            places.append(word)
            word = _CLASS[word]
        key.append("a" if word == "an" else word)
    return " ".join(key), tuple(places)


@cache
def _forms(kind: str) -> dict[str, _Form]:
    """Every form of a prompt for a scene of objects: core, pair or digits."""
    motions: dict[tuple[str, tuple[str, ...]], list[tuple[str, ...]]] = {}
    for scene in _placeholders(kind):
        for text in (*captions(scene), *brief_captions(scene)):
            key, places = _form_of(text, kind)
            # The second object first: the same as the form of the two motions the other way round.
            if f"{_SHAPE}2" in places and places.index(f"{_SHAPE}2") < places.index(f"{_SHAPE}1"):
                continue
            motions.setdefault((key, places), []).append(tuple(actor.motion for actor in scene.actors))
    found: dict[str, _Form] = {}
    for (key, places), alternatives in motions.items():
        alike = tuple(each[0] if len(set(each)) == 1 else "" for each in zip(*alternatives, strict=True))
        found[key] = _Form(kind, places, alike)
    return found


@cache
def _views() -> dict[str, Expectation]:
    """Every caption of a view. A trait that not all films of a caption share is not named by it."""
    from flickbook.world import views

    found: dict[str, Expectation] = {}
    for kind, view in views.VIEWS.items():
        for words in itertools.product(*view.TRAITS.values()):
            traits = dict(zip(view.TRAITS, words, strict=True))
            for text in (*view.captions(traits), *view.brief_captions(traits)):
                key = " ".join(_words(text))
                shared = dict(traits)
                if key in found:
                    shared = {trait: word for trait, word in found[key].scene.traits.items() if traits[trait] == word}
                found[key] = Expectation(Scene(kind, 0, traits=shared), frozenset({"scene", *shared}))
    return found
