"""Train a candidate with a given number of operations, and evaluate it with the prompts of all others.

Every candidate begins with the text encoder of the built-in model and a denoising network of random weights, sees the
same films and captions in the same order, and has the same optimizer and learning rates. The number of steps differs,
so that the operations of the forward and backward passes (counted on shapes, `learn.compute.throughput`) are equal. Two
candidates train an autoencoder too, which is not counted.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import flickbook.learn
from bench.bakeoff.networks import GlobalUNet, SpaceTimeTransformer
from flickbook.catalogue import find
from flickbook.diffusion.autoencoder import Autoencoder
from flickbook.diffusion.unet3d import UNet3D
from flickbook.errors import RequestError
from flickbook.hub.manifest import read_config
from flickbook.learn import checkpoint
from flickbook.learn.compute.throughput import Throughput
from flickbook.learn.config import Stage, TrainConfig, read
from flickbook.learn.evaluation.evaluate import evaluate
from flickbook.learn.session import Session, accelerated, say
from flickbook.learn.train import Model, Trainer, warm_start

CONFIG = Path(flickbook.learn.__file__).with_name("builtin.toml")
_WORLD = {"core": 2400, "pair": 1200, "several": 400, "digits": 900, "views": 1000, "book": 1600}
_STILLS, _FILMS, _DECAY = 0.2, 0.5, 0.3


@dataclass(frozen=True, eq=False)
class Latents:
    """The latents that a network learns to predict: settings of the autoencoder, and of a U-Net for its latents.

    Candidates with the same latents share the films in the directory `place`.
    """

    place: str
    autoencoder: dict[str, Any]
    unet: dict[str, Any] = field(default_factory=dict)


#: The package's autoencoder, unchanged.
SHARED = Latents("shared", {"refine": "none"})
#: The autoencoder of the package, trained further with more noise on its latents (a share of each channel's spread).
SMOOTH = Latents("smooth", {"refine": "whole", "latent_noise": 0.3, "crop_steps": 0, "whole_steps": 1200, "lr": 1e-3})
#: An autoencoder of factor 8, trained from nothing: twice as many numbers for each frame, in four times as many places.
FACTOR_8 = Latents(
    "factor-8",
    {
        "network": {
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "block_out_channels": [16, 32, 64, 96],
            "latent_channels": 4,
        },
        "crop_steps": 1500,
        "whole_steps": 1000,
    },
    {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["CrossAttnDownBlock3D"] * 3,
        "up_block_types": ["CrossAttnUpBlock3D"] * 3,
        "block_out_channels": [32, 64, 128],
    },
)


@dataclass(frozen=True)
class Candidate:
    """What enters the race."""

    name: str
    title: str
    network: type[Any] = UNet3D
    latents: Latents = SHARED


CANDIDATES = {
    each.name: each
    for each in (
        Candidate("unet", "U-Net of the package"),
        Candidate("global", "U-Net with global branches", GlobalUNet),
        Candidate("smooth", "U-Net, regularised latents", latents=SMOOTH),
        Candidate("factor-8", "U-Net, latents of factor 8", latents=FACTOR_8),
        Candidate("transformer", "space-time transformer", SpaceTimeTransformer),
    )
}


def model_of(candidate: Candidate) -> type[Model]:
    """The text encoder with the candidate's network."""

    class CandidateModel(Model):
        unet_class = candidate.network

    return CandidateModel


def config_of(candidate: Candidate, steps: int) -> TrainConfig:
    """Stills, then films, then films with a falling learning rate: `steps` together."""
    config = read(CONFIG)
    stills, films = round(_STILLS * steps), round(_FILMS * steps)
    stages = (
        Stage("stills", stills, 1.5e-3, {1: 0.85, 4: 0.15}),
        Stage("films", films, 1.2e-3, {1: 0.3, 4: 0.2, 16: 0.5}),
        Stage("decay", steps - stills - films, 1.2e-3, {1: 0.25, 4: 0.15, 16: 0.6}, 0.0),
    )
    changes = candidate.latents.autoencoder
    network = config.autoencoder.network | changes.get("network", {})
    autoencoder = replace(config.autoencoder, **(changes | {"network": network}))
    text = dict(read_config(find("builtin").path() / "text_encoder/config.json"))
    unet = config.unet | candidate.latents.unet
    config = replace(config, unet=unet, text_encoder=text, stages=stages, autoencoder=autoencoder)
    return replace(config, seed=9, world=_WORLD, first_film=30_000)


