"""A grammar of captions: one scene said in many ways, drawn by lot.

`captions.py` says a scene in a few fixed sentences. Here a caption is expanded from rules: a rule is a symbol with
several options, and an option is text in which `{symbol}` stands for one option of that symbol. The words come from
`words.py`, those of a painted scene from `PHRASES` of its module in `views/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

import numpy as np

from flickbook.errors import RequestError
from flickbook.world import words
from flickbook.world.captions import captions
from flickbook.world.scenes import MOTIONS, SIZES, Actor, Scene
from flickbook.world.words import Rules

#: Draws for each paraphrase that is asked for, before a scene counts as exhausted.
_TRIES = 60
_SYMBOL = re.compile(r"\{(\w+)\}")
#: A skyless colour: no one would say it of a sky.
_SKIES = ("black", "blue", "grey", "white")

_COMMON: Rules = {
    "film": ("a film", "a short film", "a video", "a short video", "a clip", "a short clip", "an animation", "a movie")
    + ("a cartoon", "a simple animation", "an animated clip", "a gif", "footage", "a scene", "a recording"),
    "show": ("show", "show me", "animate", "draw", "make", "create", "generate", "render", "imagine", "picture")
    + ("please show", "I want to see", "give me"),
    "watch": ("watch", "see", "let", "make"),
    "while": ("while", "as", "and"),
    "two": ("two", "2", "a pair of"),
    "things": ("shapes", "objects", "figures", "things", "forms"),
}

#: Sentences for objects of one kind. N is the object with its article, thing the object without; num is the number of
#: several objects, and nothing for one.
_SINGLE = (
    "{N1} {doing1} {place}",
    "{N1} {does1} {place}",
    "{N1} {is1} {doing1} {place}",
    "{place}, {N1} {doing1}",
    "{place}, {N1} {does1}",
    "{place} {N1} {is1} {doing1}",
    "{place} there {is1} {N1} {doing1}",
    "{N1} {doing1}, {tag}",
    "{N1} {is1} {doing1}, {tag}",
    "{N1} {does1}, {tag}",
    "{tag}, {N1} {doing1}",
    "{tag} with {N1} {doing1}",
    "{film} of {N1} {doing1} {place}",
    "{film} showing {N1} {doing1} {place}",
    "{film} of {N1} {doing1}, {tag}",
    "{film} of {one1} {thing1} that {does1} {place}",
    "{film} in which {N1} {does1} {place}",
    "{film} where {N1} {is1} {doing1} {place}",
    "{N1} {place}, {doing1}",
    "{N1} {place} {does1}",
    "{one1} {thing1} that {is1} {doing1} {place}",
    "{doing1} {place}, {N1}",
    "{tag}, {doing1}: {N1}",
    "{show} {N1} {doing1} {place}",
    "{show} {one1} {thing1} that {does1} {place}",
    "{show} {N1} {doing1}, {tag}",
    "{watch} {N1} {do1} {place}",
    "{place}, {watch} {N1} {do1}",
    "there {is1} {N1} {doing1} {place}",
    "there {is1} {N1} {place}, and {it1} {is1} {doing1}",
    "we see {N1} {doing1} {place}",
    "you can see {N1} {doing1} {place}",
    "{N1} can be seen {doing1} {place}",
    "{behind} and {N1} {is1} {doing1}",
    "{behind} while {N1} {does1}",
    "{N1} {does1} while {behind}",
    "{N1} {is1} {doing1}, {behind}",
    "{num1} {thing1}, {doing1}, {tag}",
    "{num1} {thing1} {doing1}, {tag}",
    "{tag}, {num1} {thing1}, {doing1}",
    "{doing1}, {num1} {thing1}, {tag}",
    "the {num1} {thing1} {does1} {place}",
    "the {num1} {thing1} {is1} {doing1} {place}",
    "{place}, the {num1} {thing1} {is1} {doing1}",
    "{N1} {place}; {it1} {is1} {doing1}",
    "{N1} {doing1}; {behind}",
)
#: For motions that one word can say, before the noun.
_QUICK = (
    "{one1} {quick1} {thing1} {place}",
    "{num1} {quick1} {thing1}, {tag}",
    "{film} of {one1} {quick1} {thing1} {place}",
    "{place}, {one1} {quick1} {thing1}",
    "{tag} and {one1} {quick1} {thing1}",
    "{show} {one1} {quick1} {thing1} {place}",
)
_PAIR = (
    "{N1} {doing1} and {N2} {doing2} {place}",
    "{N1} {does1} {while} {N2} {does2} {place}",
    "{N1} {is1} {doing1} while {N2} {is2} {doing2}, {tag}",
    "{N1} {is1} {doing1} and {N2} {is2} {doing2} {place}",
    "{two} {things} {place}: {N1} {doing1}, {N2} {doing2}",
    "{two} {things}, {N1} {doing1} and {N2} {doing2}, {tag}",
    "{place}, {N1} {does1} {while} {N2} {does2}",
    "{place}, {N1} {doing1} and {N2} {doing2}",
    "{tag} with {N1} {doing1} and {N2} {doing2}",
    "{tag}, {N1} {doing1}, {N2} {doing2}",
    "{film} of {N1} {doing1} and {N2} {doing2} {place}",
    "{film} in which {N1} {does1} and {N2} {does2} {place}",
    "{show} {N1} {doing1} and {N2} {doing2} {place}",
    "{watch} {N1} {do1} and {N2} {do2} {place}",
    "there {is1} {N1} {doing1} and {N2} {doing2} {place}",
    "{behind}, {N1} {does1} and {N2} {does2}",
    "{N1} {does1} and {N2} {does2}; {behind}",
    "{num1} {thing1} {doing1}, {num2} {thing2} {doing2}, {tag}",
    "the {num1} {thing1} {does1} {while} the {num2} {thing2} {does2} {place}",
)
#: For a pair that moves alike.
_TOGETHER = (
    "{N1} and {N2} {doing1} {place}",
    "{N1} and {N2} {do1} {place}",
    "{N1} and {N2}, both {doing1} {place}",
    "{N1} and {N2} are both {doing1} {place}",
    "{N1} and {N2} are {doing1} together, {tag}",
    "{place}, {N1} and {N2} {do1} together",
    "{film} of {N1} and {N2} {doing1} {place}",
    "{two} {things} {doing1} {place}: {N1} and {N2}",
)
#: For a pair of the same shape.
_ALIKE = (
    "{two} {shapes} {place}: {one1} {hue1} one {doing1} and {one2} {hue2} one {doing2}",
    "{two} {shapes}, one {colour1} and {doing1}, the other {colour2} and {doing2}, {tag}",
)
_ALIKE_TOGETHER = (
    "{two} {shapes}, one {colour1} and one {colour2}, {doing1} {place}",
    "{two} {shapes} {doing1} {place}, one {colour1} and the other {colour2}",
)
_BRIEF = (
    "{one1} {hue1} {shape1}",
    "{hue1} {shape1}",
    "{one1} {shape1} {doing1}",
    "{shape1} {doing1}",
    "{one1} {hue1} {shape1} {doing1}",
    "{hue1} {shape1} {doing1}",
    "{one1} {hue1} {shape1} {is1} {doing1}",
    "{film} of {one1} {hue1} {shape1}",
    "{film} of {one1} {shape1} {doing1}",
    "{one1} {shape1} {place}",
    "{one1} {hue1} {shape1} {place}",
    "{one1} {shape1} {does1} {place}",
    "{show} {one1} {hue1} {shape1}",
    "{watch} {one1} {shape1} {do1}",
    "{hue1} {shape1}, {tag}",
)
_BRIEF_PAIR = (
    "{N1} and {N2}",
    "{thing1} and {thing2}",
    "{N1} and {N2} {place}",
    "{one1} {shape1} {doing1} and {one2} {shape2} {doing2}",
    "{N1} {doing1} and {N2} {doing2}",
    "{film} of {N1} and {N2}",
    "{N1} with {N2}, {tag}",
)


def canonical(scene: Scene) -> str:
    """The plain caption of a scene: the first of `captions.captions`, which evaluation uses."""
    return captions(scene)[0]


def caption(scene: Scene, rng: np.random.Generator, brief: bool = False) -> str:
    """One caption drawn from the grammar; the same generator state gives the same caption.

    A caption names the colour, shape, size, count and motion of every object, and the background. The size of a digit
    and of the objects of a pair has no word. Of a view it names every trait. A `brief` caption leaves something out.
    Raises RequestError for a scene with more than two kinds of objects.
    """
    rules = _rules(scene)
    return _tidy(_expand("brief" if brief else "whole", rules, rng))


def paraphrases(scene: Scene, n: int, rng: np.random.Generator) -> tuple[str, ...]:
    """`n` different captions of a scene, each of which names all that `caption` names; the plain one may be among them.

    Raises RequestError where `n` is less than 1 or the grammar does not reach that many.
    """
    if n < 1:
        raise RequestError("n", n, "must be at least 1", "ask for one paraphrase or more")
    rules = _rules(scene)
    found: dict[str, None] = {}
    for _ in range(_TRIES * n):
        found.setdefault(_tidy(_expand("whole", rules, rng)))
        if len(found) == n:
            return tuple(found)
    raise RequestError("n", n, f"the grammar gave {len(found)} captions of this scene", "ask for fewer paraphrases")


def vocabulary() -> frozenset[str]:
    """Every word that a caption of this grammar may hold, in lower case and without punctuation."""
    texts = chain.from_iterable(chain.from_iterable(rules.values()) for rules in _every_rules())
    found = chain.from_iterable(re.sub(r"[,;:]", " ", _SYMBOL.sub(" ", text)).lower().split() for text in texts)
    return frozenset(found) | {"an"}


def _expand(symbol: str, rules: Rules, rng: np.random.Generator) -> str:
    """One option of a symbol, drawn by lot, with its own symbols expanded in turn."""
    options = rules[symbol]
    chosen = options[int(rng.integers(len(options)))]
    return _SYMBOL.sub(lambda match: _expand(match[1], rules, rng), chosen)


def _tidy(text: str) -> str:
    """A sentence with single spaces and commas, and with "an" where it belongs."""
    text = re.sub(r"\s+", " ", text).strip(" ,")
    text = re.sub(r"(\s*,)+(?=[,;:])|\s+(?=[,;:])", "", text)
    return re.sub(r"\ba (?=[aeiou])(?!uni|one\b)", "an ", text)


def _often(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options with the plain word, which is the first, more often than any other."""
    return options[:1] * 4 + options


