"""The fields shared by OpenAI's API, SGLang and vLLM-Omni, and whether each is used, ignored or refused.

Fields that describe the result are used. Fields without a meaning here are ignored if that breaks no promise, and the
response lists them. Fields that name a file or a URL are refused, as are unknown fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from flickbook.catalogue import Model
from flickbook.engine.polish import PolishOptions
from flickbook.errors import RequestError
from flickbook.formats import quality_of
from flickbook.resolution import nearest_frames
from flickbook.server.api.loras import files_of
from flickbook.server.submission.forms import Body, from_json
from flickbook.spec import NO_AUDIO, AudioFit, Container, Request, Speed

#: Accepted and validated, but without effect.
IGNORED: Final = (
    *("user", "safety_identifier", "moderation", "style", "complexity", "background"),
    *("generator_device", "max_sequence_length", "guidance_scale_2", "true_cfg_scale", "flow_shift", "boundary_ratio"),
    "frame_interpolation_scale",
)
#: Fields that name a file or a URL; none is ever opened.
REFUSED: Final = (
    *("frame_interpolation_model_path", "upscaling_model_path", "reference_url", "reference_path", "image_path"),
    *("video_path", "video_url", "video_reference", "lora_path", "lora_url", "output_path", "model_path"),
)
#: Objects whose entries count as top-level fields.
_HOLDERS: Final = ("extra_body", "extra_params", "diffusers_kwargs")
_UNOPENED: Final = ("is a path or URL, which the service never opens", "send the file itself, or leave it out")
_QUALITIES: Final = {"maximum": 100, "high": 85, "medium": 65, "low": 45, "default": None}
_SIZE: Final = re.compile(r"([0-9]{1,5})[xX]([0-9]{1,5})")
#: Fields of a Request or a Polish, and the names under which they may have been sent.
_SENT_AS: Final = {
    "width": ("size",),
    "height": ("size",),
    "quality": ("quality", "output_compression", "output_quality"),
    "fps": ("frame_duration_ms",),
    "num_frames": ("frame_count",),
    "interpolate": ("frame_interpolation_exp", "enable_frame_interpolation"),
    "upscale": ("upscaling_scale", "enable_upscaling"),
}
_SECONDS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
_MAX_SECONDS: Final = 3600.0


def _seconds(value: object) -> object:
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        return float(value)
    if isinstance(value, str | bool):
        raise ValueError('must be seconds, as "2" or 1.5')
    return value


def _quality(value: object) -> object:
    if isinstance(value, str):
        return quality_of(value)
    return value


def _picture(value: object) -> object:
    """Return the URL in {"image_url": …}, which may be sent as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        value = from_json(value)
    if isinstance(value, dict):
        if list(value) != ["image_url"]:
            raise ValueError('must be {"image_url": "data:…"}')
        return value["image_url"]
    return value


def _video(value: object) -> object:
    """Return the id in {"id": …}."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        value = from_json(value)
    if isinstance(value, dict) and list(value) == ["id"]:
        return value["id"]
    raise ValueError('must be a file, or {"id": "video_…"}')


def _lora(value: object) -> object:
    return from_json(value) if isinstance(value, str) else value


_DATA_URL: Final = {"type": "string", "pattern": "^data:image/", "description": "An image as a data: URL."}
_REFERENCE: Final = {
    "type": "object",
    "properties": {"image_url": _DATA_URL},
    "required": ["image_url"],
    "additionalProperties": False,
}
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, le=_MAX_SECONDS),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,4}(\.[0-9]{1,3})?$"},
                {"type": "number", "exclusiveMinimum": 0, "maximum": _MAX_SECONDS},
            ]
        }
    ),
]
Degree = Annotated[
    int | Literal["lossless"],
    BeforeValidator(_quality),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 100}, {"const": "lossless"}]}),
]
Picture = Annotated[str, BeforeValidator(_picture), WithJsonSchema({"anyOf": [_REFERENCE, _DATA_URL]})]
VideoId = Annotated[
    str,
    BeforeValidator(_video),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "required": ["id"],
            "additionalProperties": False,
        }
    ),
]
Prompt = Annotated[str, Field(json_schema_extra={"maxLength": 2000}, examples=["a red circle moving left"])]
One = Annotated[int, Field(ge=1, le=1, description="Only 1.")]


class Fields(BaseModel):
    """Fields of a body. Unknown fields are refused; null means unset."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LoraRequest(Fields):
    """A LoRA by its file name in the service's folder of LoRAs."""

    name: Annotated[str, Field(max_length=200)]
    scale: Annotated[float, Field(ge=-10, le=10)] = 1.0
    int_id: int | None = None


