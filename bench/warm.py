"""Both pipelines in one process, taking turns."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flickbook import catalogue
from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.engine.unet.family import PACES
from flickbook.media.metrics.similarity import psnr
from flickbook.spec import Speed

PROMPT, SEED, STEPS, GUIDANCE, FRAMES, SIZE = "a red circle moving left on a blue background", 7, 25, 3.0, 16, 128


def comparable(folder: Path) -> Path:
    """A copy of the built-in model that stock diffusers loads: frame positions, if any, switched off."""
    directory = folder / "model"
    shutil.copytree(catalogue.find("builtin").path(), directory)
    path, index = directory / "unet/config.json", directory / "model_index.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.pop("frame_positions", False):
        path.write_text(json.dumps({**config, "_class_name": "UNet3DConditionModel"}), encoding="utf-8")
        parts = json.loads(index.read_text(encoding="utf-8"))
        index.write_text(json.dumps({**parts, "unet": ["diffusers", "UNet3DConditionModel"]}), encoding="utf-8")
    return directory


def stock_pipeline(directory: Path) -> Any:
    """diffusers' own pipeline, fp32, as its documentation loads it."""
    warnings.filterwarnings("ignore")
    from diffusers import TextToVideoSDPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    library: Any = TextToVideoSDPipeline  # it has no types
    pipeline = library.from_pretrained(directory, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_film(pipeline: Any, latents: torch.Tensor) -> Any:
    """(16, 128, 128, 3) float in 0..1."""
    call = {"num_frames": FRAMES, "height": SIZE, "width": SIZE, "num_inference_steps": STEPS}
    return pipeline(PROMPT, guidance_scale=GUIDANCE, latents=latents.clone(), **call).frames[0]


def our_film(networks: TextToVideo, latents: torch.Tensor, speed: Speed = "exact") -> torch.Tensor:
    """(16, 128, 128, 3) uint8."""
    context, negative = networks.embed([PROMPT, ""]).chunk(2)
    begin = SamplerState.begin(latents, networks.schedule.timesteps(STEPS))
    for state in networks.denoise(begin, context, negative, [GUIDANCE], "ddim", pace=PACES[speed]):
        latents = state.latents
    return torch.cat(list(networks.decode(latents[0])))


def measure(directory: Path, pairs: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of `pairs` runs in turn: "ours", "stock", "ours again" (the control), "balanced"; and in dB how near the
    films are: of ours to stock's, of balanced to ours."""
    networks, pipeline = TextToVideo.load(directory).pack(), stock_pipeline(directory)
    latents = noise([SEED], networks.latent_shape(FRAMES, SIZE, SIZE))
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: our_film(networks, latents),
        "stock": lambda: stock_film(pipeline, latents),
        "ours again": lambda: our_film(networks, latents),
        "balanced": lambda: our_film(networks, latents, "balanced"),
    }
    runs: dict[str, list[float]] = {name: [] for name in calls}
    films: dict[str, np.ndarray] = {}
    for turn in range(pairs + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            made = call()
            if turn:  # the first turn warms
                runs[name].append(time.perf_counter() - began)
            films[name] = made.numpy() if isinstance(made, torch.Tensor) else (made * 255).round().astype(np.uint8)
    near = {"ours": psnr(films["ours"], films["stock"]), "balanced": psnr(films["balanced"], films["ours"])}
    return runs, near
