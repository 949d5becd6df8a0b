"""Weights stored as their difference from those of another network of the same architecture, for few-step students.

A student stays near its teacher, so its difference needs fewer bits than its weights. In each row of a tensor (its
first dimension) the differences are whole numbers of steps, from -7 to 7: four bits instead of the 16 of float16.

A file holds two tensors for each weight NAME: NAME, uint8 (half of the weight's values, rounded up), with one value in
the upper and the next one in the lower half of each byte, both plus 8; and NAME.step, float32 (rows,).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flickbook.diffusion.weights import check, present
from flickbook.errors import WeightsError
from flickbook.files import replace_whole

_LEVELS: Final = 7
_ZERO: Final = 8
_STEP: Final = ".step"


class Difference:
    """A difference from a file. Raises WeightsError if the file is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = present(path)
        try:
            self._tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(path, f"damaged ({error})", "distill the student again") from error

    def check(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """Raise WeightsError if the difference is not one of a network with these keys and shapes."""
        shapes = {key: ((math.prod(shape) + 1) // 2,) for key, shape in expected.items()}
        shapes |= {key + _STEP: _rows(shape) for key, shape in expected.items()}
        check(self.path, shapes, {key: tuple(value.shape) for key, value in self._tensors.items()})

    def added(self, key: str, weight: Tensor) -> Tensor:
        """The other network's `weight` of this key with the difference, float32, on the weight's device."""
        packed, step = (self._tensors[name].to(weight.device) for name in (key, key + _STEP))
        pairs = torch.stack([packed >> 4, packed & 15], dim=1)
        change = pairs.flatten()[: weight.numel()].view(weight.shape).float() - _ZERO
        return weight.float() + change * step.view(-1, *[1] * (weight.ndim - 1))


def save_difference(weights: Mapping[str, Tensor], base: Mapping[str, Tensor], path: Path) -> None:
    """Write the difference of `weights` from `base`, with the same keys and shapes, atomically."""
    tensors = dict[str, Tensor]()
    for key, value in weights.items():
        change = value.detach().cpu().float() - base[key].detach().cpu().float()
        rows = change.reshape(*_rows(tuple(change.shape)), -1)
        step = rows.abs().amax(1) / _LEVELS
        # A row without any difference has the step 0, which nothing can be divided by.
        whole = (rows / step.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round()
        pairs = F.pad(whole.flatten() + _ZERO, (0, whole.numel() % 2)).to(torch.uint8).view(-1, 2)
        tensors |= {key: pairs[:, 0] << 4 | pairs[:, 1], key + _STEP: step}
    replace_whole(path, lambda temporary: save_file(tensors, temporary))


def _rows(shape: tuple[int, ...]) -> tuple[int]:
    """The number of steps of a tensor: one for each row, and one for a vector."""
    return (shape[0] if len(shape) > 1 else 1,)
