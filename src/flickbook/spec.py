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

#: 2 added encodings, polish and kernels. A record of schema 1 is read: what it lacks is what was usual then.
SCHEMA_VERSION: Final = 2
Version = Literal[1, 2]
Container = Literal["mp4", "webm", "mkv", "gif", "webp", "apng", "frames", "png", "jpg", "avif"]
Quality = Annotated[int, Field(ge=0, le=100)] | Literal["lossless"]
Loop = Literal["", "pingpong", "blend", "cut"]
#: How much exactness is given for speed: exact gives none; balanced foretells what it need not compute.
Speed = Literal["exact", "balanced"]
#: Settings chosen together: recommended takes those of the model's catalogue entry.
Preset = Literal["recommended"]
#: Fields of a Plan that came later, as they stand in its canonical JSON where they change nothing; within a prompt the
#: quotes would be escaped.
_UNCHANGED: Final = ('"speed":"exact",', '"condition_fps":null,', '"stride":0,')
Phase = Literal["load", "encode", "denoise", "decode", "polish", "write"]
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


class Encoding(Record):
    """How frames become a file: `quality` is 0 to 100, the best, whatever the codec, or lossless."""

    container: Container
    codec: str
    quality: Quality
    pixel_format: str


class Encoded(Record):
    """What says how its frames become a file: an Encoding's fields, which in schema 1 were the container alone."""

    container: Container
    codec: str = ""
    quality: Quality | None = None
    pixel_format: str = ""

    def encoding(self) -> Encoding | None:
        """How its frames become a file; None where it does not say."""
        if self.quality is None:
            return None
        return Encoding(
            container=self.container, codec=self.codec, quality=self.quality, pixel_format=self.pixel_format
        )


class Network(Record):
    """A network's weights: what they are called, and the SHA-256 of their file."""

    name: str
    sha256: Sha256


class Polish(Record):
    """What is done to frames once they are made, in the order of these fields; unset does nothing.

    `trim` keeps the frames from the first number up to, not including, the second. `steady` is a strength, 0 to 1.
    `interpolate` and `upscale` are whole factors, done by OpenCV's flow and by Lanczos where no network is named.
    `speed` plays faster (above 1) or slower, with the same frames; `rate` is frames a second, with the same seconds.
    """

    trim: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] | None = None
    steady: Annotated[float, Field(ge=0, le=1)] = 0.0
    interpolate: Annotated[int, Field(ge=1, le=8)] = 1
    interpolator: Network | None = None
    upscale: Annotated[int, Field(ge=1, le=4)] = 1
    upscaler: Network | None = None
    loop: Loop = ""
    speed: Annotated[float, Field(gt=0)] = 1.0
    rate: Annotated[float, Field(gt=0)] | None = None
    text: str = ""

    def nothing(self) -> bool:
        """Whether it leaves every frame as it is."""
        return self == Polish()


class Request(Record):
    """What a person asked for. A field left None means "the model's choice"; limits live in the catalogue.

    `preset` fills fields that are left None. `image` and `video` are paths of what the film begins from, `loras` pairs
    of a file's path and its weight.
    """

    prompt: str
    model: str = "builtin"
    preset: Preset | None = None
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
    speed: Speed | None = None
    polish: Polish | None = None
    container: Container | None = None
    codec: str | None = None
    quality: Quality | None = None
    pixel_format: str | None = None


class Lora(Record):
    """An addition to a model's weights: what it is called, the SHA-256 of its file, and how much of it is added."""

    name: str
    sha256: Sha256
    weight: float = 1.0


class Plan(Encoded):
    """Every choice that decides the picture, and nothing about the machine that will run it.

    Sizes in pixels, `fps` in frames a second, `guidance_scale` without unit (1 switches guidance off),
    `seed` 0 to 2**63 - 1, `revision` the fixed version of the model's files. With a `window` the film is made of
    overlapping windows of that many frames; 0 is none. They are `stride` frames apart, half a window where that is 0.
    A network that knows the frame rate is given `condition_fps`, and `fps` where that is None. `prompt_at` holds the
    prompts that follow the first, each with its first frame. `image` and `video` are the SHA-256 of the files the film
    begins from, "" for none; `strength`, 0 to 1, says how much of them is made anew, and is None where the model does
    not ask. A sequence is a film of pictures that were each made by themselves: `drift`, 0 to 1, says how far the noise
    travels from one prompt to the next, `feedback`, 0 to 1, how much of each picture is made anew over the one before
    it, 0 for none. At `speed` "balanced" some of the network's answers are foretold, or taken from an earlier step.

    `polish` is done to the frames that the model made, which `num_frames`, `width`, `height` and `fps` speak of.
    """

    schema_version: Version = SCHEMA_VERSION
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
    stride: Annotated[int, Field(ge=0)] = 0
    condition_fps: Annotated[float, Field(gt=0)] | None = None
    prompt_at: tuple[tuple[int, str], ...] = ()
    image: Sha256 | Literal[""] = ""
    video: Sha256 | Literal[""] = ""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    loras: tuple[Lora, ...] = ()
    speed: Speed = "exact"
    drift: Annotated[float, Field(ge=0, le=1)] | None = None
    feedback: Annotated[float, Field(ge=0, le=1)] | None = None
    polish: Polish = Polish()

    def key(self) -> str:
        """SHA-256 (64 hexadecimal digits) of the canonical JSON: equal Plans, equal keys.

        A field that was added later is left out of the text where it changes nothing, so older Plans keep their keys.
        """
        text = self.to_json()
        for unchanged in _UNCHANGED:
            text = text.replace(unchanged, "")
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def guided(self) -> bool:
        """Whether classifier-free guidance runs: it doubles the network's batch."""
        return self.guidance_scale > 1

    def shape(self) -> tuple[object, ...]:
        """What films of one batch must share: model, revision, LoRAs, width, height, frames, steps, scheduler, guided,
        speed, window, the frames at which prompts begin, and what they begin from."""
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
            self.speed,
            (self.window, self.stride),
            turns,
            *begins,
        )


