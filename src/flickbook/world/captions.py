"""Words for a scene: several sentences that say the same film."""

from __future__ import annotations

from flickbook.world.scenes import Actor, Scene
from flickbook.world.words import NUMBERS, article, plural

_MOVES: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "moving to the left", "sliding left", "going left"),
    "right": ("moving right", "moving to the right", "sliding right", "going right"),
    "up": ("moving up", "rising", "floating up", "going up"),
    "down": ("moving down", "falling", "sinking down", "going down"),
    "bouncing": ("bouncing", "bouncing up and down", "bouncing on the ground", "jumping up and down"),
    "circling": ("circling", "moving in a circle", "circling around", "going round in a circle"),
    "growing": ("growing", "getting bigger", "growing larger", "expanding"),
    "shrinking": ("shrinking", "getting smaller", "shrinking away", "becoming smaller"),
    "spinning": ("spinning", "rotating", "spinning around", "turning around"),
}


def _noun(actor: Actor, sized: bool) -> str:
    if actor.shape.isdigit():
        return f"{actor.colour} digit {actor.shape}"
    size = f"{actor.size} " if sized and actor.size else ""
    return f"{size}{actor.colour} {actor.shape}"


def _single(scene: Scene) -> tuple[str, ...]:
    actor, ground = scene.actors[0], scene.background
    plain, long, third, fourth = _MOVES[actor.motion]
    sized, short = _noun(actor, True), _noun(actor, False)
    whole = f"{article(sized)} {plain} on {article(ground)} background"
    # A digit, and a shape whose size changes, has no size word.
    other = f"{article(short)} {plain} on {article(ground)} background" if sized != short else f"a film of {whole}"
    captions: tuple[str, ...] = (
        whole,
        other,
        f"{article(sized)} {long}, {ground} background",
        f"{article(sized)} is {third} in front of {article(ground)} background",
        f"on {article(ground)} background, {article(sized)} {fourth}",
        f"{short} {plain}, {ground} background",
        f"a film of {article(sized)} {long} over {ground}",
        f"{ground} background with {article(short)} {third}",
    )
    if actor.shape.isdigit():
        word = NUMBERS[int(actor.shape)]
        captions += (f"the number {word} in {actor.colour} {plain} on {article(ground)} background",)
    return captions


def _pair(scene: Scene) -> tuple[str, ...]:
    ground = scene.background
    one, two = scene.actors
    captions: list[str] = []
    for first, second in ((one, two), (two, one)):
        a, b = article(_noun(first, False)), article(_noun(second, False))
        m, n = _MOVES[first.motion], _MOVES[second.motion]
        captions += [
            f"{a} {m[0]} and {b} {n[0]} on {article(ground)} background",
            f"{a} is {m[1]} while {b} is {n[1]}, {ground} background",
            f"two shapes on {ground}: {a} {m[0]}, {b} {n[0]}",
        ]
    return tuple(captions)


def _several(scene: Scene) -> tuple[str, ...]:
    actor, ground = scene.actors[0], article(scene.background)
    count = NUMBERS[len(scene.actors)]
    nouns = f"{actor.colour} {plural(actor.shape)}"
    plain, long, third, fourth = _MOVES[actor.motion]
    return (
        f"{count} {nouns} {plain} on {ground} background",
        f"{count} {nouns} {long}, {scene.background} background",
        f"{count} {nouns} are {third} in front of {ground} background",
        f"on {ground} background, {count} {nouns} {fourth}",
        f"a film of {count} {nouns} {plain} over {scene.background}",
    )


def captions(scene: Scene) -> tuple[str, ...]:
    """Five or more paraphrases that name everything the scene is judged by; the first is the plain one."""
    if scene.kind == "book":
        from flickbook.world.book import captions as book

        return book.captions(scene.traits)
    if scene.kind == "pair":
        return _pair(scene)
    if scene.kind == "several":
        return _several(scene)
    if scene.kind in ("core", "digits"):
        return _single(scene)
    from flickbook.world import views

    found: tuple[str, ...] = views.VIEWS[scene.kind].captions(scene.traits)
    return found


def brief_captions(scene: Scene) -> tuple[str, ...]:
    """Prompts that leave something out, so that the model also learns short ones."""
    if scene.kind == "book":
        from flickbook.world.book import captions as book

        return book.brief_captions(scene.traits)
    if scene.kind == "several":
        one = scene.actors[0]
        named = f"{NUMBERS[len(scene.actors)]} {one.colour} {plural(one.shape)}"
        return (named, f"{named} {_MOVES[one.motion][0]}", f"{named} on {article(scene.background)} background")
    if scene.kind in ("core", "digits"):
        actor = scene.actors[0]
        short, plain = article(_noun(actor, False)), _MOVES[actor.motion][0]
        shape = f"digit {actor.shape}" if actor.shape.isdigit() else actor.shape
        return (short, f"{short} {plain}", f"{article(shape)} {plain}", f"{article(shape)} on {scene.background}")
    if scene.kind == "pair":
        first, second = (article(_noun(a, False)) for a in scene.actors)
        return (f"{first} and {second}", f"{first} and {second} on {article(scene.background)} background")
    from flickbook.world import views

    found: tuple[str, ...] = views.VIEWS[scene.kind].brief_captions(scene.traits)
    return found
