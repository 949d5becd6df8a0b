"""The shared data types: Request, Plan, Placement, Step, Recipe and Run.

A Request is the user's input. A Plan contains every choice that affects the frames, and nothing about the machine. A
Placement contains one machine's choices. A Recipe contains only what is equal in equal runs, so it may be embedded in
the film. A Run contains what differs between runs, and is stored only in the sidecar.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from flickbook.finishing import NO_AUDIO as NO_AUDIO
from flickbook.finishing import AudioFit as AudioFit
from flickbook.finishing import Camera as Camera
from flickbook.finishing import Loop as Loop
from flickbook.finishing import Network as Network
from flickbook.finishing import Polish as Polish
from flickbook.finishing import Sounding as Sounding
from flickbook.keyframes import Condition, Keyframe
from flickbook.records import Record as Record
from flickbook.records import Sha256 as Sha256
from flickbook.records import refused as refused

#: 2 added encodings, polish and kernels. Records of schema 1 are still read; missing fields take the defaults of that
#: time.
SCHEMA_VERSION: Final = 2
Version = Literal[1, 2]
Container = Literal["mp4", "webm", "mkv", "gif", "webp", "apng", "frames", "png", "jpg", "avif"]
Quality = Annotated[int, Field(ge=0, le=100)] | Literal["lossless"]
#: How a shot begins: anew, or from the last frame of the shot before it.
Begins = Literal["", "previous"]
#: Trade-off between exactness and speed: exact computes everything; balanced extrapolates some of the network's
#: outputs; turbo runs weights that were distilled to few steps.
Speed = Literal["exact", "balanced", "turbo"]
#: A preset of settings: recommended takes those of the model's catalogue entry.
Preset = Literal["recommended"]
#: Later fields of a Plan in canonical JSON, with the values that change nothing. They cannot match inside a prompt,
#: where the quotes would be escaped.
_UNCHANGED: Final = (
    *('"speed":"exact",', '"condition_fps":null,', '"stride":0,'),
    *('"camera":"",', '"fade":0,', '"shots":[],'),
    *('"last_image":"",', '"conditions":[],', '"reference_images":[],'),
    *('"control":"",', '"control_video":"",', '"face_video":"",', '"mask":"",'),
    *('"latents":"",', '"overlap":0,', '"latent_upsample":"",'),
)
#: How a film is made at half its width and height first and doubled as latents: "" is not at all, plain decodes the
#: doubled latents, refine denoises them again in few steps.
LatentUpsample = Literal["", "plain", "refine"]
#: What computes the frames of a control video from a film: "" takes them as they are, edges draws its edges.
Control = Literal["", "edges"]
Phase = Literal["load", "encode", "train", "denoise", "decode", "polish", "write"]


class Encoding(Record):
    """The encoding of frames in a file: `quality` is 0 to 100 (best) for every codec, or lossless."""

    container: Container
    codec: str
    quality: Quality
    pixel_format: str


class Encoded(Record):
    """A record with the fields of an Encoding. Schema 1 had only the container."""

    container: Container
    codec: str = ""
    quality: Quality | None = None
    pixel_format: str = ""

    def encoding(self) -> Encoding | None:
        """Return the encoding; None if it is not recorded."""
        if self.quality is None:
            return None
        return Encoding(
            container=self.container, codec=self.codec, quality=self.quality, pixel_format=self.pixel_format
        )


class Request(Record):
    """The user's input. A field left None takes the model's default; limits are in the catalogue.

    `preset` fills fields that are None. `image` and `video` are paths of files that the film begins from, `last_image`
    of one that it ends with; `conditions` are images at frames between. `reference_images` show what the film is about.
    `control_video` steers every frame, `face_video` the face in it, and `mask` is white where a video is made anew.
    `latents` is the path of the kept latents of a film that this one continues; its first `overlap` frames are the end
    of that film. With `latent_upsample` the film is made at half its size first. `audio` is the path of its track, or
    "none". `loras` are pairs of a file's path and its weight. A film of several `shots` has a Request for each, and
    `fade` is the number of frames of the cross-fade between two shots.
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
    last_image: str | None = None
    conditions: tuple[Condition, ...] | None = None
    reference_images: tuple[str, ...] | None = None
    control_video: str | None = None
    control: Control | None = None
    face_video: str | None = None
    mask: str | None = None
    latents: str | None = None
    overlap: int | None = None
    latent_upsample: LatentUpsample | None = None
    strength: float | None = None
    audio: str | None = None
    audio_fit: AudioFit | None = None
    audio_fade: float | None = None
    loras: tuple[tuple[str, float], ...] | None = None
    speed: Speed | None = None
    polish: Polish | None = None
    container: Container | None = None
    codec: str | None = None
    quality: Quality | None = None
    pixel_format: str | None = None
    shots: tuple[RequestedShot, ...] | None = None
    fade: int | None = None


