"""Other words for the words of captions: a caption and its paraphrases ask for the same film.

The captions of training use few words, those of `captions` and of the views. People use many more. The text encoder
learns from these tables that a "crimson ball gliding leftwards" is a "red circle moving left".
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

import numpy as np

from flickbook.world.scenes import Scene

#: A phrase of the captions, and what people say instead. The longest phrase that fits is replaced.
SYNONYMS: Final[dict[str, str]] = {
    # Colours
    "red": "crimson, scarlet, ruby, cherry, bright red, vivid red",
    "green": "emerald, lime, jade, grass green, bright green, leafy green, olive",
    "blue": "navy, azure, cobalt, sapphire, royal blue, bright blue, indigo",
    "yellow": "golden, gold, lemon, amber, canary, sunny yellow, bright yellow",
    "purple": "violet, magenta, lilac, lavender, plum, mauve, amethyst",
    "orange": "tangerine, pumpkin, apricot, carrot, bright orange",
    "white": "ivory, snow white, pearl, pale, whitish",
    "pink": "rose, rosy, salmon, fuchsia, hot pink, coral pink",
    "black": "jet black, ebony, pitch black, coal, blackish, inky",
    "grey": "gray, silver, ash, slate, greyish, grayish, charcoal",
    "brown": "chocolate, tan, chestnut, coffee, earthy, wooden, bronze",
    "turquoise": "aqua, teal, aquamarine",
    "cyan": "aqua, light blue, electric blue",
    "colourful": "colorful, multicolored, bright, vivid",
    # Shapes
    "circle": "ball, disc, disk, dot, sphere, round shape, orb, globe, bubble, marble, coin",
    "square": "box, block, cube, tile, quadrilateral, crate, brick",
    "triangle": "pyramid, wedge, three sided shape, arrowhead, cone",
    "star": "pointed star, five pointed star, sparkle",
    "cross": "plus, plus sign, plus symbol, x shape",
    "ring": "hoop, donut, doughnut, loop, annulus, wheel, tyre, tire, bagel",
    "digit": "number, numeral, figure",
    "shapes": "figures, forms, objects, polygons",
    # Sizes
    "small": "little, tiny, mini, miniature, wee, petite",
    "medium": "medium sized, normal, average, mid sized, regular",
    "large": "big, huge, giant, great, enormous, massive, oversized, gigantic",
    # Motions. Phrases with a direction come before their words.
    "moving left": "gliding left, travelling left, traveling left, heading left, drifting left, moving leftwards, "
    "moving from right to left, walking left, rolling left, running left, flying left, crossing to the left",
    "moving right": "gliding right, traveling right, heading right, drifting right, moving rightwards, "
    "moving from left to right, walking right, rolling right, running right, flying right, crossing to the right",
    "moving up": "ascending, going upwards, moving upward, climbing, soaring, lifting, drifting up, flying up, "
    "moving from bottom to top, levitating, taking off",
    "moving down": "descending, going downwards, moving downward, dropping, drifting down, tumbling down, "
    "moving from top to bottom, plunging, sliding down, lowering",
    "moving to the left": "travelling to the left, leftward bound, passing to the left, moving towards the left",
    "moving to the right": "travelling to the right, rightward bound, passing to the right, moving towards the right",
    "moving in a circle": "orbiting, looping, revolving, travelling round and round, moving along a circle",
    "rising": "ascending, climbing, coming up, going up",
    "falling": "dropping, descending, plummeting, coming down",
    "bouncing": "jumping, hopping, leaping, springing, bobbing, dribbling, skipping",
    "bouncing up and down": "jumping up and down, hopping up and down, springing up and down",
    "bouncing on the ground": "hopping on the floor, bouncing on the floor, jumping on the ground",
    "circling": "orbiting, looping around, going around, revolving, wheeling, going in circles, moving in circles",
    "growing": "expanding, swelling, inflating, enlarging, zooming in, widening, blowing up, increasing in size",
    "getting bigger": "becoming larger, becoming bigger, scaling up, getting larger",
    "shrinking": "contracting, dwindling, deflating, diminishing, zooming out, vanishing, decreasing in size",
    "getting smaller": "becoming tiny, scaling down, growing smaller, getting tinier",
    "spinning": "rotating, turning, twirling, whirling, spinning round, spinning in place, pirouetting, twisting",
    # Places and frames
    "background": "backdrop, floor, wall, screen, canvas, ground, surface, scene, field",
    "in front of": "before, against, in front of",
    "a film of": "a video of, a clip of, a movie of, an animation of, a short film of, footage of, a shot of, "
    "a cartoon of, an animated clip of, a loop of, a gif of",
    # Scenes
    "sun": "sunshine, glowing sun, bright sun, sun disk",
    "sunset": "dusk, nightfall, sundown, twilight",
    "sunrise": "dawn, daybreak, sunup, first light",
    "mountains": "hills, peaks, alps, a mountain range, cliffs, ridges",
    "mountain ranges": "mountain ridges, mountain chains, summits",
    "over": "above, across",
    "peaceful": "quiet, tranquil, serene, gentle",
    "beautiful": "lovely, gorgeous, stunning, pretty, scenic",
    "misty": "foggy, hazy",
    "cloudy": "overcast, grey and cloudy",
    "clear": "cloudless, bright",
    "stormy": "rough, windy, wild, thundery",
    "calm": "still, smooth, quiet",
    "rainy": "wet, drizzly",
    "in the rain": "in a downpour, in a shower, during rain, while it rains",
    "snowy": "wintry, frosty, icy",
    "in the snow": "in a blizzard, during snowfall, while it snows, in winter",
    "sailboat": "sailing boat, yacht, ship, sailing ship, vessel, dinghy",
    "boat": "ship, vessel, yacht, craft",
    "waves": "swell, surf, rolling waves, ripples",
    "sea": "ocean, open water",
    "city": "town, metropolis, street, downtown, cityscape, megacity",
    "skyline": "skyscrapers, towers, buildings, high rises",
    "neon": "glowing, luminous, fluorescent, illuminated",
    "flying vehicles": "hovercars, flying cars, hovering cars, airships, drones, spaceships, flying taxis",
    "vehicles": "cars, traffic",
    "cyberpunk": "science fiction, sci fi, futuristic",
    "shooting stars": "meteors, falling stars, comets, a meteor shower",
    "starry": "star filled, star lit, twinkling",
    "hills": "hillside, slopes, fields, meadows, dunes, countryside",
    "night": "nighttime, midnight, dark",
    "fish": "tropical fish, fishes, clownfish, a school of fish",
    "coral reef": "reef, coral garden, aquarium, seabed",
    "swimming": "gliding, darting, drifting, moving",
    "underwater": "under water, below the surface, beneath the sea",
    "abstract": "artistic, minimal, modern, decorative",
    "geometric": "simple, angular",
    "morphing": "changing, transforming, flowing, deforming",
    "dancing": "moving to music, grooving, swaying",
    "pulsing": "throbbing, beating",
    "vibrant": "lively, lush, radiant",
}
_BEFORE: Final = (
    "a video of, a clip of, an animation of, show me, show, make a film of, create a video of, generate, please draw, "
    "draw, render, animate, a short clip showing, a film that shows, imagine, a simple animation of, footage of, "
    "i want, there is, we see, look at, a picture of, here is, in this video"
)
_AFTER: Final = (
    "simple, high quality, best quality, smooth, smooth motion, cartoon, cartoon style, flat design, minimalist, 4k, "
    "hd, cinematic, detailed, animation, animated, looping, seamless loop, slowly, quickly, fast, slow motion, "
    "in motion, vector art, clean, crisp, sharp, masterpiece, for kids, steadily, gently, continuously, again and again"
)
#: Phrases that a table would spoil: their words mean another thing there.
_KEPT: Final = ("in a circle", "cross section", "getting larger", "two shapes")
_REPLACED, _BEGUN, _ENDED, _STOPPED = 0.4, 0.15, 0.15, 0.1


def _listed(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split(","))


@cache
def _pattern() -> re.Pattern[str]:
    phrases = sorted((*SYNONYMS, *_KEPT), key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, phrases)) + r")\b")


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _articles(text: str) -> str:
    """The right article before each word: "a orange" becomes "an orange"."""
    return re.sub(r"\ban? (?=(\w))", lambda found: "an " if found[1] in "aeio" else "a ", text)


def rephrase(text: str, rng: np.random.Generator) -> str:
    """A paraphrase of a caption; drawn anew it is usually another one."""

    def other(found: re.Match[str]) -> str:
        phrase = found[0]
        if phrase not in SYNONYMS or rng.random() >= _REPLACED:
            return phrase
        return _pick(_listed(SYNONYMS[phrase]), rng)

    text = _articles(_pattern().sub(other, text))
    # Two adjectives of light, or an article before a plural, are what people write; two articles are not.
    text = re.sub(r"\ban? (an?) ", r"\1 ", text)
    if rng.random() < _BEGUN:
        text = f"{_pick(_listed(_BEFORE), rng)} {text}"
    if rng.random() < _ENDED:
        text = f"{text}, {_pick(_listed(_AFTER), rng)}"
    return f"{text}." if rng.random() < _STOPPED else text


def words() -> frozenset[str]:
    """Every word that `rephrase` may add."""
    texts = (*SYNONYMS.values(), _BEFORE, _AFTER)
    return frozenset(word for text in texts for word in re.findall(r"[a-z0-9]+", text))


def both(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A paraphrase for a scene, and the caption in the words of training that asks for the same film."""
    from flickbook.world.captions import brief_captions, captions

    whole = captions(scene)
    if rng.random() < 0.2:
        text = _pick(brief_captions(scene), rng)
        return rephrase(text, rng), text
    return rephrase(_pick(whole, rng), rng), whole[0]