def _mostly(options: tuple[str, ...]) -> tuple[str, ...]:
    """Of many options the two plain ones in about a third of the draws."""
    return options[:2] * (len(options) // 4) + options


def _rules(scene: Scene) -> Rules:
    """The rules of one scene; `whole` and `brief` are where captions start."""
    if scene.kind == "book":
        from flickbook.world.book import captions as book

        return _COMMON | book.rules(scene.traits)
    if not scene.actors:
        from flickbook.world import views

        phrases: Rules = views.VIEWS[scene.kind].PHRASES.rules(scene.traits)
        return _COMMON | phrases | {"whole": phrases["whole"] + (canonical(scene),)}
    groups: list[tuple[Actor, int]] = []
    for actor in dict.fromkeys(scene.actors):
        groups.append((actor, scene.actors.count(actor)))
    if len(groups) > 2:
        raise RequestError("scene", len(groups), "has more than two kinds of objects", "caption one or two kinds")
    rules: Rules = _COMMON | _ground(scene.background, plural=len(scene.actors) > 1)
    for number, (actor, count) in enumerate(groups, 1):
        rules |= _object(str(number), actor, count, alone=len(groups) == 1)
    rules |= _pair_sentences(*groups) if len(groups) == 2 else _single_sentences(rules)
    if scene.kind == "several" or len(groups) == len(scene.actors):  # the fixed captions of the others name no number
        rules["whole"] += (canonical(scene),) * 2
    return rules


def _single_sentences(rules: Rules) -> Rules:
    return {"whole": _SINGLE + (_QUICK if rules["quick1"] else ()), "brief": _BRIEF}


def _pair_sentences(first: tuple[Actor, int], second: tuple[Actor, int]) -> Rules:
    """The sentences for two kinds of objects, in either order."""
    (one, n), (two, m) = first, second
    whole: tuple[str, ...] = _PAIR
    extra: Rules = {}
    together = one.motion == two.motion
    if together:
        whole += _TOGETHER * 2
    if n == m == 1 and one.shape == two.shape and not one.shape.isdigit():
        whole += (_ALIKE_TOGETHER * 3) if together else (_ALIKE * 3)
        extra["shapes"] = _often(tuple(words.plural(noun) for noun in words.SHAPES[one.shape]))
    both = (whole, _BRIEF_PAIR)
    turned = tuple(tuple(_turn(text) for text in texts) for texts in both)
    return extra | {"whole": both[0] + turned[0], "brief": both[1] + turned[1]}


def _turn(text: str) -> str:
    """A sentence with the second object first."""
    return re.sub(r"([12])\}", lambda match: "21"[int(match[1]) - 1] + "}", text)


def _object(k: str, actor: Actor, count: int, alone: bool) -> Rules:
    """The rules for `count` equal objects, `alone` or beside others; their symbols end in `k`."""
    many = count > 1
    shapes = words.SHAPES.get(actor.shape, ())
    doing = words.moves(actor.motion, "doing")
    rules: Rules = {
        "colour": _often(words.COLOURS[actor.colour]),
        "hue": _often(words.COLOURS[actor.colour] + words.ADJECTIVES.get(actor.colour, ())),
        "shape": _often(tuple(words.plural(noun) for noun in shapes) if many else shapes),
        "doing": _mostly(doing),
        "does": _mostly(words.moves(actor.motion, "do" if many else "does")),
        "do": _mostly(words.moves(actor.motion, "do")),
        "quick": tuple(phrase for phrase in doing if " " not in phrase),
        "is": ("are",) if many else ("is",),
        "it": ("they",) if many else ("it",),
        "one": _count(count, alone),
        "num": _count(count, alone)[:2] if many else ("",),
        "thing": ("{hue} {shape}",),
        "N": ("{one} {thing}",) * 6 + ("{one} {shape} in {colour}", "{one} {shape} that {is} {colour}"),
    }
    if actor.shape.isdigit():
        rules |= _digit(actor.shape)
    elif alone and actor.size:
        rules |= _sized(actor.size)
    return {
        name + k: tuple(_SYMBOL.sub(rf"{{\g<1>{k}}}", text) if "{" in text else text for text in texts)
        for name, texts in rules.items()
    }


def _count(count: int, alone: bool) -> tuple[str, ...]:
    if count == 1:
        return ("a",) * 8 + ("one", "1", *(("a single", "a lone") if alone else ()))
    phrases = (words.NUMBERS[count] if count < len(words.NUMBERS) else str(count), str(count))
    return phrases + (("a pair of", "a couple of") if count == 2 else ())


def _sized(size: str) -> Rules:
    named: Rules = {
        "size": _often(words.SIZES[size]),
        "measure": tuple(word for word in words.SIZES[size] if " " not in word),
        "thing": ("{size} {hue} {shape}",) * 10 + ("{hue} {size} {shape}",),
        "N": ("{one} {thing}",) * 8
        + ("{one} {size} {shape} in {colour}", "{one} {size} {shape} that {is} {colour}")
        + ("{one} {shape}, {measure} and {colour},", "{one} {hue} {shape}, {measure},"),
    }
    if size == "medium":
        named["N"] += ("{one} {hue} {shape} of medium size",)
    return named


def _digit(shape: str) -> Rules:
    """A digit is one of its kind: it is counted by no number, which would be read as its name."""
    named = tuple(f"{noun} {name}" for name in (shape, words.NUMBERS[int(shape)]) for noun in words.DIGITS)
    return {
        "one": ("a", "the"),
        "shape": _often(named),
        "N": ("{one} {thing}",) * 4 + ("the {shape} in {colour}", "the {shape}, in {colour},", f"a {{hue}} {shape}"),
    }


def _ground(background: str, plural: bool) -> Rules:
    """The rules for the background: where things are, a tag, and a clause of its own."""
    sky = ("in a {paint} sky", "against a {paint} sky") if background in _SKIES else ()
    return {
        "paint": _often(words.BACKGROUNDS[background]),
        "even": ("{paint}",) * 6
        + tuple(f"{each} {{paint}}" for each in ("plain", "solid", "flat", "uniform", "empty")),
        "wall": ("background", "backdrop", "wall", "curtain", "screen", "canvas"),
        "floor": ("background", "floor", "surface", "canvas", "field", "screen", "stage", "board"),
        "ground": ("background", "background", "backdrop", "wall", "floor") + (("sky",) if sky else ()),
        "them": ("them",) if plural else ("it",),
        "place": ("on a {even} background",) * 4
        + ("against a {even} {wall}", "in front of a {even} {wall}")
        + ("on a {even} {floor}", "over a {even} {floor}", "set against a {even} backdrop")
        + ("on {paint}", "over {paint}", "against {paint}", "on plain {paint}")
        + ("with a {even} {wall} behind {them}", "with {paint} behind {them}", "with a {even} background")
        + sky,
        "tag": ("{even} background",) * 4 + ("{even} {ground}", "a {even} {ground}", "a {even} background"),
        "behind": ("the {ground} is {paint}",) * 3
        + ("the {wall} behind {them} is {paint}", "everything behind {them} is {paint}"),
    }


def _every_rules() -> Iterator[Rules]:
    """Rules that together hold every option of the grammar."""
    from flickbook.world import views
    from flickbook.world.book import captions as book

    yield _COMMON
    yield {"sentences": _SINGLE + _QUICK + _PAIR + _TOGETHER + _ALIKE + _ALIKE_TOGETHER + _BRIEF + _BRIEF_PAIR}
    yield from (_ground(background, plural) for background in words.BACKGROUNDS for plural in (False, True))
    for count in range(1, len(words.NUMBERS)):
        actors = [Actor(shape, "red", "left") for shape in (*words.SHAPES, str(count), "0")]
        actors += [Actor("star", colour, "left") for colour in words.COLOURS]
        actors += [Actor("star", "red", motion, "") for motion in MOTIONS]
        actors += [Actor("star", "red", "left", size) for size in SIZES]
        yield from (_object("1", actor, count, alone=True) for actor in actors)
    for view in views.VIEWS.values():
        yield from view.PHRASES.every_rules()
    yield from book.every_rules()