@cache
def _counter(candidate: Candidate) -> Throughput:
    """Counts the operations of a candidate's steps, each kind of step once."""
    config = config_of(candidate, 1)
    with torch.device("meta"):
        network = model_of(candidate)(config)
    unet = config.unet
    shape = (unet["in_channels"], unet["sample_size"], unet["sample_size"])
    return Throughput(network, shape, config.max_length, torch.device("cpu"))


def operations_of(candidate: Candidate, config: TrainConfig) -> float:
    """Mean floating-point operations of a step of this run."""
    counted, total = _counter(candidate), 0.0
    for stage in config.stages:
        for frames, share in stage.frames.items():
            part = counted.operations(config.frames_per_step // frames, frames)
            total += stage.steps * part * share / sum(stage.frames.values())
    return total / config.steps


def steps_of(candidate: Candidate, operations: float) -> int:
    """The steps that `operations` pay for."""
    return round(operations / operations_of(candidate, config_of(candidate, 1000)))


class _OwnAutoencoder(Session):
    """A session that takes over the tokenizer of a published model, and trains an autoencoder from nothing."""

    def autoencoder(self) -> Autoencoder:
        init, self.init = self.init, None
        try:
            return super().autoencoder()
        finally:
            self.init = init


def session_of(candidate: Candidate, config: TrainConfig, out: Path, accelerator: Any = None) -> Session:
    """The package's tokenizer, the autoencoder of the candidate's latents, and the films as these latents."""
    place = out / candidate.latents.place
    place.mkdir(parents=True, exist_ok=True)
    kind = _OwnAutoencoder if "network" in candidate.latents.autoencoder else Session
    return kind(config, place, find("builtin").path(), accelerator)


def train(candidate: Candidate, operations: float, out: Path, accelerate: bool) -> None:
    """Train to the end; the same call resumes."""
    config = config_of(candidate, steps_of(candidate, operations))

    class CandidateTrainer(Trainer):
        model_class = model_of(candidate)

    with accelerated(accelerate) as accelerator:
        session = session_of(candidate, config, out, accelerator)
        tokenizer, _, films = session.materials()
        trainer = CandidateTrainer(config, films, tokenizer, out / candidate.name, accelerator)
        newest = checkpoint.latest(trainer.out)
        if newest is not None:
            begun = sum(stage["steps"] for stage in checkpoint.values(newest)["config"]["stages"])
            if begun != config.steps:
                limit = f"must be those that the training in {trainer.out} began with"
                raise RequestError("operations", operations, limit, "use them, or another --out")
            trainer.restore(newest)
        else:
            warm_start(trainer, find("builtin").path(), unet=False)
        for row in trainer.run():
            if trainer.rank == 0:
                say(candidate.name, row)


def measure(candidate: Candidate, operations: float, out: Path, prompts: int) -> dict[str, Any]:
    """Films of the evaluation's prompts, judged; written to `out`/NAME.json, with a page and contact sheets.

    Raises RequestError if the candidate is not trained to the end.
    """
    config, place = config_of(candidate, steps_of(candidate, operations)), out / candidate.name
    newest = checkpoint.latest(place)
    tensors, values = checkpoint.load(newest) if newest else ({}, {"progress": {"step": 0}})
    if (step := values["progress"]["step"]) != config.steps:
        raise RequestError("name", candidate.name, f"is at step {step} of {config.steps}", "train it to the end first")
    session = session_of(candidate, config, out)
    model = model_of(candidate)(config).eval()
    model.load_state_dict(checkpoint.part(tensors, f"ema/{config.publish_decay}/"))
    model.to(session.device)
    networks = session.networks(model, session.tokenizer(), session.autoencoder())
    found = evaluate(networks, prompts, out=place / "report", calibration=min(8, prompts))
    found |= {
        "candidate": candidate.name,
        "title": candidate.title,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": config.steps,
        "operations": config.steps * operations_of(candidate, config),
        "loss": _last_loss(place / "log.csv"),
    }
    (out / f"{candidate.name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _last_loss(log: Path) -> float:
    """The mean loss over the last rows of a training's log."""
    with log.open(newline="", encoding="utf-8") as file:
        return mean(float(row["loss"]) for row in list(csv.DictReader(file))[-8:])
