"""What a training run is: one TOML file, read into frozen records, saved beside every checkpoint."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from flickbook.diffusion.autoencoder import AutoencoderConfig
from flickbook.diffusion.schedule import NoiseSchedule
from flickbook.diffusion.text import TextConfig
from flickbook.diffusion.unet3d import UNet3DConfig
from flickbook.errors import RequestError, WeightsError
from flickbook.learn.autoencode import AutoencodeConfig
from flickbook.learn.dataset import GROUPS
from flickbook.world.scenes import FRAMES, LEAST_COVERAGE

#: From here on lie the films of the tokenizer, of the spread of the latents, and of evaluation.
_MOST_FIRST = 40_000_000


@dataclass(frozen=True)
class Stage:
    """A stretch of steps with one mixture of clip lengths and one learning rate.

    `frames` maps a clip length to its share of the steps. Every step sees the same number of frames
    (`TrainConfig.frames_per_step`, over all processes together, in whole clips for each), so four times shorter clips
    mean four times as many films.
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
    first_film: int = 0  # place of each group's first film among all that the world can show; others are new films
    coverage: float = 1.0  # share of the colour x shape and shape x motion pairs that these films show
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
    consecutive: float = 0.0  # share of the short clips whose frames follow one another; the others span the whole film
    temporal_init: float = 0.0  # gain of the last temporal convolutions at the start; 0 is the published start
    # How many times as often films of a word are drawn: a scene's kind, a trait, an object's shape, colour or motion.
    emphasis: dict[str, float] = field(default_factory=dict)

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
    """The config of a TOML file. Raises RequestError naming the file, or the first field that is wrong."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError("config", path.name, f"cannot be read as TOML ({reason})", "correct the file") from None
    return from_dict(values)


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """The config of plain values; a stage's clip lengths may be strings, as TOML and JSON keys are.

    Raises RequestError naming the first field that is unknown, missing, or out of its limits.
    """
    _check_fields(TrainConfig, values, "")
    stages, autoencoder = values.get("stages", ()), values.get("autoencoder", {})
    for place, stage in enumerate(stages):
        _check_fields(Stage, stage, f"stages.{place}.")
    _check_fields(AutoencodeConfig, autoencoder, "autoencoder.")
    chosen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    chosen["stages"] = tuple(Stage(**{**stage, "frames": _shares(stage["frames"])}) for stage in stages)
    chosen["autoencoder"] = AutoencodeConfig(**autoencoder)
    config = TrainConfig(**chosen)
    _check_limits(config)
    _check_networks(config)
    return config


#: The plain values that a field may have, by the first word of its type.
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "dict": (dict,),
    "tuple": (list, tuple),
    "AutoencodeConfig": (dict,),
}


def _check_fields(record: type[TrainConfig | Stage | AutoencodeConfig], values: Any, where: str) -> None:
    """Refuse what is not a table, and fields that are unknown, missing, or of another type."""
    if not isinstance(values, dict):
        raise RequestError(where.rstrip("."), values, "must be a table", "see flickbook.learn.config")
    known = {f.name: f for f in fields(record)}
    for name, value in values.items():
        if name not in known:
            remedy = f"leave it out; the fields are those of {record.__module__}.{record.__name__}"
            raise RequestError(where + name, value, "no such field", remedy)
        kind = str(known[name].type)
        if not _fits(value, kind):
            raise RequestError(where + name, value, f"must be of type {kind}", "correct this field")
    for name, each in known.items():
        if name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise RequestError(where + name, "", "missing", "add this field")


def _fits(value: Any, kind: str) -> bool:
    """Whether a plain value is of the type that a record names."""
    if value is None:
        return kind.endswith("None")
    if kind == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, _KINDS[re.split(r"\W", kind)[0]]):
        return False
    if kind.startswith("tuple[float"):
        several = cast("list[Any]", value)
        return all(_fits(each, "float") for each in several) and ("..." in kind or len(several) == kind.count("float"))
    return True


def _shares(frames: dict[Any, Any]) -> dict[int, float]:
    """Clip length -> share of the steps."""
    try:
        shares = {int(length): float(share) for length, share in frames.items()}
    except (TypeError, ValueError):
        shares = {}
    if not shares or not all(1 <= length <= FRAMES and share > 0 for length, share in shares.items()):
        limit = f"must give clip lengths of 1 to {FRAMES} frames a share above 0"
        raise RequestError("stages.frames", frames, limit, "write for example { 1 = 0.2, 16 = 0.8 }")
    return shares


def _check_limits(config: TrainConfig) -> None:
    """Refuse what would end a run in its middle or, worse, at its end."""
    for where, world in (("world", config.world), ("autoencoder.world", config.autoencoder.world)):
        if not world or not all(g in GROUPS and isinstance(n, int) and n > 0 for g, n in world.items()):
            limit = f"must give groups ({', '.join(GROUPS)}) a number of films above 0"
            raise RequestError(where, world, limit, "write for example { core = 64 }")
    if not 1 <= config.autoencoder.frames_per_film <= FRAMES:
        remedy = "correct this field"
        raise RequestError(
            "autoencoder.frames_per_film", config.autoencoder.frames_per_film, f"must be 1 to {FRAMES}", remedy
        )
    if config.autoencoder.refine not in ("none", "decoder", "whole"):
        refused = config.autoencoder.refine
        raise RequestError("autoencoder.refine", refused, "must be one of none, decoder, whole", "correct this field")
    if not 0 <= config.consecutive <= 1:
        raise RequestError("consecutive", config.consecutive, "must be 0 to 1", "name a share of the short clips")
    if not 0 <= config.first_film < _MOST_FIRST:
        limit = f"must be 0 to {_MOST_FIRST - 1}"
        raise RequestError("first_film", config.first_film, limit, "name the place of the first film of each group")
    if not all(_fits(factor, "float") and factor > 0 for factor in config.emphasis.values()):
        limit = "must give each word a factor above 0"
        raise RequestError("emphasis", config.emphasis, limit, "write for example { spinning = 2.0 }")
    if not LEAST_COVERAGE <= config.coverage <= 1:
        limit = f"must be {LEAST_COVERAGE:g} to 1"
        raise RequestError("coverage", config.coverage, limit, "name the share of the pairs that training shows")
    if not config.stages or not all(stage.steps > 0 for stage in config.stages):
        raise RequestError("stages", len(config.stages), "must be one or more of 1 step or more", "add a [[stages]]")
    if config.publish_decay not in config.ema_decays:
        limit = f"must be one of ema_decays, {', '.join(map(str, config.ema_decays))}"
        raise RequestError("publish_decay", config.publish_decay, limit, "add it there or choose another")


def _check_networks(config: TrainConfig) -> None:
    """Let each network refuse its own table now, and not after hours spent on the one before."""
    tables: dict[str, tuple[Callable[[dict[str, Any]], object], dict[str, Any]]] = {
        "autoencoder.network": (AutoencoderConfig.from_dict, config.autoencoder.network),
        "unet": (UNet3DConfig.from_dict, config.unet),
        "text_encoder": (TextConfig.from_dict, config.text_encoder),
        "scheduler": (NoiseSchedule.from_config, config.scheduler),
    }
    # These two read published files, where fields that mean nothing to them stand too; here such a field is a slip.
    known = {"unet": {*UNet3DConfig.FIXED}, "text_encoder": {"architectures", "model_type"}}
    known["unet"] |= {f.name for f in fields(UNet3DConfig)}
    known["text_encoder"] |= {f.name for f in fields(TextConfig)}
    for name, (build, values) in tables.items():
        for setting in sorted(set(values) - known.get(name, set(values))):
            raise RequestError(f"{name}.{setting}", values[setting], "no such field", "leave it out")
        try:
            build(values)
        except (WeightsError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = error.reason if isinstance(error, WeightsError) else f"cannot be used ({error})"
            raise RequestError(name, "{...}", reason, f"correct the table [{name}]") from error
