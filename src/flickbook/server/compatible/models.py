"""/v1/models: the models whose files are on this machine, their limits, and their names in requests.

The setting `aliases` maps model names of other services, such as `sora-2`, to models of this one.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from flickbook.catalogue import Model, Real, Whole, find
from flickbook.catalogue import list_models as catalogued
from flickbook.errors import ModelNotFound
from flickbook.hub.find import directory, found
from flickbook.server.access.dependencies import Reader
from flickbook.server.compatible.fields import GenerationFields, sides_of
from flickbook.server.compatible.responses import refusals
from flickbook.server.service import service_of

router = APIRouter(prefix="/v1/models", tags=["models"])
_Fields = TypeVar("_Fields", bound=GenerationFields)


class Numbers(BaseModel):
    """The range of a number, both ends included; `every` is the distance between two valid values."""

    smallest: float
    largest: float
    default: float
    every: int | None = None


class SidesShown(BaseModel):
    """The range of width and height in pixels, beside the native sizes."""

    smallest: int
    largest: int
    multiple: int


class ModelShown(BaseModel):
    """A model in the form of the OpenAI API, with further facts of Flickbook's catalogue."""

    id: Annotated[str, Field(examples=["builtin"])]
    object: Literal["model"] = "model"
    created: Annotated[int, Field(description="When its files were downloaded.")]
    owned_by: str
    title: str
    summary: str
    licence: str
    inputs: list[str]
    accepts: list[str]
    default: bool
    sizes: Annotated[list[str], Field(examples=[["128x128"]])]
    sides: SidesShown | None = None
    num_frames: Numbers
    num_inference_steps: Numbers
    guidance_scale: Numbers
    fps: Numbers
    schedulers: list[str]


class ModelList(BaseModel):
    """The models on this machine."""

    object: Literal["list"] = "list"
    data: list[ModelShown]


@router.get("", response_model_exclude_none=True, responses=refusals())
async def list_models(request: Request, caller: Reader) -> ModelList:
    """List the models on this machine. The default model is the first."""
    usual = service_of(request).settings.model

    def shown() -> list[ModelShown]:
        return [_shown(model, usual) for model in here().values()]

    found = await asyncio.to_thread(shown)
    return ModelList(data=sorted(found, key=lambda model: not model.default))


@router.get("/{model}", response_model_exclude_none=True, responses=refusals(404))
async def retrieve_model(request: Request, model: str, caller: Reader) -> ModelShown:
    """Get a model."""
    usual = service_of(request).settings.model
    return await asyncio.to_thread(_retrieved, model, usual)


def _retrieved(name: str, usual: str) -> ModelShown:
    model = model_of(name, usual)
    if found(model) is None:
        raise ModelNotFound(name, list(here())[:8])
    return _shown(model, usual)


def _shown(model: Model, usual: str) -> ModelShown:
    try:
        created = int(os.stat(directory(model)).st_mtime)
    except OSError:  # deleted a moment ago
        created = 0
    return ModelShown(
        id=model.name,
        created=created,
        owned_by=model.repo.partition("/")[0] or "flickbook",
        title=model.title,
        summary=model.summary,
        licence=model.licence,
        inputs=list(model.inputs),
        accepts=list(model.accepts),
        default=model.name == usual,
        sizes=[f"{width}x{height}" for width, height in model.sizes],
        sides=None
        if model.sides is None
        else SidesShown(smallest=model.sides.range[0], largest=model.sides.range[1], multiple=model.sides.multiple),
        num_frames=_numbers(model.num_frames),
        num_inference_steps=_numbers(model.num_inference_steps),
        guidance_scale=_numbers(model.guidance_scale),
        fps=_numbers(model.fps),
        schedulers=list(model.schedulers),
    )


def _numbers(allowed: Whole | Real) -> Numbers:
    smallest, largest = allowed.range
    every = allowed.every if isinstance(allowed, Whole) else None
    return Numbers(smallest=smallest, largest=largest, default=allowed.default, every=every)


def here() -> dict[str, Model]:
    """Return the models whose files are on this machine, by name. Blocks."""
    return {model.name: model for model in catalogued() if found(model)}


def model_of(name: str | None, usual: str) -> Model:
    """Return the requested model or the default one; its files may have to be downloaded.

    Blocks. Raises ModelNotFound, which names the models on this machine.
    """
    try:
        return find(name or usual)
    except ModelNotFound:
        raise ModelNotFound(name or usual, list(here())[:8]) from None


def substituted(fields: _Fields, aliases: Mapping[str, str]) -> tuple[_Fields, dict[str, str]]:
    """Replace an alias by its model, and a size that this model does not make by its nearest native size.

    Returns the fields, and the values of the request that were replaced; both unchanged and empty for other names. It
    blocks. Raises ModelNotFound for an alias of an unknown model.
    """
    name = aliases.get(fields.model or "")
    if name is None:
        return fields, {}
    model = model_of(name, name)
    replaced = {"model": fields.model or ""}
    update: dict[str, object] = {"model": model.name}
    width, height = sides_of(fields)
    if width is not None and height is not None and not _makes(model, width, height):
        replaced["size"] = f"{width}x{height}"
        update |= {"size": "x".join(map(str, _nearest(model, width, height))), "width": None, "height": None}
    return fields.model_copy(update=update), replaced


def _makes(model: Model, width: int, height: int) -> bool:
    if (width, height) in model.sizes:
        return True
    if model.sides is None:
        return False
    low, high = model.sides.range
    return all(low <= side <= high and side % model.sides.multiple == 0 for side in (width, height))


def _nearest(model: Model, width: int, height: int) -> tuple[int, int]:
    """The native size of the nearest aspect ratio; of several the nearest in area."""

    def distance(size: tuple[int, int]) -> tuple[float, float]:
        aspect = math.log(size[0] / size[1]) - math.log(width / height)
        return abs(aspect), abs(math.log(size[0] * size[1]) - math.log(width * height))

    return min(model.sizes, key=distance)
