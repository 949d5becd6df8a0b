"""Makes single images with a loaded model, from prompt embeddings and noise that the caller provides.

A prompt embedding here is a mapping of tensors, by the argument names of the network's call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flickbook.diffusion import text_to_video
from flickbook.diffusion.sampler import STOCHASTIC, SamplerState
from flickbook.engine.family import Family
from flickbook.engine.pipelines.call import Call
from flickbook.engine.pipelines.family import PipelineFamily, explained
from flickbook.engine.pipelines.inputs import Inputs
from flickbook.engine.pipelines.registry import ANSWERS, arguments, no_stills, parameters
from flickbook.engine.pipelines.result import frames_of
from flickbook.engine.pipelines.step_cache import with_step_cache
from flickbook.engine.unet import family as unet_family
from flickbook.engine.unet.family import UNetFamily
from flickbook.spec import Plan

PromptEmbedding = Mapping[str, Tensor]


def _single(plan: Plan) -> Plan:
    """The Plan of one still of a sequence, as if it were requested alone."""
    alone = {"task": "picture", "num_frames": 1, "container": "png", "prompt_at": (), "drift": None, "feedback": None}
    return plan.model_copy(update=alone)


class UNetStills:
    """Stills of the project's own 3D U-Net: films of one frame."""

    def __init__(self, family: UNetFamily, plan: Plan) -> None:
        self._family, self._plan, self._strength = family, _single(plan), plan.feedback or 0.0
        self._shape = family.networks.latent_shape(1, plan.height, plan.width)
        self._negative = family.embedded(plan.negative_prompt)
        self._how = ""

    def embedding(self, prompt: str) -> PromptEmbedding:
        """The prompt's embedding (1, tokens, width); guidance uses that of the Plan's negative prompt."""
        return {"context": self._family.embedded(prompt)}

    def noise(self, seed: int) -> Tensor:
        """Unit noise of one still (1, c, 1, h, w), float32 on the CPU; the same as `flickbook generate` uses."""
        return text_to_video.noise([seed], self._shape)

    @torch.inference_mode()
    def picture(
        self,
        embedding: PromptEmbedding,
        noise: Tensor,
        over: np.ndarray | None = None,
        step: Callable[[], None] | None = None,
    ) -> np.ndarray:
        """The still (h, w, 3) uint8 for an embedding and starting noise.

        With `over`, an image of the same size, it starts from that image with noise added, and only the last `feedback`
        of the steps are done (SDEdit, arXiv 2108.01073). An exception in `step`, called after each, stops the still.
        """
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
        """How many steps of the last still were forecast; "" at speed exact."""
        return self._how


