"""Single pictures of a loaded model, from meanings and noise that are handed in, so that both can travel.

A meaning is what a prompt is to the network: tensors by the names that the network's call knows them by.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flickbook.diffusion import text_to_video
from flickbook.diffusion.sampler import STOCHASTIC, SamplerState
from flickbook.engine.family import Family
from flickbook.engine.pipelines.call import Call
from flickbook.engine.pipelines.family import PipelineFamily, explained, frames_of
from flickbook.engine.pipelines.registry import ANSWERS, arguments, no_stills, parameters
from flickbook.engine.pipelines.step_cache import hastened
from flickbook.engine.unet import family as unet_family
from flickbook.engine.unet.family import UNetFamily
from flickbook.spec import Plan

PromptEmbedding = Mapping[str, Tensor]


class Stills(Protocol):
    """A loaded model as a maker of the pictures of one Plan."""

    def embedding(self, prompt: str) -> PromptEmbedding:
        """What a prompt, and the Plan's negative prompt, mean to the network."""

    def noise(self, seed: int) -> Tensor:
        """Unit Gaussian noise of one picture, float32 on the CPU, the same that `flickbook generate` begins from."""

    def picture(
        self,
        embedding: PromptEmbedding,
        noise: Tensor,
        over: np.ndarray | None = None,
        step: Callable[[], None] | None = None,
    ) -> np.ndarray:
        """The picture (h, w, 3) uint8 of a meaning that begins from this noise.

        Where `over` is a picture of the same size, it begins from that one under the noise, of which the Plan's
        `feedback` says how much. `step` is called after each denoising step; what it raises stops the picture.
        """

    def applied(self) -> str:
        """What was done for speed in the last picture, in words; "" for nothing."""


def stills(family: Family, plan: Plan) -> Stills:
    """The maker of a Plan's pictures. Raises RequestError for a pipeline that cannot make them."""
    if isinstance(family, UNetFamily):
        return UNetStills(family, plan)
    if isinstance(family, PipelineFamily):
        return PipelineStills(family, plan)
    raise no_stills(plan.model, type(family).__name__)


def _single(plan: Plan) -> Plan:
    """The Plan of one picture of a sequence, as if it were asked for by itself."""
    alone = {"task": "picture", "num_frames": 1, "container": "png", "prompt_at": (), "drift": None, "feedback": None}
    return plan.model_copy(update=alone)


class UNetStills:
    """Pictures of our own 3D U-Net: films of one frame."""

    def __init__(self, family: UNetFamily, plan: Plan) -> None:
        self._family, self._plan, self._strength = family, _single(plan), plan.feedback or 0.0
        self._shape = family.networks.latent_shape(1, plan.height, plan.width)
        self._negative = family.embedded(plan.negative_prompt)
        self._how = ""

    def embedding(self, prompt: str) -> PromptEmbedding:
        """The prompt's vectors (1, tokens, width)."""
        return {"context": self._family.embedded(prompt)}

    def noise(self, seed: int) -> Tensor:
        """(1, c, 1, h, w)."""
        return text_to_video.noise([seed], self._shape)

    @torch.inference_mode()
    def picture(
        self,
        embedding: PromptEmbedding,
        noise: Tensor,
        over: np.ndarray | None = None,
        step: Callable[[], None] | None = None,
    ) -> np.ndarray:
        """Denoised from the noise, or over a picture in the last `feedback` of the steps (SDEdit, arXiv 2108.01073)."""
        networks = self._family.networks
        timesteps, start = networks.schedule.timesteps(self._plan.num_inference_steps), noise.to(networks.device)
        if over is not None:
            timesteps = timesteps[len(timesteps) - int(len(timesteps) * self._strength) :]
            if self._strength < 1:
                source = networks.encode(torch.from_numpy(over[None]))[None]
                start = networks.schedule.add_noise(source, start, timesteps[0])
        words = unet_family.PromptEmbedding([0], [embedding["context"]], self._negative)
        stochastic = self._plan.scheduler in STOCHASTIC
        drawing = text_to_video.generators([self._plan.seed], self._shape) if stochastic else []
        state = SamplerState.begin(start, timesteps, drawing)
        for reached in self._family.denoise([self._plan], words, start=state):
            state = reached
            if step is not None:
                step()
        (self._how,) = self._family.applied([self._plan], state)
        ((_, _, frames),) = self._family.decode(state.latents)
        return np.asarray(frames[0])

    def applied(self) -> str:
        """How many steps of the last picture were foretold."""
        return self._how


