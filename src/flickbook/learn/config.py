"""What a training run is: one TOML file, read into frozen records, saved beside every checkpoint."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from flickbook.learn.autoencode import AutoencodeConfig


@dataclass(frozen=True)
class Stage:
    """A stretch of steps with one mixture of clip lengths and one learning rate.

    `frames` maps a clip length to its share of the steps. Every step sees the same number of frames
    (`TrainConfig.frames_per_step`), so four times shorter clips mean four times as many films.
    """

    name: str
    steps: int
    lr: float
    frames: dict[int, float]
    lr_end: float | None = None  # linear towards it; None keeps `lr`


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run of the diffusion model; the same config, data and machine give the same weights."""

    seed: int = 0
    world: dict[str, int] = field(default_factory=lambda: {"core": 64})  # films of each group
    frames_per_step: int = 128
    stages: tuple[Stage, ...] = ()
    unet: dict[str, Any] = field(default_factory=dict)
    text_encoder: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 1024
    max_length: int = 48
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup_steps: int = 200
    ema_decays: tuple[float, ...] = (0.99, 0.998, 0.9995)
    noise_focus: tuple[float, float, float] = (0.5, 0.4, 0.9)  # share of timesteps drawn from this part of the process
    autoencoder: AutoencodeConfig = field(default_factory=AutoencodeConfig)
    adherence_every: int = 500  # steps between looks at the fixed prompts
    publish_decay: float = 0.998  # the average that is published
    temporal_init: float = 0.0  # gain of the last temporal convolutions at the start; 0 is the published start

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """The stage a step belongs to, and the step's place in it. Raises IndexError past the end."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError("past the last stage")

    def learning_rate(self, step: int) -> float:
        """Linear warm-up over the whole run's first steps, then each stage's own line."""
        stage, place = self.stage_at(step)
        end = stage.lr if stage.lr_end is None else stage.lr_end
        rate = stage.lr + (end - stage.lr) * place / stage.steps
        return rate * min(1.0, (step + 1) / max(1, self.warmup_steps))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the TOML file has them."""
        return asdict(self)


def read(path: Path) -> TrainConfig:
    """Raises ValueError naming the first unknown or missing field."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    return from_dict(values)


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """The config of plain values; a stage's clip lengths may be strings, as TOML and JSON keys are."""
    values = dict(values)
    stages = []
    for stage in values.pop("stages", ()):
        unknown = set(stage) - {f.name for f in fields(Stage)}
        if unknown:
            raise ValueError(f"stages.{sorted(unknown)[0]}: no such field; see flickbook.learn.config.Stage")
        shares = {int(length): float(share) for length, share in stage["frames"].items()}
        stages.append(Stage(**{**stage, "frames": shares}))
    unknown = set(values) - {f.name for f in fields(TrainConfig)}
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]}: no such field; see flickbook.learn.config.TrainConfig")
    values["autoencoder"] = AutoencodeConfig(**values.get("autoencoder", {}))
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return TrainConfig(stages=tuple(stages), **tuples)
