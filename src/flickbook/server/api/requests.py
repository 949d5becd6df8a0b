"""Request bodies of /api/v1: the fields of a Request and the polish options by name, without file paths."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from flickbook import settings
from flickbook.engine.polish import PolishOptions
from flickbook.engine.sequences.sequence import DRIFT, FRAMES, FRAMES_PER, PROMPTS
from flickbook.errors import RequestError
from flickbook.keyframes import Condition
from flickbook.records import refused
from flickbook.resolution import PROMPT_CHARACTERS, SEED_LIMIT
from flickbook.server.api.loras import files_of
from flickbook.server.submission.forms import Body as Sent
from flickbook.server.submission.forms import request_of
from flickbook.spec import AudioFit, Camera, Control, LatentUpsample, Loop, Preset, Quality, Request, Speed

#: The longest time that a job may wait in the queue, in seconds.
MAX_WAIT: Final = 30 * 86_400.0
#: The most conditions of one request, and the most reference images.
GUIDES: Final = 8
#: The most drafts of one request.
MAX_DRAFTS: Final = 64
#: Without numbered frames: these are many files, and a response is one.
Container = Literal["mp4", "webm", "mkv", "gif", "webp", "apng", "png", "jpg", "avif"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8", "int8"]
Prompt = Annotated[str, Field(max_length=PROMPT_CHARACTERS)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
#: JSON has no tuples, so a list is accepted; its elements stay strict.
Turn = Annotated[tuple[Annotated[int, Field(ge=1)], Prompt], Field(strict=False)]
Seeds = Annotated[int, Field(ge=1, le=MAX_DRAFTS)] | Annotated[list[Seed], Field(min_length=1, max_length=MAX_DRAFTS)]
Until = Annotated[float, Field(gt=0, lt=1)]
Priority = Annotated[int, Field(ge=-100, le=100)]
JobId = Annotated[str, Field(max_length=64, examples=["job_06fzk2m3n4p5q6r7s8t9v0w1x2"])]
EXAMPLE: Final[dict[str, Any]] = {"prompt": "a red circle moving left on a blue background", "seed": 7}


class Body(BaseModel):
    """A JSON object. Unknown fields are refused, and values are not converted: "16" is not 16."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PolishOption(Body):
    """Polish options: operations on the finished frames. See the page on finishing films."""

    trim: Annotated[str, Field(max_length=40, examples=["8:24f"])] | None = None
    steady: Annotated[float, Field(ge=0, le=1)] | None = None
    interpolate: Annotated[int, Field(ge=2, le=8)] | Annotated[str, Field(max_length=4, examples=["2x"])] | None = None
    upscale: Annotated[int, Field(ge=2, le=4)] | Annotated[str, Field(max_length=4, examples=["2x"])] | None = None
    camera: Camera | None = None
    loop: Loop | None = None
    speed: Annotated[float, Field(gt=0)] | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    text: Annotated[str, Field(max_length=200)] | None = None


class LoraNamed(Body):
    """A LoRA of the service by name, and its weight."""

    name: Annotated[str, Field(max_length=200, examples=["ink"])]
    weight: Annotated[float, Field(ge=-10, le=10)] = 1.0


class Choices(Body):
    """The common options of films and sequences. A field that is left out uses the model's default."""

    model: Name | None = None
    preset: (
        Annotated[Preset, Field(description="recommended: use the model's recommended values for unset fields")] | None
    ) = None
    negative_prompt: Prompt | None = None
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None
    guidance_scale: Annotated[float, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0)] | None = None
    seed: Seed | None = None
    width: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=1)] | None = None
    scheduler: Name | None = None
    speed: (
        Annotated[
            Speed,
            Field(
                description="balanced: faster, nearly identical; turbo: few steps, if the model has few-step weights"
            ),
        ]
        | None
    ) = None
    loras: Annotated[list[LoraNamed], Field(max_length=8)] | None = None
    container: Container | None = None
    codec: Name | None = None
    quality: Quality | None = None
    pixel_format: Name | None = None

    def request(self, loras: Sequence[Path], **fields: Any) -> Request:
        """Return the Request of these options and of the `fields` fields; `loras` are the folders of the LoRAs.

        Blocks. Raises RequestError for an unknown LoRA.
        """
        own: dict[str, Any] = {name: getattr(self, name) for name in Choices.model_fields}
        own["loras"] = files_of([(each.name, each.weight) for each in self.loras or []], loras)
        own["model"] = self.model or settings.load().model
        # An integer is a valid rate or scale too.
        for name in ("guidance_scale", "fps"):
            own[name] = None if own[name] is None else float(own[name])
        return Request.of(**own | fields)