class PipelineStills:
    """Pictures of diffusers' pipelines, which are given vectors in place of words and latents in place of a seed."""

    def __init__(self, family: PipelineFamily, plan: Plan) -> None:
        self._family, self._plan = family, _single(plan)
        self._strength, self._how = plan.feedback or 0.0, ""
        self._name = type(family.pipe_of(self._plan)).__name__
        if self._name not in ANSWERS:
            raise no_stills(plan.model, self._name)

    def embedding(self, prompt: str) -> PromptEmbedding:
        """What the class's `encode_prompt` returns for the prompt, and for the negative one where guidance runs."""
        pipe = self._family.pipe_of(self._plan)
        known, said = parameters(pipe), self._said(pipe, self._plan, None)
        wanted = inspect.signature(pipe.encode_prompt).parameters
        # What the call would pass on by itself: some of its defaults are not those of encode_prompt.
        asked = {name: said.get(name, known[name].default) for name in wanted if name in known}
        asked |= {"prompt": prompt, "device": pipe._execution_device, "num_images_per_prompt": 1}
        if "do_classifier_free_guidance" in wanted:
            asked["do_classifier_free_guidance"] = self._plan.guided()
        with torch.no_grad(), explained(self._plan):
            answers = pipe.encode_prompt(**asked)
        named = zip(ANSWERS[self._name], answers, strict=False)  # Flux also returns the places of its words
        return {name: answer for name, answer in named if answer is not None}

    def noise(self, seed: int) -> Tensor:
        """(1, c, h, w)."""
        pipe, plan = self._family.pipe_of(self._plan), self._plan
        channels = (pipe.unet if hasattr(pipe, "unet") else pipe.transformer).config.in_channels
        height, width = plan.height // pipe.vae_scale_factor, plan.width // pipe.vae_scale_factor
        if self._name == "FluxPipeline":  # its network sees squares of four latents as one of four times the channels
            channels, height, width = channels // 4, height // 2 * 2, width // 2 * 2
        return torch.randn((1, channels, height, width), generator=torch.Generator().manual_seed(seed))

    def picture(
        self,
        embedding: PromptEmbedding,
        noise: Tensor,
        over: np.ndarray | None = None,
        step: Callable[[], None] | None = None,
    ) -> np.ndarray:
        """One call of the pipeline, or of the one that begins from a picture."""
        plan, source = self._plan, None
        if over is not None:
            # Any hash says that there is a picture.
            plan, source = plan.model_copy(update={"image": "0" * 64, "strength": self._strength}), over
        pipe = self._family.pipe_of(plan)
        said = self._said(pipe, plan, None if source is None else Image.fromarray(source))
        # None, because "" is what some calls take a missing one for, and refuse beside its vectors.
        said |= {name: None for name in ("prompt", "negative_prompt") if f"{name}_embeds" in embedding}
        said |= {name: vectors.to(pipe._execution_device) for name, vectors in embedding.items()}
        said |= {"generator": torch.Generator().manual_seed(plan.seed), "output_type": "np"}
        if over is None:
            said["latents"] = self._latents(pipe, noise, embedding["prompt_embeds"].dtype)
        call = Call(pipe, said, plan.seed)
        with (
            _noised(pipe.scheduler, noise),
            hastened(pipe, plan) as self._how,
            explained(plan),
            closing(call.stages()) as stages,
        ):
            for _ in stages:
                if step is not None:
                    step()
        if call.tiled:
            placed = self._family.placement
            rungs = (*placed.rungs, "decode: tiling")
            self._family.placement = placed.model_copy(update={"tiling": True, "rungs": rungs})
        return np.asarray(frames_of(call.result, plan)[0])

    def applied(self) -> str:
        """What was done for speed in the last picture."""
        return self._how

    def _said(self, pipe: Any, plan: Plan, source: Any) -> dict[str, Any]:
        return {**arguments(pipe, plan, source), **self._family.always_said(pipe)}

    def _latents(self, pipe: Any, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """Noise as the class wants its latents."""
        if self._name == "FluxPipeline":
            packed: Tensor = pipe._pack_latents(noise, *noise.shape)
            return packed
        # Stable Diffusion's two do not change the precision of what they are given.
        return noise.to(dtype) if self._name.startswith("StableDiffusion") else noise


@contextmanager
def _noised(scheduler: Any, noise: Tensor) -> Iterator[None]:
    """Have a scheduler put this noise over a picture in place of what a pipeline draws for it."""
    kind, own = type(scheduler), dict[str, Any]()
    if hasattr(kind, "add_noise"):
        own["add_noise"] = lambda this, sample, drawn, timesteps: kind.add_noise(
            this, sample, noise.to(drawn), timesteps
        )
    if hasattr(kind, "scale_noise"):
        own["scale_noise"] = lambda this, sample, timestep, drawn=None: kind.scale_noise(
            this, sample, timestep, noise.to(sample)
        )
    scheduler.__class__ = type(kind.__name__, (kind,), own)
    try:
        yield
    finally:
        scheduler.__class__ = kind
