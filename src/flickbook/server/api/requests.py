"""What the bodies of /api/v1 may hold: the fields of a Request and the wishes of a Polish by their names, no paths."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flickbook import settings
from flickbook.engine.polish import PolishOptions
from flickbook.engine.sequences.sequence import DRIFT, FRAMES, FRAMES_PER, PROMPTS
from flickbook.errors import RequestError
from flickbook.resolution import PROMPT_CHARACTERS, SEED_LIMIT
from flickbook.server.api.loras import files_of
from flickbook.spec import Loop, Preset, Quality, Request, Speed, refused

#: The longest that a job may wait, in seconds.
MAX_WAIT: Final = 30 * 86_400.0
#: Drafts of one request.
MAX_DRAFTS: Final = 64
#: Numbered frames are many files, and an answer is one.
Container = Literal["mp4", "webm", "mkv", "gif", "webp", "apng", "png", "jpg", "avif"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8", "int8"]
Prompt = Annotated[str, Field(max_length=PROMPT_CHARACTERS)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
#: JSON has no tuples; what is in them stays strict.
Turn = Annotated[tuple[Annotated[int, Field(ge=1)], Prompt], Field(strict=False)]
Until = Annotated[float, Field(gt=0, lt=1)]
Priority = Annotated[int, Field(ge=-100, le=100)]
JobId = Annotated[str, Field(max_length=64, examples=["job_06fzk2m3n4p5q6r7s8t9v0w1x2"])]
EXAMPLE: Final[dict[str, Any]] = {"prompt": "a red circle moving left on a blue background", "seed": 7}


class Body(BaseModel):
    """A JSON object: unknown fields are refused, and "16" is not 16."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PolishOption(Body):
    """What is done to the frames once they are made; see the page on finishing films."""

    trim: Annotated[str, Field(max_length=40, examples=["8:24f"])] | None = None
    steady: Annotated[float, Field(ge=0, le=1)] | None = None
    interpolate: Annotated[int, Field(ge=2, le=8)] | Annotated[str, Field(max_length=4, examples=["2x"])] | None = None
    upscale: Annotated[int, Field(ge=2, le=4)] | Annotated[str, Field(max_length=4, examples=["2x"])] | None = None
    loop: Loop | None = None
    speed: Annotated[float, Field(gt=0)] | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    text: Annotated[str, Field(max_length=200)] | None = None


class LoraNamed(Body):
    """A LoRA of the service by its name, and how much of it is added."""

    name: Annotated[str, Field(max_length=200, examples=["ink"])]
    weight: Annotated[float, Field(ge=-10, le=10)] = 1.0


class Choices(Body):
    """What may be chosen of a film, however its frames come about. What is left out is the model's choice."""

    model: Name | None = None
    preset: (
        Annotated[Preset, Field(description="recommended: the model's recommended settings, where unset")] | None
    ) = None
    negative_prompt: Prompt | None = None
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None
    guidance_scale: Annotated[float, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0)] | None = None
    seed: Seed | None = None
    width: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=1)] | None = None
    scheduler: Name | None = None
    speed: Annotated[Speed, Field(description="balanced: have it sooner, nearly the same")] | None = None
    loras: Annotated[list[LoraNamed], Field(max_length=8)] | None = None
    container: Container | None = None
    codec: Name | None = None
    quality: Quality | None = None
    pixel_format: Name | None = None

    def request(self, loras: Path, **given: Any) -> Request:
        """The Request of these choices, and of what else is `given`; `loras` is where its LoRAs are.

        It blocks. Raises RequestError for a LoRA that is not there.
        """
        own: dict[str, Any] = {name: getattr(self, name) for name in Choices.model_fields}
        own["loras"] = files_of([(each.name, each.weight) for each in self.loras or []], loras)
        own["model"] = self.model or settings.load().model
        # A whole number is a number of frames a second too.
        for name in ("guidance_scale", "fps"):
            own[name] = None if own[name] is None else float(own[name])
        return Request.of(**own | given)


