"""The fields of the tools. Those of films are the fields of the native API."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from flickbook.engine.shots.shot_list import SHOTS
from flickbook.server.api.requests import (
    GUIDES,
    MAX_DRAFTS,
    Body,
    JobId,
    PolishOption,
    Prompt,
    Seed,
    Seeds,
    Until,
    Work,
)
from flickbook.server.api.shots import ShotsRequest
from flickbook.server.service import MAX_BODY
from flickbook.store.base import Kind, State

#: The most films of one contact sheet, and the longest time that a call waits, in seconds.
MAX_LOOKED: Final = 16
MAX_WAIT: Final = 600.0

Ids = Annotated[list[JobId], Field(min_length=1, max_length=MAX_DRAFTS, description="Ids of jobs.")]
Id = Annotated[JobId, Field(description="Id of the job that made the film.")]
_PLACE: Final = "data:image/png;base64,… or a file below --root."
Image = Annotated[str, Field(max_length=MAX_BODY)]
Images = Annotated[list[Image], Field(max_length=GUIDES)]
Video = Annotated[str, Field(max_length=4096, description="In place of id: a film below --root.")]
Seconds = Annotated[
    float, Field(gt=0, le=9999, description="Length of the film in seconds, instead of num_frames. The nearest fits.")
]

#: Descriptions of fields that the native API leaves to its pages.
_DESCRIPTIONS: Final = {
    "prompt": "What the film shows.",
    "model": "Name of a model of list_models.",
    "negative_prompt": "What the film must not show.",
    "num_frames": "Number of frames; list_models has the range.",
    "num_inference_steps": "Number of denoising steps: more are slower and better.",
    "guidance_scale": "How closely the film follows the prompt.",
    "fps": "Frames per second.",
    "seed": "Equal requests with equal seeds make equal films.",
    "width": "Width in pixels.",
    "height": "Height in pixels.",
    "scheduler": "Name of a scheduler of the model.",
    "loras": "LoRAs of this machine by name.",
    "container": "File format.",
    "codec": "Video codec.",
    "quality": "Quality of the encoding: 0 to 100, or lossless.",
    "pixel_format": "Pixel format of the video.",
    "prompt_at": "Later prompts, each with the frame at which it begins.",
    "conditions": "Frames or times at which the film shows an image; see condition_images.",
    "control": "edges follows the edges of control_video.",
    "latent_upsample": "Make the film at half its size and double its latents: plain, or refine in a few more steps.",
    "frame": "Frame at which the image is shown; negative ones count from the end.",
    "time": "Seconds at which the image is shown.",
    "defaults": "Fields of all shots.",
    "subjects": "Words for {name} in the prompts.",
    "fade": "Frames of each cross-fade.",
    "strength": "How much of the input is made anew, above 0 to 1.",
    "polish": "Operations on the finished frames.",
    "priority": "A higher one runs first; more than 0 needs the scope admin.",
    "expires_in": "Longest time in the queue, in seconds.",
    "precision": "Precision of the weights.",
    "until": "Share of the steps after which a draft stops.",
    "name": "Name of the LoRA.",
    "weight": "Its weight.",
}
_OF_POLISH: Final = {
    "camera": "Camera move over the finished frames.",
    "trim": "Frames or seconds to keep, as 8:24f or 0.5:2.",
    "steady": "How much of the shake is removed, 0 to 1.",
    "interpolate": "Factor by which the frame rate is raised.",
    "upscale": "Factor by which the frames are enlarged.",
    "loop": "How the end is joined to the beginning.",
    "speed": "Factor by which the film runs faster.",
    "rate": "Frames per second of the finished film.",
    "text": "A caption.",
}


class ListModels(Body):
    """Which models to list."""

    here: Annotated[bool, Field(description="Only models whose files are on this machine.")] = False


class Once(Body):
    """A call that may be repeated."""

    idempotency_key: (
        Annotated[
            str,
            Field(
                pattern=r"^[\x21-\x7e]{1,255}$",
                description="Calls of this tool with the same key and fields create the jobs once.",
            ),
        ]
        | None
    ) = None


class Guided(Body):
    """The input files of a film."""

    image: Annotated[Image, Field(description=f"First frame: {_PLACE}")] | None = None
    video: Annotated[str, Field(description="A film below --root that the new one starts from.")] | None = None
    last_image: Annotated[Image, Field(description=f"Last frame: {_PLACE}")] | None = None
    condition_images: Annotated[Images, Field(description=f"One for each of conditions: {_PLACE}")] = []
    reference_images: Annotated[Images, Field(description=f"Subjects that the film shows: {_PLACE}")] = []
    control_video: Annotated[str, Field(description="A film below --root whose motion is followed.")] | None = None
    face_video: Annotated[str, Field(description="A film of the face that control_video moves.")] | None = None
    mask: (
        Annotated[Image, Field(description=f"White where video is made anew, black where it stays: {_PLACE}")] | None
    ) = None
    track: Annotated[str, Field(description="Sound under the film: a file below --root.")] | None = None
    seconds: Seconds | None = None

    def inputs(self) -> dict[str, str]:
        """Return the input files by the names that the native API has for them."""
        names = ("image", "video", "last_image", "control_video", "face_video", "mask")
        found = {name: text for name in names if (text := getattr(self, name)) is not None}
        if self.track is not None:
            found["audio"] = self.track
        for name, texts in (("condition", self.condition_images), ("reference", self.reference_images)):
            found |= {f"{name}-{number}": text for number, text in enumerate(texts)}
        return found


class MakeFilm(Work, Guided, Once):
    """A film to make. A field that is left out uses the model's default."""

    kind: Annotated[Literal["film", "picture"], Field(description="picture for a single image.")] | None = None