class PipelineStills:
    """Stills of diffusers pipelines, which get prompt embeddings instead of prompts and latents instead of a seed."""

    def __init__(self, family: PipelineFamily, plan: Plan) -> None:
        self._family, self._plan = family, _single(plan)
        self._strength, self._how = plan.feedback or 0.0, ""
        self._name = type(family.pipe_of(self._plan)).__name__
        if self._name not in ANSWERS:
            raise no_stills(plan.model, self._name)

    def embedding(self, prompt: str) -> PromptEmbedding:
        """The results of the class's `encode_prompt` for the prompt, and with guidance for the negative one."""
        pipe = self._family.pipe_of(self._plan)
        known, call_arguments = parameters(pipe), self._arguments(pipe, self._plan, Inputs())
        encode_parameters = inspect.signature(pipe.encode_prompt).parameters
        # The arguments that the call itself would pass: some of its defaults differ from those of encode_prompt.
        encode_arguments = {
            name: call_arguments.get(name, known[name].default) for name in encode_parameters if name in known
        }
        encode_arguments |= {"prompt": prompt, "device": pipe._execution_device, "num_images_per_prompt": 1}
        if "do_classifier_free_guidance" in encode_parameters:
            encode_arguments["do_classifier_free_guidance"] = self._plan.guided()
        with torch.no_grad(), explained(self._plan):
            answers = pipe.encode_prompt(**encode_arguments)
        named = zip(ANSWERS[self._name], answers, strict=False)  # Flux also returns the positions of its tokens
        return {name: answer for name, answer in named if answer is not None}

    def noise(self, seed: int) -> Tensor:
        """(1, c, h, w)."""
        pipe, plan = self._family.pipe_of(self._plan), self._plan
        channels = (pipe.unet if hasattr(pipe, "unet") else pipe.transformer).config.in_channels
        height, width = plan.height // pipe.vae_scale_factor, plan.width // pipe.vae_scale_factor
        if self._name == "FluxPipeline":  # its network packs 2x2 latents into one of four times the channels
            channels, height, width = channels // 4, height // 2 * 2, width // 2 * 2
        return torch.randn((1, channels, height, width), generator=torch.Generator().manual_seed(seed))

    def picture(
        self,
        embedding: PromptEmbedding,
        noise: Tensor,
        over: np.ndarray | None = None,
        step: Callable[[], None] | None = None,
    ) -> np.ndarray:
        """Run the pipeline once; with `over`, its image-to-image class."""
        plan, source = self._plan, None
        if over is not None:
            # Any hash marks the Plan as having an image.
            plan, source = plan.model_copy(update={"image": "0" * 64, "strength": self._strength}), over
        pipe = self._family.pipe_of(plan)
        call_arguments = self._arguments(pipe, plan, Inputs(None if source is None else Image.fromarray(source)))
        # None, because some calls take "" for a prompt, and refuse it together with an embedding.
        call_arguments |= {name: None for name in ("prompt", "negative_prompt") if f"{name}_embeds" in embedding}
        call_arguments |= {name: vectors.to(pipe._execution_device) for name, vectors in embedding.items()}
        call_arguments |= {"generator": torch.Generator().manual_seed(plan.seed), "output_type": "np"}
        if over is None:
            call_arguments["latents"] = self._latents(pipe, noise, embedding["prompt_embeds"].dtype)
        call = Call(pipe, call_arguments, plan.seed)
        with (
            _noised(pipe.scheduler, noise),
            with_step_cache(pipe, plan) as self._how,
            explained(plan),
            closing(call.stages()) as stages,
        ):
            for _ in stages:
                if step is not None:
                    step()
        self._family.note_tiling(call)
        return np.asarray(frames_of(call.result, plan)[0])

    def applied(self) -> str:
        """A note on the speed optimisations used in the last still."""
        return self._how

    def _arguments(self, pipe: Any, plan: Plan, inputs: Inputs) -> dict[str, Any]:
        return {**arguments(pipe, plan, inputs), **self._family.fixed_arguments(pipe)}

    def _latents(self, pipe: Any, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """The noise in the layout and precision of the class's latents."""
        if self._name == "FluxPipeline":
            packed: Tensor = pipe._pack_latents(noise, *noise.shape)
            return packed
        # The two Stable Diffusion pipelines do not cast the latents they get.
        return noise.to(dtype) if self._name.startswith("StableDiffusion") else noise


#: A loaded model that makes the stills of one Plan.
Stills = UNetStills | PipelineStills


def stills(family: Family, plan: Plan) -> Stills:
    """What makes the stills of a Plan with a family. Raises RequestError for a pipeline that cannot make them."""
    if isinstance(family, UNetFamily):
        return UNetStills(family, plan)
    if isinstance(family, PipelineFamily):
        return PipelineStills(family, plan)
    raise no_stills(plan.model, type(family).__name__)


@contextmanager
def _noised(scheduler: Any, noise: Tensor) -> Iterator[None]:
    """Let a scheduler add this noise to an image, instead of the noise that the pipeline draws."""
    kind, methods = type(scheduler), dict[str, Any]()
    if hasattr(kind, "add_noise"):
        methods["add_noise"] = lambda this, sample, drawn, timesteps: kind.add_noise(
            this, sample, noise.to(drawn), timesteps
        )
    if hasattr(kind, "scale_noise"):
        methods["scale_noise"] = lambda this, sample, timestep, drawn=None: kind.scale_noise(
            this, sample, timestep, noise.to(sample)
        )
    scheduler.__class__ = type(kind.__name__, (kind,), methods)
    try:
        yield
    finally:
        scheduler.__class__ = kind
