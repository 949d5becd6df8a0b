"""Previews of a running pipeline: the clean latents that a step estimates, and their frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flickbook.diffusion.autoencoder import frames_of
from flickbook.spec import Plan

#: Pipelines whose latents have the layout (b, frames, channels, h, w).
_FRAMES_FIRST = ("AnyFlow", "CogVideoX", "StableVideoDiffusion")
#: Pipelines whose latents have the layout (b, frames, h, w, channels).
_CHANNELS_LAST = ("Kandinsky",)
#: Schedulers of flows, whose networks predict a velocity -> its sign: -1 towards the noise, 1 towards the film.
_FLOWS = {"FlowMatch": -1, "FlowMap": -1, "Helios": -1, "MiniMaxH3": 1}


def clean_latents(scheduler: Any, output: Tensor, timestep: Any, sample: Tensor, index: int | None, answer: Any) -> Any:
    """x0 of one film as estimated by a scheduler's step, (1, ...) in the sample's layout; None if unknown.

    `output` is the network's output at `timestep`, `index` the scheduler's step index before the step.
    """
    return _as_film(_estimate(scheduler, output, timestep, sample, index, answer))


def noise_of(scheduler: Any, num_inference_steps: int) -> list[float]:
    """sigma after each step of a scheduler, with signal and noise normalised to 1; 0 at the end and where unknown."""
    if getattr(scheduler, "sigmas", None) is not None:
        sigmas = [float(sigma) for sigma in scheduler.sigmas][1 : num_inference_steps + 1]
        name = f"{type(scheduler).__name__} {scheduler.config.get('prediction_type', '')}"
        if "flow" not in name.lower() and not any(each in name for each in _FLOWS):
            sigmas = [sigma / (1 + sigma**2) ** 0.5 for sigma in sigmas]
    elif hasattr(scheduler, "alphas_cumprod"):
        kept = [float(scheduler.alphas_cumprod[int(step)]) for step in scheduler.timesteps[1:]]
        sigmas = [(1 - each) ** 0.5 for each in kept]
    else:
        sigmas = []
    return sigmas + [0.0] * (num_inference_steps - len(sigmas))


def left_latents(answer: Any) -> Any:
    """x_t of one film after a scheduler's step, (1, ...) in the layout of `clean_latents`."""
    return _as_film(answer[0] if isinstance(answer, tuple) else answer.prev_sample)


def _as_film(x: Any) -> Any:
    if x is not None and x.ndim == 2:
        return x[None]  # MiniMax-H3 passes the tokens of its only film
    # Some pipelines pass the frames of a film to the scheduler as a batch of images.
    return x.transpose(0, 1)[None] if x is not None and x.ndim == 4 and len(x) > 1 else x


def _estimate(scheduler: Any, output: Tensor, timestep: Any, sample: Tensor, index: int | None, answer: Any) -> Any:
    if hasattr(answer, "pred_original_sample") and answer.pred_original_sample is not None:
        return answer.pred_original_sample
    if isinstance(answer, tuple) and len(answer) > 1 and isinstance(answer[1], Tensor):
        return answer[1]
    estimates = [each for each in getattr(scheduler, "model_outputs", None) or [] if each is not None]
    if estimates and getattr(scheduler.config, "algorithm_type", "dpmsolver++") == "dpmsolver++":
        return estimates[-1]  # these solvers convert every output to x0
    flow = next((sign for name, sign in _FLOWS.items() if name in type(scheduler).__name__), 0)
    if flow:
        place = (getattr(scheduler, "step_index", None) or 1) - 1 if index is None else index
        return sample + flow * scheduler.sigmas[place].to(sample) * output
    if hasattr(scheduler, "alphas_cumprod"):
        kept = scheduler.alphas_cumprod[int(timestep)].to(sample)
        if scheduler.config.prediction_type == "v_prediction":
            return kept**0.5 * sample - (1 - kept) ** 0.5 * output
        return (sample - (1 - kept) ** 0.5 * output) / kept**0.5
    return None


@torch.no_grad()
def pictures(pipe: Any, latents: Tensor, plan: Plan) -> np.ndarray:
    """Decode latents of one film, in its pipeline's own layout, to frames (n, h, w, 3) uint8."""
    vae = pipe.vae
    x = _denormalised(vae, film_latents(pipe, latents, plan))
    volume = x.ndim == 5 and "KLTemporal" not in type(vae).__name__ and type(vae).__name__ != "AutoencoderKL"
    if x.ndim == 5 and not volume:
        each = x.transpose(1, 2).flatten(0, 1)
        how: dict[str, Any] = {"num_frames": len(each)} if "KLTemporal" in type(vae).__name__ else {}
        decoded = vae.decode(each, return_dict=False, **how)[0]
    else:
        timed = getattr(vae.config, "timestep_conditioning", False)
        how = {"temb": torch.zeros(len(x), device=x.device, dtype=x.dtype)} if timed else {}
        decoded = vae.decode(x, return_dict=False, **how)[0]
        if decoded.ndim == 5:
            decoded = decoded[0].transpose(0, 1) if decoded.shape[1] == 3 else decoded[0]
    if hasattr(pipe, "pixel_mean"):  # MiniMax-H3 normalises each colour of its frames
        spread, mean = (torch.tensor(each).to(decoded).view(1, -1, 1, 1) for each in (pipe.pixel_std, pipe.pixel_mean))
        decoded = 2 * (decoded * spread + mean) - 1
    return of_whole_size(frames_of(decoded), plan)