class RequestedShot(Record):
    """A shot of a Request: its own Request, and how it begins."""

    request: Request
    begins: Begins = ""


class Lora(Record):
    """A LoRA: its name, the SHA-256 of its file, and its weight."""

    name: str
    sha256: Sha256
    weight: float = 1.0


class Plan(Encoded, Sounding):
    """Every choice that affects the frames, and nothing about the machine that runs it.

    Sizes are in pixels, `fps` in frames per second; `guidance_scale` has no unit (1 disables guidance); `seed` is 0 to
    2**63 - 1; `revision` is the fixed version of the model's files. With a `window`, the film is made of overlapping
    windows of that many frames, `stride` frames apart (0: half a window); a `window` of 0 disables this. A network that
    is conditioned on the frame rate gets `condition_fps`, or `fps` if that is None. `prompt_at` holds the prompts after
    the first, each with its first frame.

    `image` and `video` are the SHA-256 of the files the film begins from, "" if there is none; `strength`, 0 to 1, is
    the share of them that is generated anew, None if the model has no such parameter. `last_image`, `conditions`,
    `reference_images`, `control_video`, `face_video` and `mask` are the Request's, by SHA-256. With an `overlap`, the
    first frames, that many, are the end of an earlier film, whose kept `latents` hold them during denoising. With
    `latent_upsample` the film is made at half of `width` and `height`, and doubled as latents. A sequence is a film of
    individually generated images: `drift`, 0 to 1, is how far the noise moves from one prompt to the next; `feedback`,
    0 to 1, is how much of each image is generated anew from the previous one, 0 for no feedback. With `speed`
    "balanced", some of the network's outputs are extrapolated or reused from an earlier step; with "turbo", few-step
    weights make the film.

    A film of several `shots` has a Plan for each; its other fields are those of the whole film, or of the first shot.
    `prompt_at` then holds the prompts of the later shots, and `fade` is the number of frames of each cross-fade.

    `num_frames`, `width`, `height` and `fps` describe the model's frames, before `polish` is applied.
    """

    schema_version: Version = SCHEMA_VERSION
    task: Literal["film", "picture", "sequence", "shots"]
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
    last_image: Sha256 | Literal[""] = ""
    conditions: tuple[Keyframe, ...] = ()
    reference_images: tuple[Sha256, ...] = ()
    control_video: Sha256 | Literal[""] = ""
    control: Control = ""
    face_video: Sha256 | Literal[""] = ""
    mask: Sha256 | Literal[""] = ""
    latents: Sha256 | Literal[""] = ""
    overlap: Annotated[int, Field(ge=0)] = 0
    latent_upsample: LatentUpsample = ""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    loras: tuple[Lora, ...] = ()
    speed: Speed = "exact"
    drift: Annotated[float, Field(ge=0, le=1)] | None = None
    feedback: Annotated[float, Field(ge=0, le=1)] | None = None
    shots: tuple[PlannedShot, ...] = ()
    fade: Annotated[int, Field(ge=0)] = 0
    polish: Polish = Polish()

    def key(self) -> str:
        """Return the SHA-256 (64 hexadecimal digits) of the canonical JSON: equal Plans have equal keys.

        Later fields are omitted from the text if they change nothing, so the keys of older Plans stay valid.
        """
        text = self.to_json()
        for unchanged in _UNCHANGED:
            text = text.replace(unchanged, "")
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that make the film, each once."""
        return tuple(dict.fromkeys(shot.plan.model for shot in self.shots)) or (self.model,)

    def guided(self) -> bool:
        """Whether classifier-free guidance is used; it doubles the network's batch size."""
        return self.guidance_scale > 1

    def shape(self) -> tuple[object, ...]:
        """Return what all films of a batch must share.

        These are model, revision, LoRAs, width, height, frames, steps, scheduler, guidance, speed, window, the frames
        at which prompts begin, and the kinds of input that the film is made from.
        """
        size = (self.width, self.height, self.num_frames, self.num_inference_steps)
        turns = tuple(frame for frame, _ in self.prompt_at)
        latents = (bool(self.latents), self.overlap, self.latent_upsample)
        begins = (bool(self.image), bool(self.video), *latents, self.strength)
        places = tuple((each.frame, each.strength) for each in self.conditions)
        guides = (bool(self.last_image), places, len(self.reference_images))
        steering = (bool(self.control_video), self.control, bool(self.face_video), bool(self.mask))
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
            *guides,
            *steering,
        )


