"""Interpolates noise and prompt embeddings between the prompts of a sequence, one pair for each still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flickbook.engine.sequences.stills import PromptEmbedding, Stills
from flickbook.resolution import SEED_LIMIT
from flickbook.spec import Plan

if TYPE_CHECKING:
    from flickbook.engine.sequences.sequence import Moment

#: If the sine of the angle between two vectors is below this, linear interpolation is used.
_FLAT = 1e-6


class PromptInterpolation:
    """The interpolation paths of one Plan between `prompts`, at least one; a single prompt is followed by itself."""

    def __init__(self, stills: Stills, plan: Plan, prompts: list[str]) -> None:
        self.stills, self._drift = stills, plan.drift or 0.0
        self._meanings = [stills.embedding(text) for text in prompts]
        self._meanings += self._meanings if len(prompts) == 1 else []
        self._aims = [stills.noise((plan.seed + number) % SEED_LIMIT) for number in range(len(self._meanings))]
        # Each path begins where the one before it ended, so that the noise never jumps at a prompt.
        self._begins = self._aims[:1]
        for aim in self._aims[1:]:
            self._begins.append(_noise_between(self._begins[-1], aim, self._drift))

    def at(self, when: Moment) -> tuple[PromptEmbedding, Tensor]:
        """Embedding and noise of a moment. The noise moves by `drift` towards the noise of the next prompt's seed."""
        here, there = self._meanings[when.scene : when.scene + 2]
        noise = _noise_between(self._begins[when.scene], self._aims[when.scene + 1], when.noise * self._drift)
        return blended(here, there, when.embedding), noise


def _noise_between(a: Tensor, b: Tensor, t: float) -> Tensor:
    return spherical(a.flatten(), b.flatten(), t).view_as(a) if t else a


def blended(first: PromptEmbedding, second: PromptEmbedding, t: float) -> PromptEmbedding:
    """Interpolate two embeddings at t, 0 to 1: vectors spherically; masks include the tokens of both prompts."""
    if t <= 0:
        return first
    if t >= 1:
        return second
    between = {}
    for name, a in first.items():
        b = second[name]
        if torch.equal(a, b):
            between[name] = a
        elif a.is_floating_point() and not name.endswith("mask"):
            between[name] = spherical(a, b, t)
        else:
            between[name] = torch.maximum(a, b)
    return between


def spherical(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation between a and b, both (..., n), at t of their angle; lengths are interpolated linearly.

    For directions, x(t) = (sin((1 - t) w) a + sin(t w) b) / sin w, w the angle (Shoemake 1985, "Animating Rotation with
    Quaternion Curves"). Between two unit Gaussians the result is unit Gaussian, where linear interpolation would halve
    the variance in the middle. Parallel or zero vectors are interpolated linearly. Returned in a's dtype and on its
    device.
    """
    x, y = a.cpu().double(), b.cpu().double()
    long_x, long_y = x.norm(dim=-1, keepdim=True), y.norm(dim=-1, keepdim=True)
    product = (long_x * long_y).clamp_min(torch.finfo(torch.float64).tiny)
    angle = torch.arccos(((x * y).sum(-1, keepdim=True) / product).clamp(-1, 1))
    curved = (angle.sin() > _FLAT) & (long_x > 0) & (long_y > 0)
    length = ((1 - t) * long_x + t * long_y) / angle.sin()
    kept = torch.where(curved, ((1 - t) * angle).sin() * length / long_x, 1 - t)
    added = torch.where(curved, (t * angle).sin() * length / long_y, t)
    return (kept * x + added * y).to(a.dtype).to(a.device)