class GenerationFields(Fields):
    """The fields common to all requests that create a film or an image."""

    prompt: Prompt
    model: Annotated[str, Field(max_length=200, examples=["builtin"])] | None = None
    size: Annotated[str, Field(pattern=r"^([0-9]{1,5}[xX][0-9]{1,5}|auto|)$", examples=["128x128"])] | None = None
    width: Annotated[int, Field(ge=1, le=99999)] | None = None
    height: Annotated[int, Field(ge=1, le=99999)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=10000, examples=[25])] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=1000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63, examples=[7])] | None = None
    negative_prompt: str | None = None
    scheduler: Annotated[str, Field(max_length=64)] | None = None
    codec: Annotated[str, Field(max_length=64)] | None = None
    pixel_format: Annotated[str, Field(max_length=64)] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    output_quality: Literal["maximum", "high", "medium", "low", "default"] | None = None
    enable_upscaling: bool | None = None
    upscaling_scale: Annotated[int, Field(ge=2, le=4)] | None = None
    lora: Annotated[LoraRequest, BeforeValidator(_lora)] | None = None
    loras: Annotated[list[LoraRequest], Field(max_length=8)] | None = None
    user: str | None = None
    generator_device: str | None = None
    max_sequence_length: int | None = None
    guidance_scale_2: float | None = None
    true_cfg_scale: float | None = None
    flow_shift: float | None = None
    boundary_ratio: float | None = None
    speed: Speed | None = None
    enable_teacache: bool | None = None


class CreateVideo(GenerationFields):
    """The body of POST /v1/videos."""

    seconds: Annotated[Seconds, Field(examples=["2"])] | None = None
    num_frames: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    input_reference: Picture | None = None
    image_reference: Picture | None = None
    image_url: Picture | None = None
    last_image: Picture | None = None
    enable_frame_interpolation: bool | None = None
    frame_interpolation_exp: Annotated[int, Field(ge=1, le=3)] | None = None
    frame_interpolation_scale: Annotated[float, Field(gt=0, le=16)] | None = None
    generate_audio: Annotated[bool, Field(description="false: no sound, even if the model makes it")] | None = None
    audio_fit: AudioFit | None = None
    audio_fade: Annotated[float, Field(ge=0, le=60)] | None = None
    container: Literal["mp4", "webm", "mkv", "gif", "webp", "apng"] | None = None
    quality: Degree | None = None
    n: One | None = None
    num_outputs_per_prompt: One | None = None

    @property
    def picture(self) -> tuple[str, str] | None:
        """Return the field and the data: URL of the input image. Raises RequestError if there are several."""
        names = ("input_reference", "image_reference", "image_url")
        sent = [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]
        if len(sent) > 1:
            raise RequestError(sent[1][0], "…", "a film starts from one image", "send one of them")
        return sent[0] if sent else None


class EditVideo(CreateVideo):
    """The body of POST /v1/videos/edits and POST /v1/videos/extensions."""

    video: VideoId | None = None


class RemixVideo(Fields):
    """The body of POST /v1/videos/{id}/remix."""

    prompt: Prompt


