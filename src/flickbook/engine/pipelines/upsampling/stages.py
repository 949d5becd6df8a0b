"""The two calls of a pipeline that make a film at half its size, and denoise its doubled latents again.

The latents of the first call are kept in every state of the second, before they are doubled, so a film that is stopped
in the second call is continued there.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flickbook.engine.pipelines.call import Call
from flickbook.engine.pipelines.registry import parameters
from flickbook.engine.pipelines.state import CallState, Stage
from flickbook.engine.pipelines.upsampling.upsampler import Upsampler
from flickbook.errors import RequestError
from flickbook.spec import Plan


@dataclass(frozen=True)
class _Small:
    """What the first call made: latents of the frames and, in LTX-2, of the sound; the noise left after each step."""

    frames: Tensor
    sound: Tensor | None
    noise: list[float]


@dataclass
class _Decoded:
    """The result of a film without a second call, with the fields of a pipeline's output."""

    frames: Any
    audio: Tensor | None


class UpsampledCall:
    """The calls of `pipe` for a film whose latents are doubled, with the attributes of a Call. `arguments` are those of
    a single call at the film's size; with `start` the steps done before are not computed again.

    Raises RequestError for a pipeline that cannot denoise given latents.
    """

    def __init__(
        self, pipe: Any, arguments: dict[str, Any], plan: Plan, upsampler: Upsampler, start: CallState | None = None
    ) -> None:
        self.pipe, self.plan, self._arguments, self._upsampler = pipe, plan, arguments, upsampler
        self.latents: Any = None  # those after the last step; None without a second call
        self.result: Any = None  # the output of the last call, once all stages were yielded
        self.tiled = False  # whether decoding ran out of memory and switched to tiles
        self.noise: list[float] = []  # the share of noise after each step of both calls
        self._start, self._small = start, _small(start, pipe)
        self._refine = _listed(upsampler.settings.refine) if plan.latent_upsample == "refine" else {}
        if unknown := sorted({*self._refine} - {*parameters(pipe)}):
            limit = f"{type(pipe).__name__} has no {', '.join(unknown)}"
            raise RequestError("latent_upsample", plan.latent_upsample, limit, "ask for plain")

    def stages(self, previews: bool = False) -> Generator[Stage, None, None]:
        """Yield a stage after each step of both calls. Raises the exceptions of the pipeline."""
        # Some pipelines round the number of steps that their strength leaves down.
        more = int(self._refine.get("num_inference_steps", 0) * self._refine.get("denoise_strength", 1.0))
        if self._small is None:
            yield from self._first(previews, more)
        small = self._small
        assert small is not None, "the first call has ended"
        if self._refine:
            yield from self._second(small, self._upsampler.doubled(self.pipe, small.frames), previews)
        else:
            call = Call(self.pipe, self._arguments, self.plan.seed)
            with call.patient():
                frames = self._upsampler.decoded(self.pipe, small.frames, self._arguments)
            self.tiled = call.tiled
            self.result = _Decoded(frames, _heard(self.pipe, small.sound))
            self.pipe.maybe_free_model_hooks()

    def _first(self, previews: bool, more: int) -> Generator[Stage, None, None]:
        size = {"width": self.plan.width // 2, "height": self.plan.height // 2, "output_type": "latent"}
        call = Call(self.pipe, {**self._arguments, **size}, self.plan.seed, self._start)
        with closing(call.stages(previews)) as stages:
            for stage in stages:
                yield replace(stage, total=stage.total + more)
        # One for each step; a call that is resumed after its last step yields no stage that could be counted.
        self.noise = [float(each) for each in self.pipe.scheduler.sigmas[1:]]
        self._small = _Small(call.result.frames, getattr(call.result, "audio", None), self.noise)
        self._start = None

    def _second(self, small: _Small, doubled: Tensor, previews: bool) -> Generator[Stage, None, None]:
        # A seed of its own, so that this noise does not repeat that of the first call.
        seed, done = (self.plan.seed + 1) % 2**63, len(small.noise)
        arguments = {**self._arguments, **self._refine, "latents": doubled}
        arguments |= {"generator": torch.Generator().manual_seed(seed)}
        arguments |= {} if small.sound is None else {"audio_latents": small.sound}
        call = Call(self.pipe, arguments, seed, self._start)
        kept = {"small": vars(small)}
        count = 0
        with closing(call.stages(previews)) as stages:
            for stage in stages:
                count = stage.total
                state = stage.call.extended(kept) if isinstance(stage.call, CallState) else stage.call
                yield replace(stage, index=done + stage.index, total=done + stage.total, call=state)
        # The call runs the last steps of its scheduler.
        self.noise = [*small.noise, *(float(each) for each in self.pipe.scheduler.sigmas[1:][-count:])]
        self.result, self.latents, self.tiled = call.result, call.latents, call.tiled


def _small(start: CallState | None, pipe: Any) -> _Small | None:
    """What the first call made, if `start` is a state of the second one."""
    found = {} if start is None else start.values(pipe._execution_device)
    return _Small(**found["small"]) if "small" in found else None


def _listed(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a catalogue entry as pipelines expect them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


@torch.no_grad()
def _heard(pipe: Any, latents: Tensor | None) -> Tensor | None:
    """The sound of latents of LTX-2, as its pipeline decodes them."""
    if latents is None:
        return None
    spectrograms = pipe.audio_vae.decode(latents.to(pipe.audio_vae.dtype), return_dict=False)[0]
    return pipe.vocoder(spectrograms)  # type: ignore[no-any-return]
