"""Features of films: what FVD-w, the diversity and the nearest training clip are measured in.

A small frozen network looks at 16 frames of 64 x 64 pixels and at the change from each frame to the next. It was
trained to classify the scenes of the world's renders; `train_features` does that and writes `features.safetensors`.
The features of a film are the mean activations of four layers over space and time, each with mean 0 and standard
deviation 1 over true films: the early layers see texture and noise, the late ones the words of the scene, and the
layers over time the motion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from flickbook.world import views
from flickbook.world.book.page import ACTIONS, DIRECTIONS, LIGHTS, PLACES, SUBJECTS
from flickbook.world.book.read import small
from flickbook.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    DIGITS,
    MOTIONS,
    OBJECTS,
    SHAPES,
    SIZES,
    Scene,
)

WEIGHTS = Path(__file__).with_name("features.safetensors")
#: The words that each head tells apart.
HEADS: dict[str, tuple[str, ...]] = {
    "kind": (*OBJECTS, "book", *views.VIEWS),
    "colour": tuple(COLOURS),
    "shape": SHAPES + DIGITS,
    "motion": MOTIONS,
    "background": tuple(BACKGROUNDS),
    "size": tuple(SIZES),
    "subject": SUBJECTS,
    "action": tuple(dict.fromkeys(action for actions in ACTIONS.values() for action in actions)),
    "place": PLACES,
    "light": LIGHTS,
    "direction": DIRECTIONS,
    **{f"{kind}.{trait}": words for kind, view in views.VIEWS.items() for trait, words in view.TRAITS.items()},
}
#: The layers in order: over space (3 x 3, stride 2) or over time (3 frames, added to their input), and their channels.
LAYERS: tuple[tuple[str, int, int], ...] = (
    ("space", 6, 16),
    ("space", 16, 32),
    ("time", 32, 32),
    ("space", 32, 64),
    ("time", 64, 64),
    ("space", 64, 96),
    ("time", 96, 96),
)
#: The layers whose mean activations are the features: the first, and those over time.
LEVELS = (0, 2, 4, 6)
#: Length of a film's features.
FEATURES = sum(LAYERS[level][2] for level in LEVELS)
_BATCH = 16


def words_of(scene: Scene) -> dict[str, str]:
    """head -> word of a scene, without the heads that do not apply to it; of a pair only what both objects share."""
    if scene.kind == "book":
        return {"kind": "book"} | {name: word for name, word in scene.traits.items() if name in HEADS}
    if scene.kind not in OBJECTS:
        return {"kind": scene.kind} | {f"{scene.kind}.{trait}": word for trait, word in scene.traits.items()}
    found = {"kind": scene.kind, "background": scene.background}
    if len(set(scene.actors)) == 1:
        actor = scene.actors[0]
        found |= {"colour": actor.colour, "shape": actor.shape, "motion": actor.motion}
        found |= {"size": actor.size} if actor.size and scene.kind == "core" else {}
    return found


class FilmNetwork(nn.Module):
    """(b, frames, 3, 64, 64) in 0..1 -> features (b, `FEATURES`); `classify` gives the logits of all heads."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for kind, inside, out in LAYERS:
            if kind == "space":
                self.layers.append(nn.Conv2d(inside, out, 3, 2, 1, bias=False))
            else:
                self.layers.append(nn.Conv2d(inside, out, (3, 1), padding=(1, 0), bias=False))
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for _, _, out in LAYERS)
        last = LAYERS[-1][2]
        self.heads = nn.Linear(4 * last, sum(map(len, HEADS.values())))
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))

    def _levels(self, films: Tensor) -> list[Tensor]:
        """The activations of each layer, (b * frames, channels, h, w)."""
        count, frames = films.shape[:2]
        pixels = films - 0.5
        change = torch.cat([torch.zeros_like(pixels[:, :1]), pixels[:, 1:] - pixels[:, :-1]], 1)
        x = torch.cat([pixels, 2 * change], 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        found = []
        for (kind, *_), layer, norm in zip(LAYERS, self.layers, self.norms, strict=True):
            if kind == "space":
                x = functional.relu(norm(layer(x)))
            else:
                channels, high, wide = x.shape[1:]
                line = x.permute(0, 2, 3, 1).reshape(count, frames, high * wide, channels).permute(0, 3, 1, 2)
                line = norm(layer(line)).permute(0, 2, 3, 1).reshape(count * frames, high, wide, channels)
                x = functional.relu(x + line.permute(0, 3, 1, 2))
            found.append(x)
        return found

    def forward(self, films: Tensor) -> Tensor:
        count = len(films)
        levels = self._levels(films)
        means = [levels[k].mean((2, 3)).view(count, -1, levels[k].shape[1]).mean(1) for k in LEVELS]
        return (torch.cat(means, 1) - self.mean) / self.scale

    def classify(self, films: Tensor) -> dict[str, Tensor]:
        """head -> logits (b, words)."""
        count = len(films)
        x = self._levels(films)[-1]
        frames = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1).view(count, -1, 2 * x.shape[1])
        logits = self.heads(torch.cat([frames.mean(1), frames[:, -4:].mean(1) - frames[:, :4].mean(1)], 1))
        parts = torch.split(logits, [len(words) for words in HEADS.values()], 1)
        return dict(zip(HEADS, parts, strict=True))


def tensor(films: np.ndarray) -> Tensor:
    """(b, 16, 64, 64, 3) uint8 -> (b, 16, 3, 64, 64) float in 0..1."""
    return torch.tensor(films).permute(0, 1, 4, 2, 3).float() / 255


@cache
def network() -> FilmNetwork:
    """The trained network, in evaluation mode."""
    found = FilmNetwork()
    state = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    found.load_state_dict(state, strict=False)  # the file leaves out the counters of the batch norms
    return found.eval()


def weights_sha256() -> str:
    """The SHA-256 of the weights: distances of other weights are not comparable."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()


@torch.inference_mode()
def features(films: Iterable[np.ndarray]) -> np.ndarray:
    """The features (n, `FEATURES`) float64 of films, each (16, 128, 128, 3) uint8."""
    found, pending = [np.empty((0, FEATURES))], map(small, films)
    while part := list(islice(pending, _BATCH)):
        found.append(network()(tensor(np.stack(part))).double().numpy())
    return np.concatenate(found)
