"""What each picture of a sequence begins from: noise and meaning on their ways from one prompt to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flickbook.engine.sequences.stills import PromptEmbedding, Stills
from flickbook.resolution import SEED_LIMIT
from flickbook.spec import Plan

if TYPE_CHECKING:
    from flickbook.engine.sequences.sequence import Moment

#: Below this sine of the angle between two vectors the straight line between them is the arc.
_FLAT = 1e-6


class Travel:
    """The ways of one Plan, between `prompts`, 1 or more; a lone prompt is its own next."""

    def __init__(self, stills: Stills, plan: Plan, prompts: list[str]) -> None:
        self.stills, self._drift = stills, plan.drift or 0.0
        self._meanings = [stills.embedding(text) for text in prompts]
        self._meanings += self._meanings if len(prompts) == 1 else []
        self._aims = [stills.noise((plan.seed + number) % SEED_LIMIT) for number in range(len(self._meanings))]
        # Each stretch begins where the one before it ended: no jump at a prompt, however short the drift.
        self._begins = self._aims[:1]
        for aim in self._aims[1:]:
            self._begins.append(_noise_between(self._begins[-1], aim, self._drift))

    def at(self, when: Moment) -> tuple[PromptEmbedding, Tensor]:
        """Meaning and noise of a moment: the noise goes `drift` of the way to that of the next prompt's own seed."""
        here, there = self._meanings[when.scene : when.scene + 2]
        noise = _noise_between(self._begins[when.scene], self._aims[when.scene + 1], when.noise * self._drift)
        return blended(here, there, when.embedding), noise


def _noise_between(a: Tensor, b: Tensor, t: float) -> Tensor:
    return spherical(a.flatten(), b.flatten(), t).view_as(a) if t else a


def blended(first: PromptEmbedding, second: PromptEmbedding, t: float) -> PromptEmbedding:
    """The meaning at t, 0 to 1, of the way: each vector along its arc, and every token that either prompt has."""
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
    """Between a and b, both (..., n), at t of the angle between them, and of the way from one length to the other.

    In directions, x(t) = (sin((1 - t) w) a + sin(t w) b) / sin w, w the angle (Shoemake 1985, "Animating Rotation with
    Quaternion Curves"). Between two unit Gaussians it is one again, where the straight line would pass a point of half
    the variance. Where there is no arc, it is that line. Returned in a's dtype and on its device.
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