class CreateImage(GenerationFields):
    """The body of POST /v1/images/generations."""

    n: Annotated[int, Field(ge=1, le=8)] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp", "gif"] | None = None
    frame_count: Annotated[int, Field(ge=2, le=16)] | None = None
    frame_duration_ms: Annotated[int, Field(ge=20, le=10_000)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    quality: Literal["auto", "standard", "hd", "low", "medium", "high", "xhigh", "max"] | None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto", "low"] | None = None
    style: Literal["vivid", "natural"] | None = None
    complexity: Literal["low", "medium", "high"] | None = None
    safety_identifier: str | None = None


_Fields = TypeVar("_Fields", bound=Fields)


def validated(of: type[_Fields], body: Body) -> _Fields:
    """Validate a body. Raises RequestError that names the first wrong field."""
    fields = dict(body.fields)
    for holder in _HOLDERS:
        held = fields.pop(holder, None)
        if held in (None, ""):
            continue
        more = from_json(held) if isinstance(held, str) else held
        if not isinstance(more, dict):
            raise RequestError(holder, more, "must be an object", 'write for example {"seed": 7}')
        fields = more | fields
    for name in REFUSED:
        if (named := fields.pop(name, None)) not in (None, ""):
            raise RequestError(name, named, *_UNOPENED)
    if not body.typed:
        texts = ("prompt", "negative_prompt")
        fields = {name: value for name, value in fields.items() if value != "" or name in texts}
    try:
        return of.model_validate(fields, strict=body.typed)
    except ValidationError as error:
        raise _refused(error, of) from None


def _refused(error: ValidationError, of: type[Fields]) -> RequestError:
    first = error.errors(include_url=False, include_context=False)[0]
    path = [str(part) for part in first["loc"]]
    # The path of a pydantic error also contains the branch of a union, which is left out.
    known = {"name", "scale", "int_id"} | ({path[-1]} if first["type"] == "extra_forbidden" else set())
    field = ".".join(path[:1] + [part for part in path[1:] if part.isdecimal() or part in known]) or "body"
    if first["type"] == "extra_forbidden":
        if path[-1] in ("path", "local_path", "url"):
            return RequestError(field, first["input"], *_UNOPENED)
        return RequestError(field, first["input"], "no such field", "leave it out, or see docs/openai.md")
    if first["type"] == "missing":
        return RequestError(field, "", "is missing", "add it")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return RequestError(field, first["input"], message[:1].lower() + message[1:], "correct it")


def ignored(fields: GenerationFields) -> list[str]:
    """Return the fields that were sent and have no effect."""
    names = [name for name in IGNORED if getattr(fields, name, None) is not None]
    return [*names, *(["quality"] if isinstance(fields, CreateImage) and fields.quality is not None else [])]


def frames_of(seconds: float | None, num_frames: int | None, fps: float | None, model: Model) -> int | None:
    """Return `num_frames` if set, else the nearest number of frames to `seconds` that the model supports."""
    return num_frames if num_frames is not None or seconds is None else nearest_frames(seconds, fps, model)


def sides_of(fields: GenerationFields) -> tuple[int | None, int | None]:
    """Return the requested width and height; `size` wins."""
    match = _SIZE.fullmatch(fields.size or "")
    return (int(match[1]), int(match[2])) if match is not None else (fields.width, fields.height)


def loras_of(fields: GenerationFields, folders: Sequence[Path]) -> tuple[tuple[str, float], ...] | None:
    """Return the files and weights of the requested LoRAs. Blocks."""
    requested = [*(fields.loras or []), *([fields.lora] if fields.lora is not None else [])]
    return files_of([(each.name, each.scale) for each in requested], folders)


def request_of(fields: GenerationFields, model: Model, loras: Sequence[Path], **more: Any) -> Request:
    """Return the Request; `more` are fields that only the route knows."""
    width, height = sides_of(fields)
    return Request.of(
        **{
            "prompt": fields.prompt,
            "model": model.name,
            "negative_prompt": fields.negative_prompt,
            "num_inference_steps": fields.num_inference_steps,
            "guidance_scale": fields.guidance_scale,
            "seed": fields.seed,
            "width": width,
            "height": height,
            "scheduler": fields.scheduler,
            "codec": fields.codec,
            "pixel_format": fields.pixel_format,
            "quality": fields.output_compression,
            "loras": loras_of(fields, loras),
            # TeaCache is another method with the same purpose: a faster run with a nearly identical result.
            "speed": fields.speed or ("balanced" if fields.enable_teacache else None),
        }
        | more
    )


def film_of(fields: CreateVideo, model: Model, loras: Sequence[Path], **more: Any) -> Request:
    """Return the Request of a film."""
    container: Container = fields.container or "mp4"
    quality = next(
        (each for each in (fields.quality, fields.output_compression) if each is not None),
        _QUALITIES[fields.output_quality or "default"],
    )
    more_fields = {
        "num_frames": frames_of(fields.seconds, fields.num_frames, fields.fps, model),
        "fps": fields.fps,
        "strength": fields.strength,
        "audio": NO_AUDIO if fields.generate_audio is False else None,
        "audio_fit": fields.audio_fit,
        "audio_fade": fields.audio_fade,
        "container": container,
        "quality": quality,
    }
    return request_of(fields, model, loras, **more_fields | more)


def polish_options_of(fields: GenerationFields) -> PolishOptions | None:
    """Return the requested polish options."""
    polish_options = PolishOptions()
    if isinstance(fields, CreateVideo) and fields.enable_frame_interpolation:
        polish_options["interpolate"] = 2 ** (fields.frame_interpolation_exp or 1)
    if fields.enable_upscaling:
        polish_options["upscale"] = fields.upscaling_scale or 4
    return polish_options or None


@contextmanager
def named(fields: GenerationFields) -> Iterator[None]:
    """Rename fields in errors to the names they were sent under: a wrong width that came from `size` is reported as
    `size`."""
    try:
        yield
    except RequestError as error:
        field = next((name for name in _SENT_AS.get(error.field or "", ()) if getattr(fields, name, None)), None)
        if field is None or type(error) is not RequestError:
            raise
        raise RequestError(field, getattr(fields, field), error.limit, error.remedy) from None
