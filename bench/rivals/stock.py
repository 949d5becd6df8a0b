"""diffusers' own pipeline for this model, as its documentation loads and calls it: fp32 on a CPU."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch

from bench.subject import Side, Subject, at, bytes_of, name_of

#: Parts that a subject which is not whole does without.
_ABSENT = ("text_encoder", "tokenizer", "vae")


def pipeline_of(subject: Subject, dtype: torch.dtype = torch.float32) -> Any:
    """The pipeline; the U-Net and its scheduler alone where the subject is not whole."""
    warnings.filterwarnings("ignore")
    from diffusers import DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
    from diffusers.utils import logging
    from transformers.utils import logging as words

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    words.disable_progress_bar()
    directory, library = subject.directory, TextToVideoSDPipeline
    if subject.whole:
        pipeline = library.from_pretrained(directory, torch_dtype=dtype)
    else:
        variant = None if (directory / "unet/diffusion_pytorch_model.safetensors").exists() else "fp16"
        unet = UNet3DConditionModel.from_pretrained(directory, subfolder="unet", torch_dtype=dtype, variant=variant)
        scheduler = DDIMScheduler.from_pretrained(directory, subfolder="scheduler")
        pipeline = library(**dict.fromkeys(_ABSENT), unet=unet, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def film(pipeline: Any, subject: Subject, steps: int | None = None) -> Any:
    """The film, or where the subject is not whole its latents after the steps."""
    dtype = pipeline.unet.dtype
    # Without an autoencoder it takes the factor to be 8; sizes only have to be divisible by that.
    height, width = (side * pipeline.vae_scale_factor for side in subject.latents.shape[-2:])
    made = pipeline(
        prompt_embeds=subject.context.to(dtype),
        negative_prompt_embeds=subject.negative.to(dtype),
        latents=subject.latents.to(dtype, copy=True),
        num_frames=subject.frames,
        height=height,
        width=width,
        num_inference_steps=steps or subject.steps,
        guidance_scale=subject.guidance,
        output_type="np" if subject.whole else "latent",
    ).frames
    return bytes_of(made[0]) if subject.whole else made


def side(subject: Subject, pipeline: Any) -> Side:
    """Stock as documented."""
    kind = name_of(pipeline.unet.dtype)
    return Side(f"stock, {kind}", at(subject.threads, partial(film, pipeline, subject)), kind)