class Placement(Record):
    """What one machine decides about running a Plan. It may change speed and memory, never what was asked for."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    decode_frames: Annotated[int, Field(ge=1)] = 2  # frames decoded at once
    batch: Annotated[int, Field(ge=1, le=64)] = 1  # films denoised at once
    quantize: Literal["", "fp8", "int8"] = ""  # what the denoising network's weights are kept in, if not in dtype
    offload: Literal["none", "model", "sequential"] = "none"  # networks wait in the machine's memory, whole or by layer
    slicing: bool = False  # attention and decoding in slices: slower, in less memory
    tiling: bool = False  # frames are decoded in tiles that overlap
    rungs: tuple[str, ...] = ()  # what was given up while running, because memory ran out


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a run: `index` of `total` in `phase` is done, `seconds` after that phase began.

    `preview`, when asked for, is the x0 estimate: an array (films, channels, frames, height, width) of latents.
    `noisy`, of the same shape, is x_t as the step left it; None where a model does not give it.
    """

    phase: Phase
    index: int
    total: int
    seconds: float
    preview: Any | None = None
    noisy: Any | None = None


class Treatment(Encoded):
    """What was done to films that were files already: they were joined, and polished.

    `sources` are the SHA-256 of the files in their order, `fade` the frames in which one passes into the next, and with
    `fit` those of another size were scaled to cover the first's. Width and height (pixels), frames and their rate are
    those of the joined film before its polish. `origin` is the recipe that the first source carried.
    """

    schema_version: Version = SCHEMA_VERSION
    task: Literal["polish"] = "polish"
    sources: Annotated[tuple[Sha256, ...], Field(min_length=1)]
    fade: Annotated[int, Field(ge=0)] = 0
    fit: bool = False
    polish: Polish
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    num_frames: Annotated[int, Field(ge=1)]
    fps: Annotated[float, Field(gt=0)]
    origin: Recipe | None = None


class Recipe(Record):
    """How a film was made, without anything that changes between two equal runs on one machine.

    `weights` maps a file, relative to the model's directory, to its SHA-256; `frames_sha256` covers the uint8
    frames before encoding; `versions` maps a library to its version; `device_name` is the processor's own name, and
    `kernels` what else decides the last bits of a sum: threads, vector instructions, the attention that was taken.
    """

    schema_version: Version = SCHEMA_VERSION
    plan: Annotated[Plan | Treatment, Field(discriminator="task")]
    placement: Placement
    weights: dict[str, Sha256]
    frames_sha256: Sha256
    versions: dict[str, str]
    device_name: str
    kernels: dict[str, str] = {}

    def encoded(self, encoding: Encoding) -> Recipe:
        """The recipe of the same frames in a file of this encoding."""
        return self.model_copy(update={"plan": self.plan.model_copy(update=encoding.model_dump())})


class Run(Record):
    """What happened in one run and may differ in the next: it stands in the sidecar, never inside the film.

    `seconds` and `peak_memory` (bytes of the process) by phase, `peak_memory_bytes` the most of them, `first_preview`
    the seconds until something of the film could be seen, a preview or else a finished frame, times as ISO 8601 in UTC,
    `rungs` what was given up because memory ran out, `notes` for people, `scores` of the film by their names, `inputs`
    where the files that the Plan names by SHA-256 were.
    """

    seconds: dict[str, float]
    peak_memory_bytes: Annotated[int, Field(ge=0)]
    peak_memory: dict[str, int] = {}
    first_preview: Annotated[float, Field(ge=0)] | None = None
    started_at: str
    finished_at: str
    rungs: list[str] = []
    notes: list[str] = []
    scores: dict[str, float] = {}
    inputs: dict[Sha256, str] = {}


class Sidecar(Record):
    """What stands beside a film, in film.mp4.json."""

    recipe: Recipe | None
    run: Run | None


def schema() -> dict[str, Any]:
    """The JSON Schema of a sidecar, which holds those of the recipe and the run: docs/recipe.schema.json."""
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Flickbook film",
        "version": SCHEMA_VERSION,
    }
    return about | {name: value for name, value in Sidecar.model_json_schema().items() if name != "title"}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
