"""Films of the picture book as a model might spoil them, to train their judge: mildly, so that the words still hold, or
so much that a word becomes unclear.

A batch is frames (b, 16, 3, 64, 64) float in 0..1 with `labels` (b, heads): the index of the word, the number of words
for "unclear", or -1 where the head is not trained. Everything is drawn from one generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flickbook.world.book.captions import GOING
from flickbook.world.book.read import HEADS, SIDE

Draw = Callable[..., Tensor]

IGNORED = -1
UNCLEAR = np.array([len(words) for words in HEADS.values()])
NAMES = tuple(HEADS)
_ACTION, _DIRECTION, _SUBJECT = NAMES.index("action"), NAMES.index("direction"), NAMES.index("subject")
#: Actions that a film run backwards or in disorder still may show.
_TIMELESS = tuple(HEADS["action"].index(word) for word in ("standing", "sleeping"))
_THERE_AND_BACK = (*_TIMELESS, HEADS["action"].index("dancing"), HEADS["action"].index("jumping"))


def labels_of(words: dict[str, str]) -> np.ndarray:
    """The labels of a page's words. A direction belongs only to an action that goes somewhere."""
    found = np.array([HEADS[name].index(words[name]) for name in NAMES])
    if words["action"] not in GOING:
        found[_DIRECTION] = IGNORED
    return found


def both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The labels of a film that shows two: unclear where they differ."""
    found = np.where(first == second, first, UNCLEAR)
    found[(first == IGNORED) | (second == IGNORED)] = IGNORED
    return found


def disorder(film: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Freeze, shuffle or reverse a film (16, ...): its subject, place and light stay, its action becomes unclear."""
    labels = labels.copy()
    kind = int(rng.integers(4))
    kept = _THERE_AND_BACK if kind == 3 else _TIMELESS
    labels[_ACTION] = IGNORED if labels[_ACTION] in kept else UNCLEAR[_ACTION]
    if labels[_DIRECTION] != IGNORED:
        labels[_DIRECTION] = UNCLEAR[_DIRECTION]
    if kind < 2:  # frozen from the start, or after a few frames
        order = np.minimum(np.arange(16), 0 if kind == 0 else int(rng.integers(1, 5)))
        order = order + int(rng.integers(0, 12))
    else:
        order = rng.permutation(16) if kind == 2 else np.arange(16)[::-1]
    return film[order], labels