class Film(Choices):
    """What a film is asked to be. What is left out is the model's choice."""

    prompt: Prompt
    num_frames: Annotated[int, Field(ge=1)] | None = None
    prompt_at: Annotated[list[Turn], Field(max_length=64)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    polish: PolishOption | None = None

    def request(self, loras: Path, **given: Any) -> Request:
        """The Request of these fields, and of the files and changes that are `given`."""
        own: dict[str, Any] = {"prompt": self.prompt, "num_frames": self.num_frames}
        own["prompt_at"] = None if self.prompt_at is None else tuple(self.prompt_at)
        own["strength"] = None if self.strength is None else float(self.strength)
        return super().request(loras, **own | given)

    def polish_options(self) -> PolishOptions | None:
        """The wishes that are not None."""
        if self.polish is None:
            return None
        named = {name: value for name, value in self.polish.model_dump().items() if value is not None}
        return cast(PolishOptions, named) or None


class EstimateRequest(Film):
    """A film that may be asked for, on which this machine is judged."""

    precision: Precision = "auto"

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class Wait(Body):
    """How something waits. A higher `priority` comes first; more than 0 takes the scope admin.

    `expires_in` is how many seconds it may wait.
    """

    priority: Priority = 0
    expires_in: Annotated[float, Field(gt=0, le=MAX_WAIT)] | None = None

    def extra(self, is_admin: bool) -> dict[str, Any]:
        """The fields of a Job that these are, asked for now. Raises RequestError for a priority."""
        expires = 0.0 if self.expires_in is None else time.time() + self.expires_in
        return {"priority": allowed(self.priority, is_admin), "expires_at": expires}


class Effort(Wait):
    """How something waits and is worked on. A higher `priority` comes first; more than 0 takes the scope admin.

    `expires_in` is how many seconds it may wait.
    """

    precision: Precision = "auto"

    def extra(self, is_admin: bool) -> dict[str, Any]:
        """The fields of a Job that these are, asked for now. Raises RequestError for a priority."""
        return super().extra(is_admin) | {"precision": self.precision}


class Work(Effort, Film):
    """A film and how it is worked on. A higher `priority` comes first; more than 0 takes the scope admin.

    `expires_in` is how many seconds it may wait.
    """


class JobRequest(Work):
    """A job. `until` is the share of its steps after which a draft stops."""

    kind: Literal["film", "picture", "draft"] | None = None
    until: Until | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class DraftsRequest(Work):
    """Drafts of one film that differ in their seed: so many from `seed` on, or one for each that is listed."""

    seeds: (
        Annotated[int, Field(ge=1, le=MAX_DRAFTS)] | Annotated[list[Seed], Field(min_length=1, max_length=MAX_DRAFTS)]
    )
    until: Until = 0.4

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE | {"seeds": 8, "until": 0.4}]})


class SequenceRequest(Effort, Choices):
    """A sequence: `frames_per` frames for each of `prompts`, 2 to 10,000 in all.

    `drift` is how far the noise travels between two prompts, `feedback` how much of each picture is made anew over the
    one before it, 0 for none.
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
    """Drafts to go on from, and how the rest waits."""

    ids: Annotated[list[JobId], Field(min_length=1, max_length=MAX_DRAFTS)]


class RepeatRequest(Body):
    """What is other than it was. A `seed` that is left out is the same one, and one of null is drawn."""

    seed: Seed | None = None
    prompt: Prompt | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [{"seed": None}]})


class ReorderRequest(Body):
    """The waiting job in front of which another goes, or null for the last place."""

    before: JobId | None


class FavouriteRequest(Body):
    """Whether a job is a favourite from now on."""

    favourite: Annotated[bool, Field(examples=[True])]


class PriorityRequest(Body):
    """A priority, the higher the sooner; more than 0 takes the scope admin."""

    priority: Priority


B = TypeVar("B", bound=BaseModel)


def validated(kind: type[B], fields: dict[str, Any], what: str) -> B:
    """The body of these fields. Raises RequestError for the first that is wrong."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise refused(error, what) from None


def allowed(priority: int, is_admin: bool) -> int:
    """A priority that a caller may ask for. Raises RequestError."""
    if priority > 0 and not is_admin:
        raise RequestError("priority", priority, "must be 0 or less without the scope admin", "leave it out")
    return priority
