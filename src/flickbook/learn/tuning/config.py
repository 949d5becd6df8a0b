"""The settings of a LoRA training or a full fine-tuning, with their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.errors import RequestError

SEED_LIMIT: Final = 2**32 - 1
Precision = Literal["auto", "fp32", "bf16", "fp16"]
#: Field -> the allowed range.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "rank": (1, 1024),
    "iterations": (1, 1_000_000),
    "batch": (1, 1024),
    "lr": (1e-8, 1),
    "validation": (0, 0.5),
    "patience": (0, 1000),
    "caption_dropout": (0, 1),
    "prior": (0, 1024),
    "seed": (0, SEED_LIMIT),
}
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "precision": get_args(Precision),
    "optimizer": ("adamw", "adamw8bit"),
    "target_modules": ("attention", "all"),
}
#: diffusers' pipeline classes that can be trained.
PIPELINES: Final = ("WanPipeline", "LTXConditionPipeline", "LTXPipeline", "CogVideoXPipeline")
#: Models of these classes that have two denoising networks, and cannot.
TWO_NETWORKS: Final = ("wan-2.2-14b",)
_NOT_FULL: Final = "cannot be combined with full, because the original weights are not kept"
#: Clips in each update, unless another number is asked for.
BATCH: Final = 4


@dataclass(frozen=True)
class TuneConfig:
    """Everything that decides a training, apart from the model and the clips.

    `rank` is the rank of the LoRA's matrices; its alpha equals the rank, so its scale is 1. `target_modules` selects
    the layers that get one: those of attention, or all linear and convolution layers. With `full` every weight of the
    denoising network is trained instead. `iterations` is the number of updates, of `batch` clips each; `lr` rises over
    `warmup` updates and falls to 0 along a cosine. `validation` is the share of the clips that is held out.
    Their loss is evaluated every `validate_every` updates, and the training stops once `patience` means of three
    evaluations since the lowest one were more than 15 % above it (0: never). In each update `prior` examples more have
    prompts that the model knows, and the LoRA learns to leave their films as they are. `precision` is that of the
    computation, and on a GPU of the frozen weights too; trained weights are float32. `auto` is bf16 where the device
    computes in it, else fp16 on a GPU and fp32 on a processor.
    """

    full: bool = False
    rank: int = 16
    target_modules: str = "attention"
    train_text_encoder: bool = False
    iterations: int = 500
    batch: int = BATCH
    lr: float = 1e-3
    warmup: int = 20
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    caption_dropout: float = 0.0
    prior: int = 0
    validation: float = 0.1
    validate_every: int = 50
    patience: int = 6
    precision: Precision = "auto"
    optimizer: str = "adamw"
    gradient_checkpointing: bool = False
    offload: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise RequestError(name, value, f"must be {low:g} to {high:g}", "leave it out for the default")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                limit = f"must be {', '.join(allowed[:-1])} or {allowed[-1]}"
                raise RequestError(name, getattr(self, name), limit, "leave it out for the default")
        if self.full and self.train_text_encoder:
            limit = "cannot be combined with full, which trains the denoising network only"
            raise RequestError("train_text_encoder", True, limit, "leave one of them out")
        if self.full and self.prior:
            raise RequestError("prior", self.prior, _NOT_FULL, "leave one of them out")

    def same_run(self) -> dict[str, Any]:
        """The fields that a resumed run must share with the run that it continues."""
        free = ("gradient_checkpointing", "offload", "patience")
        return {name: value for name, value in vars(self).items() if name not in free}


def trainable_models() -> list[Model]:
    """Return the models of the catalogue of which a LoRA can be trained."""
    able = [each for each in catalogue.list_models() if each.family == "unet" or each.pipeline in PIPELINES]
    return [each for each in able if not each.lora and each.name not in TWO_NETWORKS]


def check_trainable(model: Model) -> None:
    """Raise RequestError for a model of a pipeline that cannot be trained."""
    if model.pipeline:
        check_kind(model.name, model.pipeline)


def check_kind(name: str, kind: str) -> None:
    """Raise RequestError for a model whose pipeline class `kind` cannot be trained."""
    if kind not in PIPELINES or name in TWO_NETWORKS:
        remedy = f"choose one of {', '.join(each.name for each in trainable_models())}"
        raise RequestError("model", name, f"{kind} cannot be trained", remedy)


def check_prior(model: str, has_prompts: bool) -> None:
    """Raise RequestError for prior examples of a model that has no prompts for them."""
    if model != "builtin" and not has_prompts:
        remedy = "give prompts that it knows, one on each line"
        raise RequestError("prior_prompts", "", f"missing; {model} has no captions of its own", remedy)


def config_of(model: str, *, has_prompts: bool = False, **given: Any) -> TuneConfig:
    """Return the settings of a training of `model`: those in `given` that are not None, else the usual ones.

    The built-in model trains all layers and its text encoder, at a larger learning rate than other models. Prior
    examples are usual for it, and for a model `has_prompts` for them. Raises RequestError.
    """
    own, full = model == "builtin", bool(given.get("full"))
    usual: dict[str, Any] = {
        "target_modules": "all" if own else "attention",
        "train_text_encoder": own and not full,
        "prior": BATCH if (own or has_prompts) and not full else 0,
        "lr": 1e-5 if full else 2e-3 if own else 1e-4,
    }
    config = TuneConfig(**usual | {name: value for name, value in given.items() if value is not None})
    if full and has_prompts:
        raise RequestError("prior_prompts", True, _NOT_FULL, "leave one of them out")
    if config.prior:
        check_prior(model, has_prompts)
    return config


def changed(config: TuneConfig) -> dict[str, Any]:
    """Return the fields that are not at their defaults, as a `Tuning` holds them."""
    usual = TuneConfig()
    return {name: value for name, value in vars(config).items() if value != getattr(usual, name)}
