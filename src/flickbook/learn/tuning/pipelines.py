"""The diffusers video models under training: Wan, LTX-Video and CogVideoX, each a `Target`.

The pipeline is loaded by the engine, and its own methods encode prompts and pack latents. Wan and LTX-Video learn the
velocity of a straight path from the clip to noise (flow matching: Lipman et al. 2023, arXiv 2210.02747), with noise
levels from a logit-normal distribution (Esser et al. 2024, arXiv 2403.03206). CogVideoX learns v (Salimans & Ho 2022,
arXiv 2202.00512).
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flickbook.catalogue import Model
from flickbook.engine.family import Setup
from flickbook.engine.pipelines.family import PipelineFamily
from flickbook.errors import RequestError
from flickbook.learn.tuning import adapter
from flickbook.learn.tuning.blocks import place_outside
from flickbook.learn.tuning.target import Batch, Condition, Losses, Sampling, batched, stratified
from flickbook.spec import Placement


class PipelineTarget(ABC):
    """The shared part of the diffusers models: `_noised` and `_predict` differ."""

    joint = False

    def __init__(self, pipe: Any, dtype: torch.dtype, device: torch.device) -> None:
        self.pipe, self.device, self.dtype = pipe, device, dtype
        self.networks: dict[str, nn.Module] = {"transformer": pipe.transformer}
        self.pipeline: str = type(pipe).__name__
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Pixels of a patch's side."""

    @property
    @abstractmethod
    def frame_step(self) -> int:
        """Frames of a latent frame."""

    @torch.no_grad()
    def encode(self, frames: np.ndarray) -> Tensor:
        """The mode of the autoencoder's distribution, normalised."""
        self._move(("vae",), self.device)
        vae = self.pipe.vae
        pixels = torch.from_numpy(frames).to(self.device, vae.dtype).permute(3, 0, 1, 2)[None] / 127.5 - 1
        return self._normalised(vae.encode(pixels).latent_dist.mode().float())[0].cpu()

    @torch.no_grad()
    def embed(self, caption: str) -> Condition:
        """What the pipeline's own `encode_prompt` computes."""
        self._move(("text_encoder",), self.device)
        found = self.pipe.encode_prompt(
            caption, do_classifier_free_guidance=False, device=self.device, **self._prompt_length()
        )
        names = ("encoder_hidden_states", "encoder_attention_mask")
        return {name: each[0].cpu() for name, each in zip(names, found, strict=False) if each is not None}

    def _prompt_length(self) -> dict[str, int]:
        """The number of tokens of a prompt: that of the transformer, or else the default of the pipeline's call, which
        need not be that of its `encode_prompt`."""
        usual = inspect.signature(type(self.pipe).__call__).parameters["max_sequence_length"].default
        return {"max_sequence_length": self.pipe.transformer.config.get("max_text_seq_length") or usual}

    def release(self) -> None:
        """Move the autoencoder and the text encoder to host memory."""
        self._move(("vae", "text_encoder"), torch.device("cpu"))

    def compute_on(self, device: torch.device) -> None:
        """Move all of the transformer but the units; the other networks follow when they are used."""
        place_outside(self.networks["transformer"], self.units(), device)
        self.device = device

    def units(self) -> Sequence[nn.Module]:
        """The transformer's blocks."""
        network = self.networks["transformer"]
        lists: list[nn.ModuleList] = [each for each in network.children() if isinstance(each, nn.ModuleList)]
        return list(max(lists, key=lambda blocks: sum(p.numel() for block in blocks for p in block.parameters())))

    @torch.no_grad()
    def sample(self, prompt: str, how: Sampling) -> np.ndarray:
        """A film of the weights as they are."""
        self._move(("vae", "text_encoder"), self.device)
        rate = {"frame_rate": how.fps} if self.pipeline.startswith("LTX") else {}
        made = self.pipe(
            prompt,
            num_frames=how.num_frames,
            height=how.height,
            width=how.width,
            num_inference_steps=how.num_inference_steps,
            guidance_scale=how.guidance_scale,
            generator=torch.Generator().manual_seed(how.seed),
            output_type="np",
            **self._prompt_length(),
            **rate,
        )
        self.release()
        frames: np.ndarray = (np.asarray(made.frames[0]).clip(0, 1) * 255).round().astype(np.uint8)
        return frames

    def losses(self, batch: Batch, source: torch.Generator) -> Losses:
        """Mean squared error of the velocity."""
        noise = torch.randn(batch.latents.shape, generator=source)
        level = self._levels(batch.latents, source)
        x0, noise = batch.latents.to(self.device), noise.to(self.device)
        x, timestep, target, level = self._noised(x0, noise, level)
        condition = batched(batch.conditions, self.device)
        if batch.known:
            last = slice(-batch.known, None)
            part = {name: each[last] for name, each in condition.items()}
            with torch.no_grad(), adapter.switched_off(self.networks):
                target[last] = self._predict(x[last], timestep[last], part, batch.rates[-1]).float()
        predicted = self._predict(x, timestep, condition, batch.rates[0])
        error = F.mse_loss(predicted.float(), target, reduction="none")
        return Losses(error.flatten(1).mean(1), level.cpu())

    def _levels(self, latents: Tensor, source: torch.Generator) -> Tensor:
        """Noise levels (b,) of a flow, shifted as the model's scheduler shifts them."""
        normal = torch.special.ndtri(stratified(len(latents), source).clamp(1e-4, 1 - 1e-4))
        level = torch.sigmoid(normal)
        config = self.pipe.scheduler.config
        shift = float(config.get("flow_shift") or config.get("shift") or 1.0)
        if config.get("use_dynamic_shifting"):  # more noise for more tokens
            low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
            begin, end = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
            shift = math.exp(begin + (end - begin) * (math.prod(latents.shape[2:]) - low) / (high - low))
        return shift * level / (1 + (shift - 1) * level)

    def _noised(self, x0: Tensor, noise: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_t, the timesteps (b,), the target and the noise levels (b,)."""
        part = level.to(self.device).view(-1, 1, 1, 1, 1)
        return (1 - part) * x0 + part * noise, level.to(self.device) * 1000, noise - x0, level

    @abstractmethod
    def _predict(self, x: Tensor, timestep: Tensor, condition: dict[str, Tensor], fps: float) -> Tensor:
        """What the transformer predicts, in the shape of x (b, c, f, h, w)."""

    @abstractmethod
    def _normalised(self, latents: Tensor) -> Tensor:
        """Latents of the autoencoder as the transformer reads them."""

    def _move(self, parts: Sequence[str], device: torch.device) -> None:
        for name in parts:
            part = getattr(self.pipe, name)
            if part.device != device:
                part.to(device)


class Wan(PipelineTarget):
    """Wan 2.1, and Wan 2.2 with one denoising network."""

    @property
    def multiple(self) -> int:
        return int(self.pipe.vae_scale_factor_spatial * self.pipe.transformer.config.patch_size[1])

    @property
    def frame_step(self) -> int:
        return int(self.pipe.vae_scale_factor_temporal)

    def _normalised(self, latents: Tensor) -> Tensor:
        config = self.pipe.vae.config
        both = (config.latents_mean, config.latents_std)
        mean, deviation = (torch.tensor(each).view(1, -1, 1, 1, 1) for each in both)
        return (latents - mean.to(latents)) / deviation.to(latents)

    def _predict(self, x: Tensor, timestep: Tensor, condition: dict[str, Tensor], fps: float) -> Tensor:
        if self.pipe.config.expand_timesteps:  # one timestep for each token
            _, high, wide = self.pipe.transformer.config.patch_size
            timestep = timestep[:, None].expand(-1, x.shape[2] * (x.shape[3] // high) * (x.shape[4] // wide))
        context = condition["encoder_hidden_states"].to(self.dtype)
        found: Tensor = self.pipe.transformer(
            x.to(self.dtype), timestep=timestep, encoder_hidden_states=context, return_dict=False
        )[0]
        return found


class LTX(PipelineTarget):
    """LTX-Video."""

    @property
    def multiple(self) -> int:
        return int(self.pipe.vae_spatial_compression_ratio * self.pipe.transformer_spatial_patch_size)

    @property
    def frame_step(self) -> int:
        return int(self.pipe.vae_temporal_compression_ratio)

    def _normalised(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        found: Tensor = self.pipe._normalize_latents(
            latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        return found

    def _predict(self, x: Tensor, timestep: Tensor, condition: dict[str, Tensor], fps: float) -> Tensor:
        frames, height, width = x.shape[2:]
        pipe = self.pipe
        patches = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        answer = pipe.transformer(
            hidden_states=pipe._pack_latents(x.to(self.dtype), *patches),
            encoder_hidden_states=condition["encoder_hidden_states"].to(self.dtype),
            encoder_attention_mask=condition["encoder_attention_mask"],
            timestep=timestep,
            return_dict=False,
            **self._places(x, fps),
        )[0]
        found: Tensor = pipe._unpack_latents(answer, frames, height, width, *patches)
        return found

    def _places(self, x: Tensor, fps: float) -> dict[str, Any]:
        """The arguments that tell the transformer where in space and time its tokens are."""
        space = self.pipe.vae_spatial_compression_ratio
        scale = (self.pipe.vae_temporal_compression_ratio / fps, space, space)
        names = ("num_frames", "height", "width")
        return dict(zip(names, x.shape[2:], strict=True)) | {"rope_interpolation_scale": scale}


class LTXCondition(LTX):
    """LTX-Video from 0.9.5 on, whose tokens have coordinates in pixels and seconds."""

    def _places(self, x: Tensor, fps: float) -> dict[str, Any]:
        pipe, (frames, height, width) = self.pipe, x.shape[2:]
        places = pipe._prepare_video_ids(
            len(x),
            frames,
            height,
            width,
            patch_size=pipe.transformer_spatial_patch_size,
            patch_size_t=pipe.transformer_temporal_patch_size,
            device=self.device,
        )
        factors = (pipe.vae_spatial_compression_ratio, pipe.vae_temporal_compression_ratio)
        places = pipe._scale_video_ids(places, *factors, device=self.device).float()
        places[:, 0] /= fps
        return {"video_coords": places}


class CogVideoX(PipelineTarget):
    """CogVideoX 2B and 5B. Its transformer reads latents as (b, f, c, h, w)."""

    @property
    def multiple(self) -> int:
        return int(self.pipe.vae_scale_factor_spatial * self.pipe.transformer.config.patch_size)

    @property
    def frame_step(self) -> int:
        return int(self.pipe.vae_scale_factor_temporal)

    def _normalised(self, latents: Tensor) -> Tensor:
        return latents * float(self.pipe.vae.config.scaling_factor)

    def _levels(self, latents: Tensor, source: torch.Generator) -> Tensor:
        return stratified(len(latents), source)

    def _noised(self, x0: Tensor, noise: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scheduler = self.pipe.scheduler
        total = scheduler.config.num_train_timesteps
        steps = (level * total).long().clamp(max=total - 1)
        square = scheduler.alphas_cumprod[steps].to(self.device, torch.float32).view(-1, 1, 1, 1, 1)
        alpha, sigma = square.sqrt(), (1 - square).sqrt()
        return alpha * x0 + sigma * noise, steps.to(self.device), alpha * noise - sigma * x0, level

    def _predict(self, x: Tensor, timestep: Tensor, condition: dict[str, Tensor], fps: float) -> Tensor:
        pipe, config, factor = self.pipe, self.pipe.transformer.config, self.pipe.vae_scale_factor_spatial
        rotary = None
        if config.use_rotary_positional_embeddings:
            rotary = pipe._prepare_rotary_positional_embeddings(
                x.shape[3] * factor, x.shape[4] * factor, x.shape[2], self.device
            )
        found: Tensor = pipe.transformer(
            hidden_states=x.transpose(1, 2).to(self.dtype),
            encoder_hidden_states=condition["encoder_hidden_states"].to(self.dtype),
            timestep=timestep,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
        return found.transpose(1, 2)


#: diffusers' pipeline classes that can be trained, unless the model has two denoising networks.
CLASSES: Final[dict[str, type[PipelineTarget]]] = {
    "WanPipeline": Wan,
    "LTXConditionPipeline": LTXCondition,
    "LTXPipeline": LTX,
    "CogVideoXPipeline": CogVideoX,
}


def load(model: Model, directory: Path, dtype: torch.dtype, device: torch.device) -> PipelineTarget:
    """Load a pipeline of one of `CLASSES`. Raises RequestError if it has two denoising networks, and WeightsError."""
    placement = Placement(device="cpu", dtype=str(dtype).removeprefix("torch."))  # type: ignore[arg-type]
    family = PipelineFamily.load(Setup(model, directory, placement))
    pipe = family.pipe
    if getattr(pipe, "transformer_2", None) is not None:
        limit = "has two denoising networks, and only models with one can be trained"
        raise RequestError("model", model.name, limit, "choose Wan 2.1, or Wan 2.2 5B")
    pipe.transformer.to(device)
    return CLASSES[type(pipe).__name__](pipe, dtype, device)
