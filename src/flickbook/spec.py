"""The nouns that travel: Request, Plan, Placement, Step, Recipe and Run.

A Request is what a person asked for; a Plan is every choice that decides the picture and knows no machine; a
Placement is what one machine decides; a Recipe holds nothing that changes between two equal runs, so that it may
stand inside the film; a Run holds what does change, and stands beside the film only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flickbook.errors import RequestError

SCHEMA_VERSION: Final = 1
Container = Literal["mp4", "png"]
Phase = Literal["load", "encode", "denoise", "decode", "write"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """A frozen record that refuses unknown fields and has one canonical JSON text."""

    # Strict: "16" is not 16 here; faces parse, records only hold. NaN would break equality and JSON.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_json(self) -> str:
        """Canonical JSON: keys sorted, no spaces, ASCII only. Equal records give equal texts."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def of(cls, **values: object) -> Self:
        """The record of these fields, as the constructor makes it. Raises RequestError where that raises pydantic's."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise refused(error, cls.__name__) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The record of this JSON text. Raises RequestError naming the first field that is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise refused(error, cls.__name__) from None


def refused(error: ValidationError, what: str) -> RequestError:
    """The RequestError that says the first thing pydantic found wrong with a `what`."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or what
    if first["type"] == "extra_forbidden":
        return RequestError(field, first["input"], f"not a field of {what}", "leave it out")
    if first["type"] == "missing":
        return RequestError(field, "", f"missing from the {what}", "add it")
    return RequestError(field, first["input"], first["msg"], f"correct this field of the {what}")


class Request(Record):
    """What a person asked for. A field left None means "the model's choice"; limits live in the catalogue.

    `image` and `video` are paths of what the film begins from, `loras` pairs of a file's path and its weight.
    """

    prompt: str
    model: str = "builtin"
    negative_prompt: str | None = None
    num_frames: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    fps: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None
    prompt_at: tuple[tuple[int, str], ...] | None = None
    image: str | None = None
    video: str | None = None
    strength: float | None = None
    loras: tuple[tuple[str, float], ...] | None = None
    container: Container | None = None


class Lora(Record):
    """An addition to a model's weights: what it is called, the SHA-256 of its file, and how much of it is added."""

    name: str
    sha256: Sha256
    weight: float = 1.0


class Plan(Record):
    """Every choice that decides the picture, and nothing about the machine that will run it.

    Sizes in pixels, `fps` in frames a second, `guidance_scale` without unit (1 switches guidance off),
    `seed` 0 to 2**63 - 1, `revision` the fixed version of the model's files. With a `window` the film is made of
    overlapping windows of that many frames; 0 is none. `prompt_at` holds the prompts that follow the first, each with
    its first frame. `image` and `video` are the SHA-256 of the files the film begins from, "" for none; `strength`, 0
    to 1, says how much of them is made anew, and is None where the model does not ask. A sequence is a film of pictures
    that were each made by themselves: `drift`, 0 to 1, says how far the noise travels from one prompt to the next,
    `feedback`, 0 to 1, how much of each picture is made anew over the one before it, 0 for none.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    task: Literal["film", "picture", "sequence"]
    model: str
    revision: str
    prompt: str
    negative_prompt: str
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    num_frames: Annotated[int, Field(ge=1)]
    fps: Annotated[float, Field(gt=0)]
    num_inference_steps: Annotated[int, Field(ge=1)]
    guidance_scale: Annotated[float, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    scheduler: str
    window: Annotated[int, Field(ge=0)] = 0
    prompt_at: tuple[tuple[int, str], ...] = ()
    image: Sha256 | Literal[""] = ""
    video: Sha256 | Literal[""] = ""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    loras: tuple[Lora, ...] = ()
    drift: Annotated[float, Field(ge=0, le=1)] | None = None
    feedback: Annotated[float, Field(ge=0, le=1)] | None = None
    container: Container

    def key(self) -> str:
        """SHA-256 (64 hexadecimal digits) of the canonical JSON: equal Plans, equal keys."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    def guided(self) -> bool:
        """Whether classifier-free guidance runs: it doubles the network's batch."""
        return self.guidance_scale > 1

    def shape(self) -> tuple[object, ...]:
        """What films of one batch must share: model, revision, LoRAs, width, height, frames, steps, scheduler, guided,
        window, the frames at which prompts begin, and what they begin from."""
        size = (self.width, self.height, self.num_frames, self.num_inference_steps)
        turns = tuple(frame for frame, _ in self.prompt_at)
        begins = (bool(self.image), bool(self.video), self.strength)
        return (
            self.model,
            self.revision,
            self.loras,
            *size,
            self.scheduler,
            self.guided(),
            self.window,
            turns,
            *begins,
        )


class Placement(Record):
    """What one machine decides about running a Plan. It may change speed and memory, never what was asked for."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    decode_frames: Annotated[int, Field(ge=1)] = 16  # frames decoded at once
    batch: Annotated[int, Field(ge=1)] = 1  # films denoised at once
    quantize: Literal["", "fp8", "int8"] = ""  # what the denoising network's weights are kept in, if not in dtype
    offload: Literal["none", "model", "sequential"] = "none"  # networks wait in the machine's memory, whole or by layer
    slicing: bool = False  # attention and decoding in slices: slower, in less memory
    tiling: bool = False  # frames are decoded in tiles that overlap
    rungs: tuple[str, ...] = ()  # what was given up while running, because memory ran out


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a run: `index` of `total` in `phase` is done, `seconds` after that phase began.

    `preview`, when asked for, is the x0 estimate: an array (films, channels, frames, height, width) of latents.
    """

    phase: Phase
    index: int
    total: int
    seconds: float
    preview: Any | None = None


class Recipe(Record):
    """How a film was made, without anything that changes between two equal runs on one machine.

    `weights` maps a file, relative to the model's directory, to its SHA-256; `frames_sha256` covers the uint8
    frames before encoding; `versions` maps a library to its version; `device_name` is the processor's own name.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    plan: Plan
    placement: Placement
    weights: dict[str, Sha256]
    frames_sha256: Sha256
    versions: dict[str, str]
    device_name: str


class Run(Record):
    """What happened in one run and may differ in the next: it stands in the sidecar, never inside the film.

    `seconds` by phase, `peak_memory_bytes` of the process, times as ISO 8601 in UTC, `notes` for people, `scores` of
    the film by their names.
    """

    seconds: dict[str, float]
    peak_memory_bytes: Annotated[int, Field(ge=0)]
    started_at: str
    finished_at: str
    notes: list[str] = []
    scores: dict[str, float] = {}
