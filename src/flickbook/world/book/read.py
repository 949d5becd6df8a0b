"""Reads subject, action, place and light from a film of the picture book, without its prompt.

A small convolutional network looks at the frames at 64 x 64 pixels and at the change from each frame to the next; its
temporal layers mix neighbouring frames. `learn/book/recognise.py` trains it, and `read.safetensors` holds its weights
with the batch norms folded in. Each answer is a word or "unclear": the network has that class of its own, trained on
films that show something else or two things at once, and a word below the margin of its head is unclear too.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from flickbook.errors import RequestError
from flickbook.world.book.page import ACTIONS, DIRECTIONS, LIGHTS, PLACES, SUBJECTS
from flickbook.world.book.pen import FRAMES, PIXELS
from flickbook.world.motion import UNCLEAR

WEIGHTS = Path(__file__).with_name("read.safetensors")
SIDE = 64  #: pixels of a frame as the network sees it
#: The words of each head. Each head also has the class "unclear".
HEADS: dict[str, tuple[str, ...]] = {
    "subject": SUBJECTS,
    "action": tuple(dict.fromkeys(action for actions in ACTIONS.values() for action in actions)),
    "place": PLACES,
    "light": LIGHTS,
    "direction": DIRECTIONS,
}
#: The layers in order: over space (3 x 3, stride 2) or over time (3 frames, added to their input), and their channels.
#: `dilation` is the distance of the frames.
LAYERS: tuple[tuple[str, int, int, int], ...] = (
    ("space", 6, 20, 1),
    ("space", 20, 40, 1),
    ("space", 40, 64, 1),
    ("time", 64, 64, 1),
    ("space", 64, 96, 1),
    ("time", 96, 96, 2),
    ("space", 96, 128, 1),
)
#: Mean and maximum over the picture become these features of a frame, mixed over 5 frames.
FEATURES = 96
_REACH = 2


@cache
def _weights() -> dict[str, np.ndarray]:
    return {name: value.astype(np.float32) for name, value in load_file(WEIGHTS).items()}


def small(frames: np.ndarray) -> np.ndarray:
    """Frames (n, 128, 128, 3) uint8 at half the size, (n, 64, 64, 3) uint8: the mean of each 2 x 2 pixels."""
    blocks = frames.reshape(len(frames), SIDE, PIXELS // SIDE, SIDE, PIXELS // SIDE, 3)
    return np.asarray((blocks.sum((2, 4), dtype=np.uint16) + 2) // 4, np.uint8)


def _space(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A 3 x 3 convolution of stride 2 on (n, h, w, c); `weight` is (9 c, out)."""
    high, wide = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [padded[:, i : i + high : 2, j : j + wide : 2] for i in range(3) for j in range(3)]
    found: np.ndarray = np.concatenate(parts, -1) @ weight
    return found


def _time(x: np.ndarray, weight: np.ndarray, reach: int, dilation: int = 1) -> np.ndarray:
    """A convolution over 2 `reach` + 1 frames on (n, ..., c); `weight` is ((2 reach + 1) c, out)."""
    edge = reach * dilation
    padded = np.pad(x, ((edge, edge), *((0, 0),) * (x.ndim - 1)))
    parts = [padded[k * dilation : k * dilation + len(x)] for k in range(2 * reach + 1)]
    found: np.ndarray = np.concatenate(parts, -1) @ weight
    return found


def _logits(frames: np.ndarray) -> np.ndarray:
    """The answers of all heads, one after the other, before their softmax."""
    weights = _weights()
    pixels = small(frames).astype(np.float32) / 255 - 0.5
    change = np.diff(pixels, axis=0, prepend=pixels[:1])
    x = np.concatenate([pixels, 2 * change], -1)
    for number, (kind, _, _, dilation) in enumerate(LAYERS):
        weight, bias = weights[f"{number}.weight"], weights[f"{number}.bias"]
        if kind == "space":
            x = np.maximum(_space(x, weight) + bias, 0)
        else:
            x = np.maximum(x + _time(x, weight, 1, dilation) + bias, 0)
    pooled = np.concatenate([x.mean((1, 2)), x.max((1, 2))], -1)
    mixed = np.maximum(_time(pooled, weights["mix.weight"], _REACH) + weights["mix.bias"], 0)
    found: np.ndarray = np.concatenate([mixed.mean(0), mixed.max(0)]) @ weights["heads.weight"] + weights["heads.bias"]
    return found


def confidence(frames: np.ndarray) -> dict[str, tuple[str, float]]:
    """The most likely answer of each head, which may be "unclear", and its probability (0..1), without the margin.

    Raises RequestError unless frames are (16, 128, 128, 3) uint8.
    """
    if frames.shape != (FRAMES, PIXELS, PIXELS, 3) or frames.dtype != np.uint8:
        limit = f"must be uint8 of shape ({FRAMES}, {PIXELS}, {PIXELS}, 3)"
        raise RequestError("frames", f"{frames.dtype} {frames.shape}", limit, "resize the film before it is judged")
    logits, found, start = _logits(frames), {}, 0
    for head, words in HEADS.items():
        part = logits[start : start + len(words) + 1]
        start += len(part)
        share = np.exp(part - part.max())
        best = int(share.argmax())
        found[head] = ((*words, UNCLEAR)[best], float(share[best] / share.sum()))
    return found


def read(frames: np.ndarray) -> dict[str, str]:
    """Subject, action, place, light and direction of a film (16, 128, 128, 3) uint8, each a word or "unclear".

    The direction is known only where the action goes somewhere. Raises RequestError for frames of another shape or
    type.
    """
    margin = dict(zip(HEADS, _weights()["margin"].tolist(), strict=True))
    return {head: word if sure >= margin[head] else UNCLEAR for head, (word, sure) in confidence(frames).items()}