class MakeShots(ShotsRequest, Once):
    """A film of several shots."""

    shots: Annotated[
        list[dict[str, Any]],
        Field(
            min_length=1,
            max_length=SHOTS,
            description="The shots in their order. Each has a prompt, seconds or num_frames, and may have other fields "
            "of make_film, camera (as zoom-in), and begins: previous, to begin from the last frame before it.",
        ),
    ]
    images: Annotated[
        dict[str, Image],
        Field(description=f"Pictures by shot, as shot-1-image or shot-2-last_image: {_PLACE}"),
    ] = {}
    track: Annotated[str, Field(description="Sound under the whole film: a file below --root.")] | None = None


class DraftFilms(Work, Guided, Once):
    """Drafts of one film."""

    seeds: Annotated[Seeds, Field(description="Number of drafts, or the list of their seeds.")] = 4
    until: Until = 0.4


class FinishDrafts(Once):
    """Drafts to finish."""

    ids: Annotated[list[JobId], Field(min_length=1, max_length=MAX_DRAFTS, description="Ids of completed drafts.")]


class RemakeFilm(Once):
    """A film to make again with changes."""

    id: Id
    prompt: Prompt | None = None
    seed: Seed | None = None
    new_seed: Annotated[bool, Field(description="Draw a new seed. Left out, the seed stays the same.")] = False
    polish: PolishOption | None = None


class EditFilm(Once):
    """A film to change by a prompt. Options that are left out take the model's defaults."""

    id: Id | None = None
    video: Video | None = None
    prompt: Prompt
    model: Annotated[str, Field(max_length=200)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None
    seed: Seed | None = None


class ExtendFilm(Once):
    """A film to continue. Options that are left out are those of the film."""

    id: Id | None = None
    video: Video | None = None
    prompt: Prompt
    num_frames: Annotated[int, Field(ge=2, description="Number of new frames.")] | None = None
    seconds: Annotated[float, Field(gt=0, le=9999, description="Length of the new part.")] | None = None
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None
    seed: Seed | None = None


class Look(Body):
    """Films to look at."""

    ids: Annotated[list[JobId], Field(min_length=1, max_length=MAX_LOOKED, description="One row each, in this order.")]


class Choose(Body):
    """Films to mark as favourites, or not."""

    ids: Ids
    favourite: Annotated[bool, Field(description="false removes the mark.")] = True


class SearchFilms(Body):
    """A search among the jobs."""

    text: Annotated[str, Field(max_length=200, description="Only films whose prompt contains this text.")] = ""
    kinds: Annotated[list[Kind], Field(max_length=6, description="Only jobs of these kinds.")] = []
    states: Annotated[list[State], Field(max_length=7, description="Only jobs in one of these states.")] = []
    favourite: Annotated[bool, Field(description="Only favourites.")] = False
    limit: Annotated[int, Field(ge=1, le=100, description="Most films of one answer.")] = 20
    after: Annotated[JobId, Field(description="Last id of the previous answer.")] | None = None


class ShowJobs(Body):
    """Jobs to show."""

    ids: Ids


class WaitForFilms(Body):
    """Jobs to wait for."""

    ids: Ids
    seconds: Annotated[float, Field(gt=0, le=MAX_WAIT, description="Longest time to wait.")] = 60.0


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model in few words, in which every field has a description.

    Fields that may be left out are described without null, which means the same.
    """
    schema = model.model_json_schema()
    for named in (schema, *schema.get("$defs", {}).values()):
        named.pop("examples", None)
        for name, field in named.get("properties", {}).items():
            described = _OF_POLISH.get(name) if named["title"] == PolishOption.__name__ else None
            _plain(field, described or _DESCRIPTIONS.get(name))
    return schema


def _plain(field: dict[str, Any], described: str | None) -> None:
    """Make the schema of one field short, and describe it as `described` if it is not described yet."""
    field.pop("title", None)
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) < len(field.get("anyOf", ())):
        field.pop("default", None)
        if len(kinds) == 1:
            del field["anyOf"]
            field |= {**kinds[0], **field}
        else:
            field["anyOf"] = kinds
    if described is not None:
        field.setdefault("description", described)
