"""Flickbook's own networks, packed as the engine packs them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from bench.subject import SOLVER, Side, Subject, at, name_of
from flickbook.catalogue import find
from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig, autoencoder_keys
from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.schedule import NoiseSchedule
from flickbook.diffusion.text_to_video import FILES, TextToVideo
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig
from flickbook.diffusion.weights import load_weights
from flickbook.engine.unet.family import PACES
from flickbook.hub.layout import weights_file
from flickbook.hub.manifest import read_config
from flickbook.spec import Speed


def networks_of(subject: Subject, dtype: torch.dtype) -> TextToVideo:
    """The networks, packed; without words where the subject has none but vectors."""
    if subject.whole:
        return TextToVideo.load(subject.directory, dtype).pack()
    directory, absent = subject.directory, None
    configs = {part: read_config(directory / part / "config.json") for part in ("unet", "vae")}
    unet, vae = UNet3DConfig.from_dict(configs["unet"]), AutoencoderConfig.from_dict(configs["vae"])
    files = {part: weights_file(directory / part, FILES[part].rpartition("/")[2].partition(".")[0]) for part in configs}
    scheduler = directory / "scheduler/scheduler_config.json"
    return TextToVideo(
        absent,  # type: ignore[arg-type]
        absent,  # type: ignore[arg-type]
        load_weights(lambda: UNet3D(unet), files["unet"], dtype=dtype).eval(),
        load_weights(lambda: Autoencoder(vae), files["vae"], dtype=dtype, rename=autoencoder_keys).eval(),
        NoiseSchedule.from_config(read_config(scheduler), scheduler),
        torch.device("cpu"),
    ).pack()


def made(
    networks: TextToVideo, subject: Subject, dtype: torch.dtype, speed: Speed, few: tuple[int, float] | None = None
) -> Any:
    """The film, or latents where the subject is not whole; `few` are the steps and the guidance of a student."""
    steps, guidance = few or (subject.steps, subject.guidance)
    context, negative = subject.context.to(dtype), subject.negative.to(dtype)
    state = SamplerState.begin(subject.latents, networks.schedule.timesteps(steps))
    for reached in networks.denoise(state, context, negative, [guidance], SOLVER, pace=PACES[speed]):
        state = reached
    return torch.cat(list(networks.decode(state.latents[0]))).numpy() if subject.whole else state.latents


def sides(subject: Subject, dtype: torch.dtype, speeds: tuple[Speed, ...] = ("exact",)) -> list[Side]:
    """One side for each speed, on the same networks but for turbo, which has a student."""
    networks, kind = networks_of(subject, dtype), name_of(dtype)
    found = []
    for speed in speeds:
        running, few = networks, None
        if speed == "turbo":
            model = find("builtin").at(subject.directory).few_steps()
            running = TextToVideo.load(subject.directory, dtype, student=model.student).pack()
            few = model.num_inference_steps.default, model.guidance_scale.default
        make = at(subject.threads, partial(made, running, subject, dtype, speed, few))
        found.append(Side(f"ours {speed}, {kind}", make, kind, lossy=speed != "exact"))
    return found