def of_whole_size(frames: Any, plan: Plan) -> np.ndarray:
    """Frames (n, h, w, 3) of a preview; those of a film that is first made at half its size are doubled."""
    shown = np.asarray(frames)
    if plan.latent_upsample and shown.shape[1] < plan.height:
        shown = shown.repeat(2, axis=1).repeat(2, axis=2)
    return shown


@torch.no_grad()
def film_latents(pipe: Any, latents: Tensor, plan: Plan) -> Tensor:
    """The latents of one film as (1, c, f, h, w) or (1, c, h, w), normalised as the denoiser has them."""
    vae = pipe.vae
    # With offloading, the autoencoder's own device is not the one it runs on.
    x = latents[None].to(getattr(pipe, "_execution_device", vae.device), vae.dtype)
    if x.ndim == 3:
        x = _unpacked(pipe, x, plan)
    if type(pipe).__name__.startswith(_FRAMES_FIRST):
        x = x.transpose(1, 2)
    if type(pipe).__name__.startswith(_CHANNELS_LAST):
        x = x.permute(0, 4, 1, 2, 3)
    if type(pipe).__name__ == "WanAnimatePipeline":
        x = x[:, :, 1:]  # the first frame is the reference image
    if type(pipe).__name__ == "WanVACEPipeline":
        # Reference images are frames before the film's own.
        x = x[:, :, -((plan.num_frames - 1) // pipe.vae_scale_factor_temporal + 1) :]
    return x


def _unpacked(pipe: Any, x: Tensor, plan: Plan) -> Tensor:
    """Unpack the tokens (1, tokens, width) of LTX and FLUX to latents (1, c, f, h, w) or (1, c, h, w)."""
    height, width, frames = plan.height, plan.width, plan.num_frames
    if type(pipe).__name__.startswith("Flux"):
        return pipe._unpack_latents(x, height, width, pipe.vae_scale_factor)  # type: ignore[no-any-return]
    if type(pipe).__name__.startswith("MiniMaxH3"):
        return _unpacked_rows(pipe, x, plan)
    space, time = pipe.vae_spatial_compression_ratio, pipe.vae_temporal_compression_ratio
    patch, patch_t = pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size
    shape = ((frames - 1) // time + 1, height // space, width // space)
    tokens = shape[0] * shape[1] * shape[2] // (patch_t * patch**2)
    if plan.latent_upsample and x.shape[1] < tokens:  # made at half its size first
        shape, tokens = (shape[0], shape[1] // 2, shape[2] // 2), tokens // 4
    # Conditioning tokens precede the film's own tokens in LTX-Video, and follow them in LTX-2.
    own = x[:, :tokens] if type(pipe).__name__.startswith("LTX2") else x[:, -tokens:]
    return pipe._unpack_latents(own, *shape, patch, patch_t)  # type: ignore[no-any-return]


def _unpacked_rows(pipe: Any, x: Tensor, plan: Plan) -> Tensor:
    """Unpack the tokens (1, tokens, width) of MiniMax-H3, ordered by frame and row, to latents (1, c, f, h, w)."""
    patch_t, patch_h, patch_w = pipe.patch_size
    space, chunk, kept = pipe.vae_spatial_compression_ratio, pipe.vae_frames_per_chunk, pipe.vae_latents_per_chunk
    frames = (plan.num_frames - kept) // chunk * kept + 2
    height, width = plan.height // space, plan.width // space
    shape = (1, frames // patch_t, height // patch_h, width // patch_w, -1, patch_t, patch_h, patch_w)
    return x.view(shape).permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(1, -1, frames, height, width)


def _denormalised(vae: Any, x: Tensor) -> Tensor:
    """Undo the normalisation of latents: the scale, and the mean and standard deviation of each channel."""
    mean, spread = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None and "latents_mean" in dict(vae.named_buffers()):
        mean, spread = vae.latents_mean, vae.latents_std
    scale = getattr(vae.config, "scaling_factor", None) or 1.0
    if mean is None or spread is None:
        return x / scale + (getattr(vae.config, "shift_factor", None) or 0.0)
    shape = (1, -1, *[1] * (x.ndim - 2))
    # Wan's scale is included in its standard deviations; Mochi's and LTX's is 1.
    return x * torch.as_tensor(spread).to(x).view(shape) / scale + torch.as_tensor(mean).to(x).view(shape)
