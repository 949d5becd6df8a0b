"""The fields of a training, which are those of `flickbook tune`, and the report on its dataset."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from flickbook.learn.tuning.config import SEED_LIMIT, Precision, TuneConfig, config_of
from flickbook.resolution import PROMPT_CHARACTERS
from flickbook.server.api.requests import Name, Prompt, Wait
from flickbook.spec import Request

EXAMPLE: Final[dict[str, Any]] = {"name": "zigzag", "prompt": "a red circle zigzagging on a blue background"}
#: Seed of the samples, as of the command: equal samples show what the training changed.
_SAMPLE_SEED: Final = 1
MAX_PRIOR_PROMPTS: Final = 1000


def _line(prompt: str) -> str:
    """The prompt as one line, as it is stored."""
    if not (line := " ".join(prompt.split())):
        raise ValueError("is empty")
    return line


_PriorPrompt = Annotated[str, Field(max_length=PROMPT_CHARACTERS), AfterValidator(_line)]


class TuneRequest(Wait):
    """A training of a LoRA, or with `full` of all weights of the denoising network. `name` is that of the LoRA. A field
    that is left out has the default of `flickbook tune`.

    `prompt` is that of the samples and of the final film, without one the first caption. Width, height, num_frames and
    fps are those of the clips that the model sees. In each update `prior` examples have `prior_prompts`, whose films
    shall stay as they are; only the built-in model has such prompts of its own. A higher `priority` runs first; more
    than 0 needs the scope admin. `expires_in` is the longest time in the queue, in seconds.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["zigzag"])]
    model: Name | None = None
    prompt: Prompt = ""
    num_frames: Annotated[int, Field(ge=1)] | None = None
    width: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0)] | None = None
    sample_every: Annotated[int, Field(ge=0, description="Updates from one sample to the next; 0 makes none")] = 100
    full: bool | None = None
    rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    target_modules: Literal["attention", "all"] | None = None
    train_text_encoder: bool | None = None
    iterations: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    lr: Annotated[float, Field(ge=1e-8, le=1)] | None = None
    prior: Annotated[int, Field(ge=0, le=1024)] | None = None
    prior_prompts: Annotated[list[_PriorPrompt], Field(min_length=1, max_length=MAX_PRIOR_PROMPTS)] | None = None
    validation: Annotated[float, Field(ge=0, le=0.5, description="Share of the clips that is held out")] | None = None
    patience: Annotated[int, Field(ge=0, le=1000)] | None = None
    caption_dropout: Annotated[float, Field(ge=0, le=1)] | None = None
    precision: Precision | None = None
    optimizer: Literal["adamw", "adamw8bit"] | None = None
    gradient_checkpointing: bool | None = None
    offload: bool | None = None
    seed: Annotated[int, Field(ge=0, le=SEED_LIMIT, description="Seed of the training")] | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    def config(self, model: str) -> TuneConfig:
        """Return the settings of a training of `model`. Raises RequestError."""
        given = {name: getattr(self, name) for name in type(self).model_fields if hasattr(TuneConfig, name)}
        for name in ("lr", "validation", "caption_dropout"):  # an integer is a valid rate or share too
            given[name] = None if given[name] is None else float(given[name])
        return config_of(model, has_prompts=self.prior_prompts is not None, **given)

    def sample(self, model: str, prompt: str) -> Request:
        """Return the Request of a sample. Raises RequestError."""
        own = {name: getattr(self, name) for name in ("num_frames", "width", "height")}
        rate = None if self.fps is None else float(self.fps)
        return Request.of(prompt=prompt, model=model, fps=rate, seed=_SAMPLE_SEED, **own)


class Length(BaseModel):
    """Seconds of all videos, and of the median one."""

    total: float
    median: float


class Words(BaseModel):
    """Words of the shortest, the median and the longest caption."""

    least: int
    median: float
    most: int


class BucketSize(BaseModel):
    """Clips that are trained at one size: captions that have it, frames, and pixels."""

    num_frames: int
    width: int
    height: int
    captions: int


class Enlarged(BaseModel):
    """Clips that are smaller than their bucket, and the largest factor."""

    clips: int
    factor: float


class DatasetProblem(BaseModel):
    """A problem of a file or a line, its reason, and what is done about it: `rule`, for example skipped."""

    where: str
    reason: str
    rule: str


class CheckResponse(BaseModel):
    """The report on a dataset and its training: what `flickbook tune --check` prints. Nothing is stored or trained.

    `cropped` is the largest share of a picture that is cut off. `slow` videos have fewer frames per second than the
    model; of `stills` one frame is used. Memory is in bytes; `examples_bytes` are those of latents and embeddings in
    the host's memory. `hours` is an estimate for this machine.
    """

    layout: str
    clips: int
    videos: int
    pictures: int
    captions: int
    seconds: Length
    sizes: dict[str, int]
    words: Words
    frequent_words: dict[str, int]
    buckets: list[BucketSize]
    enlarged: Enlarged
    cropped: float
    slow: int
    stills: int
    problems: list[DatasetProblem]
    memory_bytes: int
    free_bytes: int
    examples_bytes: int
    hours: float
