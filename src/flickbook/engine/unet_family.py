"""The family of our own 3D U-Net: the built-in model, and every model of ModelScope's shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flickbook import settings
from flickbook.diffusion.sampler import SamplerState, sample
from flickbook.diffusion.schedule import END
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine import long
from flickbook.hub.manifest import HashCache, fingerprint
from flickbook.spec import Placement, Plan
from flickbook.windows import prompt_of, starts


@dataclass(frozen=True)
class Meaning:
    """Prompts as vectors (films, tokens, width): `contexts[i]` is shown from frame `frames[i]` on."""

    frames: list[int]
    contexts: list[Tensor]
    negative: Tensor


class UNetFamily:
    """A loaded text-to-video model; films of one shape run as one batch."""

    def __init__(self, networks: TextToVideo, weights: dict[str, str], placement: Placement) -> None:
        self.networks, self.weights, self.placement = networks, weights, placement

    @classmethod
    def load(cls, directory: Path, placement: Placement) -> UNetFamily:
        """Verify the files against manifest.json, or hash them where there is none, then load them.

        Raises WeightsError naming the file and its hash.
        """
        weights = fingerprint(directory, HashCache(settings.load().cache_dir / "hashes.json"))
        dtype = getattr(torch, placement.dtype)
        return cls(TextToVideo.load(directory, dtype, placement.device).pack(), weights, placement)

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """The words of a prompt that the model never met in training."""
        return self.networks.tokenizer.unknown_words(prompt)

    def encode(self, plans: Sequence[Plan]) -> Meaning:
        """What each film shows from which frame on, and what it should not show."""
        count = len(plans)
        turns = [(0, [p.prompt for p in plans])]
        turns += [(frame, [p.prompt_at[i][1] for p in plans]) for i, (frame, _) in enumerate(plans[0].prompt_at)]
        texts = [text for _, prompts in turns for text in prompts] + [p.negative_prompt for p in plans]
        *contexts, negative = torch.split(self.networks.embed(texts), count)
        return Meaning([frame for frame, _ in turns], contexts, negative)

    @torch.inference_mode()
    def denoise(self, plans: Sequence[Plan], meaning: Meaning) -> Iterator[SamplerState]:
        """One state after each step, from each film's own noise."""
        plan, networks = plans[0], self.networks
        window = plan.window or plan.num_frames
        shape = networks.latent_shape(plan.num_frames, plan.height, plan.width)
        start = long.noise([p.seed for p in plans], shape, window).to(networks.device)
        state = SamplerState.begin(start, networks.schedule.timesteps(plan.num_inference_steps))
        scales, rates = [p.guidance_scale for p in plans], [p.fps for p in plans]
        models = [networks.guided(context, meaning.negative, scales, rates) for context in meaning.contexts]
        begins = starts(plan.num_frames, window)

        def model(x: Tensor, timestep: Tensor, number: int) -> Tensor:
            return models[prompt_of(begins[number], window, meaning.frames)](x, timestep)

        whole = long.blended(model, plan.num_frames, window)
        yield from sample(whole, state, networks.schedule, plan.scheduler)

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """sigma after each step, 0 after the last."""
        schedule = self.networks.schedule
        return [schedule.level(t).sigma for t in (*schedule.timesteps(num_inference_steps)[1:], END)]

    def decode(self, latents: Tensor) -> Iterator[tuple[int, int, np.ndarray]]:
        """(film, first frame, frames), in order."""
        for film, one in enumerate(latents):
            start = 0
            for frames in self.networks.decode(one, self.placement.decode_frames):
                yield film, start, frames.numpy()
                start += len(frames)
