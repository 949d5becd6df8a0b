"""Continues a film in latent space: the first latent frames of a call are the kept ones of an earlier film.

After every step of the scheduler the kept latents, with the noise of that step, replace the first latent frames, so the
network always sees them at the noise level of the others (Lugmayr et al. 2022, arXiv 2201.09865, without resampling).
The whole film is decoded in one piece.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from flickbook.engine.pipelines.preview import left_latents
from flickbook.errors import RequestError
from flickbook.spec import Plan

#: Classes whose latents are (1, c, frames, h, w), or packed to tokens (1, tokens, width) with the frames in order.
_VOLUMES: Final = ("WanPipeline",)
_TOKENS: Final = ("LTXPipeline", "LTXConditionPipeline")
CONTINUED: Final = frozenset((*_VOLUMES, *_TOKENS))


class Overlap:
    """The kept latents (c, k, h, w) of one call of `pipe`, and the noise that the call gave their frames."""

    def __init__(self, pipe: Any, plan: Plan, kept: np.ndarray) -> None:
        if type(pipe).__name__ not in CONTINUED:
            limit = f"{type(pipe).__name__} cannot continue from latents"
            raise RequestError("latents", plan.latents, limit, "begin from an image")
        x = torch.from_numpy(kept).float()[None]
        self._kept = _packed(pipe, x) if type(pipe).__name__ in _TOKENS else x
        self._axis = 2 if self._kept.ndim == 5 else 1
        self._noise: Tensor | None = None

    def begin(self, sample: Tensor) -> None:
        """Take the noise from the first sample of the call."""
        if self._noise is None:
            self._noise = self._part(sample).clone()

    def held(self, scheduler: Any, answer: Any) -> Any:
        """A step's `answer` with the kept latents at the noise level that the step leads to."""
        assert self._noise is not None
        x = left_latents(answer)
        sigma = float(scheduler.sigmas[scheduler.step_index])
        kept = self._kept.to(x)
        # At the end sigma is 0, and the kept latents are the result to the bit.
        self._part(x).copy_(kept if sigma == 0 else (1 - sigma) * kept + sigma * self._noise.to(x))
        return answer

    def _part(self, x: Tensor) -> Tensor:
        return x.narrow(self._axis, 0, self._kept.shape[self._axis])


def last_latents(pipe: Any, x: Tensor, plan: Plan, count: int) -> np.ndarray | None:
    """The last `count` latent frames (c, count, h, w) float32 of a call's result `x`; None for other pipelines."""
    if type(pipe).__name__ not in CONTINUED or x is None:
        return None
    if x.ndim == 3:
        space, time = pipe.vae_spatial_compression_ratio, pipe.vae_temporal_compression_ratio
        shape = ((plan.num_frames - 1) // time + 1, plan.height // space, plan.width // space)
        patch, patch_t = pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size
        tokens = shape[0] * shape[1] * shape[2] // (patch_t * patch**2)
        # The tokens of conditions precede the film's own.
        x = pipe._unpack_latents(x[:, -tokens:], *shape, patch, patch_t)
    found: np.ndarray = x[0, :, -count:].float().cpu().numpy()
    return found


def _packed(pipe: Any, x: Tensor) -> Tensor:
    patch, patch_t = pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size
    return pipe._pack_latents(x, patch, patch_t)  # type: ignore[no-any-return]