class ConditionPlace(Body):
    """Where the film shows the image in the part `condition-N` of the form: at a frame or at a time in seconds."""

    frame: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] | None = None
    time: Annotated[float, Field(ge=0)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0


class Soundtrack(Body):
    """The sound of a film; a file is the part `audio` of a form."""

    audio: Annotated[Literal["none"], Field(description="none: no sound, even if the model makes it")] | None = None
    audio_fit: (
        Annotated[
            AudioFit,
            Field(description="pad: silence after a shorter sound; trim: also cut a longer one; loop: repeat it"),
        ]
        | None
    ) = None
    audio_fade: Annotated[float, Field(ge=0, le=60, description="Seconds of fade of the uploaded sound")] | None = None

    def sound(self, track: str | None = None) -> dict[str, Any]:
        """Return the fields of the Request for the sound; `track` is the path of the uploaded file."""
        fade = None if self.audio_fade is None else float(self.audio_fade)
        return {"audio": track or self.audio, "audio_fit": self.audio_fit, "audio_fade": fade}


class Film(Choices, Soundtrack):
    """The options of a film. A field that is left out uses the model's default."""

    prompt: Prompt
    num_frames: Annotated[int, Field(ge=1)] | None = None
    prompt_at: Annotated[list[Turn], Field(max_length=64)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    conditions: Annotated[list[ConditionPlace], Field(max_length=GUIDES)] | None = None
    control: Annotated[Control, Field(description="edges: compute the edges of the part control_video")] | None = None
    latent_upsample: (
        Annotated[
            LatentUpsample,
            Field(
                description="plain: make the film at half its size and double its latents; refine: in a few more steps"
            ),
        ]
        | None
    ) = None
    polish: PolishOption | None = None

    def request(self, loras: Sequence[Path], **fields: Any) -> Request:
        """Return the Request of these fields and of the `fields` files and changes."""
        own: dict[str, Any] = {"prompt": self.prompt, "num_frames": self.num_frames}
        own["prompt_at"] = None if self.prompt_at is None else tuple(self.prompt_at)
        own["strength"] = None if self.strength is None else float(self.strength)
        own |= {"control": self.control, "latent_upsample": self.latent_upsample}
        if self.conditions and "conditions" not in fields:
            limit = "need a file for each of them"
            raise RequestError(
                "conditions", len(self.conditions), limit, "send them in a form to /api/v1/jobs or drafts"
            )
        return super().request(loras, **own | self.sound() | fields)

    def files(self, kept: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields of the Request for stored input files; `kept` maps the part of each to its path.

        Raises RequestError for a condition without its file, and for a file without its condition.
        """
        found: dict[str, Any] = {name: path for name, path in kept.items() if "-" not in name}
        references = [path for name, path in sorted(kept.items()) if name.startswith("reference-")]
        places = self.conditions or []
        parts = [f"condition-{number}" for number in range(len(places))]
        for name in parts:
            if name not in kept:
                raise RequestError(name, "", "is missing from the form", "send the image of this condition")
        for name in kept:
            if name.startswith("condition-") and name not in parts:
                limit = f"has no place: `conditions` has {len(places)} entries"
                raise RequestError(name, "", limit, 'add for example {"frame": 24}')
        if places:
            found["conditions"] = tuple(
                Condition(image=kept[part], frame=each.frame, time=each.time, strength=each.strength)
                for part, each in zip(parts, places, strict=True)
            )
        return found | ({"reference_images": tuple(references)} if references else {})

    def polish_options(self) -> PolishOptions | None:
        """Return the polish options that are set."""
        if self.polish is None:
            return None
        named = {name: value for name, value in self.polish.model_dump().items() if value is not None}
        return cast(PolishOptions, named) or None


class EstimateRequest(Film):
    """A film to estimate."""

    precision: Precision = "auto"

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class Wait(Body):
    """How a job waits. A higher `priority` runs first; more than 0 needs the scope admin.

    `expires_in` is the longest time in the queue, in seconds.
    """

    priority: Priority = 0
    expires_in: Annotated[float, Field(gt=0, le=MAX_WAIT)] | None = None

    def extra(self, is_admin: bool) -> dict[str, Any]:
        """Return these options as fields of a Job created now. Raises RequestError for a priority that is not
        allowed."""
        expires = 0.0 if self.expires_in is None else time.time() + self.expires_in
        return {"priority": allowed(self.priority, is_admin), "expires_at": expires}


class Effort(Wait):
    """How a job waits and runs. A higher `priority` runs first; more than 0 needs the scope admin.

    `expires_in` is the longest time in the queue, in seconds.
    """

    precision: Precision = "auto"

    def extra(self, is_admin: bool) -> dict[str, Any]:
        """Return these options as fields of a Job created now. Raises RequestError for a priority that is not
        allowed."""
        return super().extra(is_admin) | {"precision": self.precision}


class Work(Effort, Film):
    """A film, and how its job waits and runs. A higher `priority` runs first; more than 0 needs the scope admin.

    `expires_in` is the longest time in the queue, in seconds.
    """


class JobRequest(Work):
    """A job. `until` is the share of the steps after which a draft stops."""

    kind: Literal["film", "picture", "draft"] | None = None
    until: Until | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class DraftsRequest(Work):
    """Drafts of one film with different seeds: a number of them from `seed` on, or a list of seeds."""

    seeds: Seeds
    until: Until = 0.4

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE | {"seeds": 8, "until": 0.4}]})


class SequenceRequest(Effort, Choices, Soundtrack):
    """A sequence: `frames_per` frames for each of `prompts`, 2 to 10,000 frames in all.

    `drift` is how far the noise moves between two prompts. `feedback` is how much each image is made from the one
    before it, 0 for not at all.
    """

    prompts: Annotated[list[Prompt], Field(min_length=1, max_length=PROMPTS)]
    frames_per: Annotated[int, Field(ge=1, le=FRAMES)] = FRAMES_PER
    drift: Annotated[float, Field(ge=0, le=1)] = DRIFT
    feedback: Annotated[float, Field(ge=0, le=1)] = 0.0

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompts": ["a red circle on a blue background", "a yellow square on a green background"], "seed": 7}
            ]
        }
    )


class FinishRequest(Wait):
    """The drafts to finish, and how the new jobs wait."""

    ids: Annotated[list[JobId], Field(min_length=1, max_length=MAX_DRAFTS)]


class RepeatRequest(Body):
    """The changes to a repeated job. Without `seed` the seed stays the same; null draws a new one."""

    seed: Seed | None = None
    prompt: Prompt | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [{"seed": None}]})


class ReorderRequest(Body):
    """The queued job before which this one is moved, or null for the last place."""

    before: JobId | None


class FavouriteRequest(Body):
    """Whether the job is a favourite."""

    favourite: Annotated[bool, Field(examples=[True])]


class PriorityRequest(Body):
    """The new priority. A higher one runs first; more than 0 needs the scope admin."""

    priority: Priority


B = TypeVar("B", bound=BaseModel)


def validated(kind: type[B], fields: dict[str, Any], what: str) -> B:
    """Validate the fields of a body. Raises RequestError for the first wrong field."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise refused(error, what) from None


def allowed(priority: int, is_admin: bool) -> int:
    """Return a priority if the caller may use it. Raises RequestError."""
    if priority > 0 and not is_admin:
        raise RequestError("priority", priority, "must be 0 or less without the scope admin", "leave it out")
    return priority


async def received(body: Sent, kind: type[B], what: str, parts: Collection[str]) -> tuple[B, dict[str, UploadFile]]:
    """Return the fields of a body, which are JSON or the part `request` of a form, and its files in `parts`.

    Raises RequestError for the first wrong field, and for parts with other names.
    """
    if body.typed:
        return validated(kind, body.fields, what), {}
    fields, files = await request_of(body, parts)
    if fields is None:
        raise RequestError("request", "", "missing from the form", f"send the {what} as JSON in this part")
    return validated(kind, fields, what), files
