"""The 3D U-Net family under training: the built-in model, text-to-video-ms-1.7b, ZeroScope, VideoCrafter2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.diffusion.unet3d import ResnetBlock, SpatialTransformer, TemporalConv, TemporalTransformer
from flickbook.learn.tuning import adapter
from flickbook.learn.tuning.blocks import place_outside
from flickbook.learn.tuning.target import Batch, Condition, Losses, Sampling, batched, stratified

#: Half of the noise levels are drawn from this part of the process: there the words decide what moves.
_FOCUS = (0.4, 0.9)
#: Parameters of a denoising network for which a LoRA is added to the weights first. Measured for 7.5 million only, the
#: built-in model's: an update takes two thirds of the time. A large network would hold gradients of all its weights.
_SMALL = 50_000_000


class UNetTarget:
    """A model of the 3D U-Net family; a `Target`. With `text` the text encoder is trained too."""

    pipeline = "TextToVideoSDPipeline"
    frame_step = 1

    def __init__(self, model: TextToVideo, fps: float | None, text: bool) -> None:
        self.model, self.fps, self.text = model, fps, text
        self.device, self.dtype = model.device, next(model.unet.parameters()).dtype
        self.multiple = model.autoencoder.config.factor * 2 ** (len(model.unet.config.block_out_channels) - 1)
        self.networks: dict[str, nn.Module] = {"unet": model.unet}
        if text:
            self.networks["text_encoder"] = model.text_encoder
        for network in (model.unet, model.autoencoder, model.text_encoder):
            network.requires_grad_(False)
        self.joint = sum(each.numel() for each in model.unet.parameters()) <= _SMALL

    def encode(self, frames: np.ndarray) -> Tensor:
        """The mean of the autoencoder's distribution, scaled."""
        return self.model.encode(torch.from_numpy(frames)).cpu()

    def embed(self, caption: str) -> Condition:
        """The embedding (tokens, width) of a caption, or its token ids if the text encoder is trained."""
        if self.text:
            return {"ids": self.model.tokenizer([caption])[0]}
        return {"context": self.model.embed([caption])[0].clone().cpu()}

    def release(self) -> None:
        """Unload the text encoder, unless it is trained."""
        if not self.text:
            self.model.unload_text_encoder()

    def compute_on(self, device: torch.device) -> None:
        """Move all but the units. A text encoder that is loaded again is loaded there."""
        place_outside(self.model.unet, self.units(), device)
        for network in (self.model.autoencoder, self.model.text_encoder):
            network.to(device)
        self.model.reader = partial(self.model.reader, device=device)
        self.device = self.model.device = device

    def units(self) -> Sequence[nn.Module]:
        """Every resnet, transformer and temporal convolution."""
        kinds = (ResnetBlock, SpatialTransformer, TemporalTransformer, TemporalConv)
        return [module for module in self.model.unet.modules() if isinstance(module, kinds)]

    @torch.no_grad()
    def sample(self, prompt: str, how: Sampling) -> np.ndarray:
        """A film of the weights as they are."""
        model = self.model
        negative, context = (model.text_encoder(model.tokenizer([words]).to(self.device)) for words in ("", prompt))
        latents = noise([how.seed], model.latent_shape(how.num_frames, how.height, how.width)).to(self.device)
        state = SamplerState.begin(latents, model.schedule.timesteps(how.num_inference_steps))
        rates = [how.fps if self.fps is None else self.fps]
        for reached in model.denoise(state, context, negative, [how.guidance_scale], "ddim", rates):
            state = reached
        self.release()
        return torch.cat(list(model.decode(state.latents[0].float()))).numpy()

    def losses(self, batch: Batch, source: torch.Generator) -> Losses:
        """Mean squared error of what the network predicts: epsilon, v or x_0."""
        latents, schedule, known = batch.latents, self.model.schedule, batch.known
        count = len(latents)
        parts = [each for each in (count - known, known) if each]
        place = torch.cat([_levels(each, source) for each in parts])
        steps = (place * schedule.num_train_timesteps).long().clamp(max=schedule.num_train_timesteps - 1)
        epsilon = torch.randn(latents.shape, generator=source)
        x0, epsilon, t = (each.to(self.device) for each in (latents, epsilon, steps))
        words = batched(batch.conditions, self.device)
        rate = torch.tensor(batch.rates if self.fps is None else [self.fps] * count).to(self.device)
        x = schedule.add_noise(x0, epsilon, t)
        target = schedule.target(x0, epsilon, t)
        if known:
            target = target.clone()  # it may be x0
            last = slice(-known, None)
            part = {name: each[last] for name, each in words.items()}
            with torch.no_grad(), adapter.switched_off(self.networks):
                target[last] = self._predict(x[last], t[last], part, rate[last])
        predict = self._with_merged if self.joint else self._predict
        error = F.mse_loss(predict(x, t, words, rate), target, reduction="none")
        return Losses(error.flatten(1).mean(1), place)

    def _predict(self, x: Tensor, t: Tensor, words: Mapping[str, Tensor], rate: Tensor) -> Tensor:
        """What the network predicts, float32 in the shape of x (b, c, f, h, w)."""
        context = self.model.text_encoder(words["ids"]) if self.text else words["context"]
        return self.model.unet(x, t, context, rate).float()  # type: ignore[no-any-return]

    def _with_merged(self, x: Tensor, t: Tensor, words: Mapping[str, Tensor], rate: Tensor) -> Tensor:
        """The same, with the LoRA added to the weights first."""
        device = self.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        weights = {name: adapter.merged(network, dtype) for name, network in self.networks.items()}
        with adapter.switched_off(self.networks):
            context = words.get("context")
            if self.text:
                context = _called(self.model.text_encoder, weights["text_encoder"], words["ids"])
            return _called(self.model.unet, weights["unet"], x, t, context, rate).float()


def _called(network: nn.Module, weights: dict[str, Tensor], *inputs: Any) -> Tensor:
    """What a network computes with other weights."""
    return functional_call(network, weights, inputs, tie_weights=False)  # type: ignore[no-any-return]


def _levels(count: int, source: torch.Generator) -> Tensor:
    """Noise levels (count,) in 0 to 1: half of them in `_FOCUS`, half anywhere."""
    place, (low, high) = stratified(count, source), _FOCUS
    return torch.where(torch.rand(count, generator=source) < 0.5, low + (high - low) * place, place)