def mixed(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Half of one film and half of another: cut, frame by frame in turn, or laid over each other."""
    kind = int(rng.integers(3))
    if kind == 2:
        share = float(rng.uniform(0.35, 0.65))
        return (share * first + (1 - share) * second).astype(np.uint8), labels
    other = np.arange(16) >= rng.integers(5, 12) if kind == 0 else rng.random(16) < 0.5
    return np.where(other[:, None, None, None], second, first), labels


def nothing(rng: np.random.Generator) -> np.ndarray:
    """A film (16, 64, 64, 3) of noise or of one colour."""
    level = rng.integers(0, 256, 3)
    film: np.ndarray = np.broadcast_to(level, (16, SIDE, SIDE, 3)).astype(np.float32)
    if rng.random() < 0.7:
        size = int(rng.choice([4, 16, 64]))
        grain = rng.normal(0, rng.uniform(5, 80), (16 if rng.random() < 0.5 else 1, size, size, 3))
        film = film + grain.repeat(SIDE // size, 1).repeat(SIDE // size, 2)
    return np.asarray(film.clip(0, 255), np.uint8)


@dataclass(frozen=True)
class Spoiler:
    """Spoils a batch as a whole. `strong` is the share of films spoiled so much that words become unclear."""

    strong: float = 0.08

    def __call__(self, films: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The spoiled films and their labels; mirrored films have their direction turned."""
        count = len(films)

        def draw(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator)

        def normal(*shape: int) -> Tensor:
            return torch.randn(count, *shape, generator=generator)

        labels = labels.clone()
        flip = draw() < 0.5
        turned = flip & (labels[:, _DIRECTION] >= 0) & (labels[:, _DIRECTION] < 2)
        labels[turned, _DIRECTION] = 1 - labels[turned, _DIRECTION]
        hard = draw()
        shaken, bent, blurred = hard < 0.3 * self.strong, hard > 1 - 0.3 * self.strong, None
        blurred = (hard > 0.5) & (hard < 0.5 + 0.4 * self.strong)
        films = _warp(films, flip, draw, normal, shaken, bent)
        films = _soften(films, draw, blurred)
        films = _recolour(films, draw, normal)
        for head in (_ACTION, _DIRECTION):
            labels[shaken | bent | blurred, head] = int(UNCLEAR[head])
        labels[bent | blurred, _SUBJECT] = int(UNCLEAR[_SUBJECT])
        for head in range(len(NAMES)):
            if head not in (_ACTION, _DIRECTION, _SUBJECT):
                labels[blurred, head] = IGNORED
        labels[shaken & (labels[:, _ACTION] == IGNORED), _ACTION] = IGNORED
        return films, labels


def _warp(films: Tensor, flip: Tensor, draw: Draw, normal: Draw, shaken: Tensor, bent: Tensor) -> Tensor:
    """Mirror, shift, scale and wobble; `shaken` films jump from frame to frame, `bent` ones melt."""
    count, frames = films.shape[:2]
    pixel = 2 / SIDE
    shift = 1.5 * pixel * normal(1, 2) + pixel * torch.where(shaken, 4.0, 0.35 * draw())[:, None, None] * normal(
        frames, 2
    )
    scale = 1 + 0.04 * normal(1, 1)
    theta = torch.zeros(count, frames, 2, 3)
    theta[..., 0, 0] = (scale * torch.where(flip, -1.0, 1.0)[:, None, None])[..., 0]
    theta[..., 1, 1] = scale[..., 0]
    theta[..., 2] = shift
    grid = functional.affine_grid(theta.flatten(0, 1), [count * frames, 3, SIDE, SIDE], align_corners=False)
    melt = pixel * torch.where(bent, 4.0, 0.35 * draw())[:, None, None, None, None] * normal(frames, 2, 8, 8)
    grid = grid + functional.interpolate(melt.flatten(0, 1), size=SIDE, mode="bilinear").permute(0, 2, 3, 1)
    warped = functional.grid_sample(films.flatten(0, 1), grid, padding_mode="border", align_corners=False)
    return warped.view(films.shape)


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of frames (n, 3, h, w); as products with a matrix, which are much faster than convolutions here."""
    place = torch.arange(SIDE)
    line = torch.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    line = line / line.sum(1, keepdim=True)
    return line @ x @ line.T


def _soften(films: Tensor, draw: Draw, blurred: Tensor) -> Tensor:
    """Blur, lose resolution, and drag traces of the frame before; `blurred` films lose what they show."""
    films = films.clone()
    kind = draw()
    soft = (kind < 0.5) & ~blurred
    if soft.any():
        share = draw()[soft, None, None, None, None]
        films[soft] = films[soft].lerp(_blur(films[soft].flatten(0, 1), 1.3).view_as(films[soft]), share)
    coarse = (kind > 0.75) & ~blurred
    if coarse.any():
        low = functional.avg_pool2d(films[coarse].flatten(0, 1), 2)
        back = functional.interpolate(low, scale_factor=2, mode="bilinear").view_as(films[coarse])
        films[coarse] = films[coarse].lerp(back, draw()[coarse, None, None, None, None])
    if blurred.any():
        films[blurred] = _blur(films[blurred].flatten(0, 1), 4.5).view_as(films[blurred])
    drag = torch.where(draw() < 0.3, 0.35 * draw(), 0.0)[:, None, None, None, None]
    return torch.cat([films[:, :1], films[:, 1:].lerp(films[:, :-1], drag)], 1)


def _recolour(films: Tensor, draw: Draw, normal: Draw) -> Tensor:
    """Gain and offset of each channel, stains, a flicker, noise, and few levels of brightness."""
    count, frames = films.shape[:2]
    gain = 1 + 0.06 * normal(1, 3, 1, 1) + 0.01 * normal(frames, 1, 1, 1)
    films = (films - 0.5) * gain + 0.5 + 0.025 * normal(1, 3, 1, 1)
    stains = functional.interpolate(0.03 * normal(3, 6, 6), size=SIDE, mode="bilinear")
    films = films + draw()[:, None, None, None, None] * stains[:, None]
    rough = torch.where(draw() < 0.5, 0.03 * draw(), 0.0)[:, None, None, None, None]
    films = films + rough * normal(frames, 3, SIDE, SIDE)
    levels = torch.where(draw() < 0.3, 12 + 60 * draw(), 255.0)[:, None, None, None, None]
    return (films * levels).round().div(levels).clamp(0, 1)
