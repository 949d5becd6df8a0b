"""The judge: reads colour, shape, motion, size, background and count back from the frames of a film.

Pages of the picture book are read by the network of `book/read.py`. Nothing else here is learned, so the score of all
other films cannot drift. Words come from `scenes`, outlines from `render`:

1. Background: the palette word nearest (CIELAB) to the median colour of each frame's border.
2. Objects: the blobs of `blobs.find`, joined into tracks by place and colour.
3. Colour: the palette word nearest to the median of a blob's core.
4. Shape: the blob's coverage, moved to its centroid and scaled to one area, correlated with every outline at 16
   rotations. The shape that wins in more than half of the area seen stands.
5. Motion: the curve of `motion.read` that explains the track of centre, size and angle.

Colour, background and count hold if they are the same in 80 % of the frames. A word that does not hold is "unclear".
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

from flickbook.errors import RequestError
from flickbook.world import motion, render, scenes
from flickbook.world.blobs import Blob, lab, normalise, of_film
from flickbook.world.motion import UNCLEAR
from flickbook.world.scenes import BACKGROUNDS, COLOURS, DIGITS, FRAMES, OBJECTS, SHAPES, SIZE, SIZES, Actor, Scene

STEADY = 0.8  #: share of the frames in which colour, background and count must be the same
PRESENT = 0.5  #: share of the frames in which an object must be seen at all
NAMED = 30.0  #: CIELAB distance beyond which no colour word fits
ALIKE = 0.8  #: mean correlation below which no outline fits

_ROTATIONS = 16
_LEAP = 40.0  # pixels; a bounce crosses 28 between frames
_CUT_WEIGHT = 0.1  # an outline cut off by the edge still beats none

__all__ = ["UNCLEAR", "Reading", "Sighting", "Verdict", "fitted", "judge", "read", "tracks", "wilson"]


def fitted(frames: np.ndarray, whole: bool = False) -> np.ndarray:
    """A film (n, height, width, 3) uint8 in the size that the judge needs: the square in its middle, 128 pixels wide,
    and of more than 16 frames 16, evenly spaced. A `whole` film has 16 frames, so that fewer are repeated."""
    if len(frames) > FRAMES or (whole and len(frames) < FRAMES):
        frames = frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]
    _, height, width, _ = frames.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    frames = frames[:, top : top + side, left : left + side]
    if side == SIZE:
        return frames
    how = Image.Resampling.BOX if side > SIZE else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(frame).resize((SIZE, SIZE), how)) for frame in frames])


@dataclass(frozen=True)
class Sighting:
    """One object as read. `size` is empty where the motion itself changes the size."""

    colour: str
    shape: str
    motion: str
    size: str


@dataclass(frozen=True)
class Reading:
    """What a film shows. A word that does not hold is "unclear"; a count that does not hold is None."""

    background: str
    objects: tuple[Sighting, ...]
    count: int | None


@dataclass(frozen=True)
class Verdict:
    """Which words of a scene its film shows. `counted` decides; `apart` (size, direction) is reported beside it."""

    counted: dict[str, bool]
    apart: dict[str, bool] = field(default_factory=dict)

    @property
    def all_correct(self) -> bool:
        return all(self.counted.values())


@cache
def _palette(ground: bool) -> tuple[tuple[str, ...], np.ndarray]:
    words = BACKGROUNDS if ground else COLOURS
    return tuple(words), lab(np.array(list(words.values())))


def _name(colour: np.ndarray, ground: bool) -> str:
    """The colour word nearest to a CIELAB colour (3,)."""
    words, colours = _palette(ground)
    distance = np.linalg.norm(colours - colour, axis=1)
    nearest = int(distance.argmin())
    return words[nearest] if distance[nearest] <= NAMED else UNCLEAR


@dataclass(frozen=True)
class _Outlines:
    """Every outline at every rotation. `unit` is the area of each shape at half-height 1."""

    shapes: tuple[str, ...]
    patches: np.ndarray  # (shapes, rotations, pixels of a patch)
    unit: dict[str, float]
    period: dict[str, float]  # radians after which a shape looks the same; 0 where a turn cannot be seen or is not made


@cache
def _outlines(vocabulary: tuple[str, ...]) -> _Outlines:
    radius = 24.0
    turns = {"square": 4, "triangle": 3, "star": 5, "cross": 4}
    period = {shape: 2 * math.pi / turns[shape] if shape in turns else 0.0 for shape in vocabulary}
    patches, unit = [], {}
    for shape in vocabulary:
        angles = [period[shape] * k / _ROTATIONS for k in range(_ROTATIONS)]
        # Once each: what has no period has one angle.
        drawn = {angle: normalise(render.mask(shape, 64, 64, radius, angle)[2]) for angle in dict.fromkeys(angles)}
        unit[shape] = drawn[0.0][2] / radius**2
        patches.append([drawn[angle][3] for angle in angles])
    return _Outlines(vocabulary, np.array(patches, np.float32), unit, period)


def _shape(track: Sequence[Blob], outlines: _Outlines) -> tuple[str, np.ndarray]:
    """The shape word of a track, and its best angle in each frame, radians (n,)."""
    scores = np.einsum("np,srp->nsr", np.stack([blob.patch for blob in track]), outlines.patches, optimize=True)
    best = scores.max(2)
    weight = np.array([blob.area * (_CUT_WEIGHT if blob.cut else 1.0) for blob in track])
    votes = np.bincount(best.argmax(1), weights=weight, minlength=len(outlines.shapes))
    winner = int(votes.argmax())
    word = outlines.shapes[winner]
    angle = scores[:, winner].argmax(1) * (outlines.period[word] / _ROTATIONS)
    steady = 2 * votes[winner] > votes.sum() and float(weight @ best[:, winner]) >= ALIKE * float(weight.sum())
    return (word if steady else UNCLEAR), angle


def tracks(blobs: Sequence[Blob], frames: int) -> list[list[Blob]]:
    """Join blobs from frame to frame, nearest in place and colour first; the largest track comes first."""
    tracks: list[list[Blob]] = []
    for _, group in itertools.groupby(blobs, key=lambda blob: blob.frame):
        here = list(group)
        links: list[tuple[float, int, list[Blob], Blob]] = []
        for track, blob in itertools.product(tracks, here):
            last = track[-1]
            leap = math.hypot(blob.x - last.x, blob.y - last.y) / _LEAP
            tint = float(np.linalg.norm(blob.lab - last.lab)) / NAMED
            if leap <= blob.frame - last.frame:
                links.append((leap + tint, len(links), track, blob))
        for _, _, track, blob in sorted(links, key=lambda link: link[:2]):
            if track[-1].frame < blob.frame and any(blob is other for other in here):
                track.append(blob)
                here = [other for other in here if other is not blob]
        tracks += [[blob] for blob in here]
    seen = [track for track in tracks if len(track) >= PRESENT * frames]
    return sorted(seen, key=lambda track: -sum(blob.area for blob in track))


def _steady(words: Sequence[str], frames: int) -> str:
    word, times = Counter(words).most_common(1)[0]
    return word if times >= STEADY * frames else UNCLEAR


def _sighting(track: Sequence[Blob], frames: int, outlines: _Outlines) -> Sighting:
    colour = _steady([_name(blob.lab, ground=False) for blob in track], frames)
    shape, angle = _shape(track, outlines)
    known = shape != UNCLEAR
    area = np.array([blob.area for blob in track])
    radius = np.sqrt(area / (outlines.unit[shape] if known else math.pi))
    time = np.array([blob.frame for blob in track]) / max(frames - 1, 1)
    x, y = np.array([blob.x for blob in track]), np.array([blob.y for blob in track])
    moves = motion.read(time, x, y, radius, angle, outlines.period[shape] if known else 0.0)
    if moves in ("growing", "shrinking"):
        return Sighting(colour, shape, moves, "")
    middle = math.log(float(np.median(radius)))
    return Sighting(colour, shape, moves, min(SIZES, key=lambda word: abs(math.log(SIZES[word]) - middle)))


def read(frames: np.ndarray, vocabulary: tuple[str, ...] = SHAPES + DIGITS) -> Reading:
    """What a film of frames (n, 128, 128, 3) uint8 shows, in the shapes and digits of `vocabulary`; largest first.

    Raises RequestError for frames of another shape or type.
    """
    picture = (scenes.SIZE, scenes.SIZE, 3)
    if frames.ndim != 4 or frames.shape[1:] != picture or not len(frames) or frames.dtype != np.uint8:
        limit = f"must be uint8 of shape (frames, {scenes.SIZE}, {scenes.SIZE}, 3), one frame or more"
        raise RequestError("frames", f"{frames.dtype} {frames.shape}", limit, "resize the film before it is judged")
    ground, blobs = of_film(frames)
    words = [_name(colour, ground=True) for colour in lab(ground)]
    per_frame = np.bincount([blob.frame for blob in blobs], minlength=len(frames))
    count = _steady([str(n) for n in per_frame], len(frames))
    outlines = _outlines(vocabulary)
    objects = tuple(_sighting(track, len(frames), outlines) for track in tracks(blobs, len(frames)))
    return Reading(_steady(words, len(frames)), objects, None if count == UNCLEAR else int(count))


def _match(actor: Actor, seen: Sighting | None) -> dict[str, bool]:
    if seen is None:
        return dict.fromkeys(("colour", "shape", "motion", "size"), False)
    return {
        "colour": seen.colour == actor.colour,
        "shape": seen.shape == actor.shape,
        "motion": seen.motion == actor.motion,
        "size": not actor.size or seen.size == actor.size,
    }


def _judge_view(scene: Scene, frames: np.ndarray) -> Verdict:
    """A trait counts only where the scene itself is recognised: read off another scene it would be chance."""
    from flickbook.world import views
    from flickbook.world.views.recognise import recognise

    known = recognise(frames) == scene.kind
    traits = views.VIEWS[scene.kind].read(frames) if known else {}
    return Verdict({"scene": known} | {trait: traits.get(trait) == word for trait, word in scene.traits.items()})


def _judge_page(scene: Scene, frames: np.ndarray) -> Verdict:
    """A direction is reported apart, and only of an action that goes somewhere."""
    from flickbook.world.book.captions import GOING
    from flickbook.world.book.read import read as read_page

    seen, traits = read_page(frames), scene.traits
    counted = {name: seen[name] == traits[name] for name in ("subject", "action", "place", "light")}
    moves = traits["action"] in GOING and "direction" in traits
    return Verdict(counted, {"direction": seen["direction"] == traits["direction"]} if moves else {})


def judge(scene: Scene, frames: np.ndarray) -> Verdict:
    """Compare a film (16, 128, 128, 3) uint8 with the scene it should show.

    Core and pair count colour, shape, motion, background and count; digits the same with "digit" for shape; a view
    counts "scene" and each of its traits; a page of the book counts subject, action, place and light. Of a pair both
    objects must be right, matched by colour. An object that is missing has nothing right. Raises RequestError
    for frames of another shape or type.
    """
    if scene.kind == "book":
        return _judge_page(scene, frames)
    if scene.kind not in OBJECTS:
        return _judge_view(scene, frames)
    reading = read(frames, SHAPES + DIGITS if scene.kind == "digits" else SHAPES)
    expected = len(scene.actors)
    seen = (*reading.objects[:expected], *[None] * (expected - len(reading.objects)))
    orders = itertools.permutations(seen)
    matches = [[_match(a, s) for a, s in zip(scene.actors, order, strict=True)] for order in orders]
    best = max(matches, key=lambda order: (sum(m["colour"] for m in order), sum(sum(m.values()) for m in order)))
    held = {word: all(match[word] for match in best) for word in ("colour", "shape", "motion", "size")}
    counted = {
        "colour": held["colour"],
        "digit" if scene.kind == "digits" else "shape": held["shape"],
        "motion": held["motion"],
        "background": reading.background == scene.background,
        "count": reading.count == expected,
    }
    return Verdict(counted, {"size": held["size"]})


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval of a share (Wilson, 1927), both ends in 0..1; z = 1.96 covers 95 %.

    No trials tell nothing: 0 to 1.
    """
    if total == 0:
        return 0.0, 1.0
    share, spread = right / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, centre - half), min(1.0, centre + half)