class PlannedShot(Record):
    """A shot of a Plan: its own Plan, and how it begins. The image or the latents that it begins from are known only
    when the previous one is made, so its Plan has neither. With an `overlap` it begins from the latents."""

    plan: Plan
    begins: Begins = ""


class Placement(Record):
    """One machine's choices for running a Plan. They may change speed and memory, never the content."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    decode_frames: Annotated[int, Field(ge=1)] = 2  # frames decoded at once
    batch: Annotated[int, Field(ge=1, le=64)] = 1  # films denoised at once
    quantize: Literal["", "fp8", "int8"] = ""  # storage type of the denoising network's weights, if not dtype
    offload: Literal["none", "model", "sequential"] = "none"  # networks wait in host memory, whole or by layer
    slicing: bool = False  # attention and decoding in slices: slower, with less memory
    tiling: bool = False  # frames are decoded in overlapping tiles
    ulysses_degree: Annotated[int, Field(ge=1, le=64)] = 1  # devices that share the tokens of one film
    rungs: tuple[str, ...] = ()  # the fallbacks applied while running, because memory ran out


@dataclass(frozen=True, slots=True)
class Step:
    """A progress event of a run: step `index` of `total` in `phase` is done, `seconds` after the phase began.

    `preview`, if requested, is the x0 estimate: latents (films, channels, frames, height, width). `noisy`, of the same
    shape, is x_t after the step; None if the model does not provide it.
    """

    phase: Phase
    index: int
    total: int
    seconds: float
    preview: Any | None = None
    noisy: Any | None = None


class Treatment(Encoded, Sounding):
    """Joining and polishing of existing films.

    `sources` are the SHA-256 of the files in order; `fade` is the number of frames of each cross-fade; with `fit`,
    films of another size were scaled to cover the first one. Width and height (pixels), frames and frame rate are those
    of the joined film before its polish. `origin` is the recipe of the first source.
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
    """How a film was made: everything that is equal in equal runs on one machine.

    `weights` maps a file, relative to the model's directory, to its SHA-256; `frames_sha256` covers the uint8 frames
    before encoding, `audio_sha256` the samples of its sound, None if there is none; `versions` maps a library to its
    version; `device_name` is the processor's name; `kernels` holds what else affects the last bits of a sum: threads,
    vector instructions, the attention implementation. A film of several shots has `shots`, and its other fields are
    those of the first one.
    """

    schema_version: Version = SCHEMA_VERSION
    plan: Annotated[Plan | Treatment, Field(discriminator="task")]
    placement: Placement
    weights: dict[str, Sha256]
    frames_sha256: Sha256
    audio_sha256: Sha256 | None = Field(default=None, exclude_if=lambda value: value is None)
    versions: dict[str, str]
    device_name: str
    kernels: dict[str, str] = {}
    shots: tuple[MadeShot, ...] = ()

    def encoded(self, encoding: Encoding) -> Recipe:
        """Return the recipe of the same frames in a file of this encoding."""
        return self.model_copy(update={"plan": self.plan.model_copy(update=encoding.model_dump())})


class MadeShot(Record):
    """How one shot of a film was made; the fields are those of a Recipe, the shot's Plan is that of the film's Plan."""

    placement: Placement
    weights: dict[str, Sha256]
    frames_sha256: Sha256
    versions: dict[str, str]
    device_name: str
    kernels: dict[str, str] = {}


class Run(Record):
    """What happened in one run and may differ in the next. It is stored in the sidecar, never in the film.

    `seconds` and `peak_memory` (bytes of the process) are by phase, `peak_memory_bytes` is the largest of them.
    `first_preview` is the time in seconds until the first preview or finished frame. Times are ISO 8601 in UTC. `rungs`
    are the fallbacks applied because memory ran out, `notes` are for the user, `scores` are quality scores by name, and
    `inputs` maps the SHA-256 of the Plan's input files to their paths.
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
    """The content of a film's sidecar, film.mp4.json."""

    recipe: Recipe | None
    run: Run | None


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a sidecar, including the recipe and the run: docs/recipe.schema.json."""
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Flickbook film",
        "version": SCHEMA_VERSION,
    }
    return about | {name: value for name, value in Sidecar.model_json_schema().items() if name != "title"}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
