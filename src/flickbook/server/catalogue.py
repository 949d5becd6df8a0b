"""The models over HTTP, this machine, and whether a film fits it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.engine.estimate import Estimate
from flickbook.engine.films import foresee
from flickbook.engine.machine import Machine
from flickbook.engine.polish import asked, finished
from flickbook.hub.find import found
from flickbook.resolution import resolve
from flickbook.server.asked import EstimateAsked
from flickbook.server.errors import refusals
from flickbook.server.guard import changer, reader
from flickbook.server.service import Caller, service_of
from flickbook.server.told import ROOT
from flickbook.spec import Plan

Reader = Annotated[Caller, Depends(reader)]
Changer = Annotated[Caller, Depends(changer)]
router = APIRouter(tags=["models"])


class ModelTold(Model):
    """A model as the catalogue has it; `here` is whether its files are on this machine, `fixed` what names them."""

    here: bool
    fixed: str


class Models(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelTold]


@dataclass(frozen=True)
class EstimateTold(Estimate):
    """What a film takes of this machine, in bytes and seconds, before a weight is loaded, and the Plan of it."""

    plan: Plan


def _told(model: Model) -> ModelTold:
    fields = {name: getattr(model, name) for name in Model.model_fields if name != "directory"}
    return ModelTold.model_construct(**fields, directory="", here=found(model) is not None, fixed=model.revision())


@router.get(f"{ROOT}/models", operation_id="list_models", responses=refusals())
async def list_models(request: Request, caller: Reader) -> Models:
    """Every model of this service, with its limits and defaults."""
    found = await asyncio.to_thread(lambda: [_told(model) for model in catalogue.list_models()])
    return Models.model_construct(object="list", data=found)


@router.get(f"{ROOT}/models/{{name}}", operation_id="show_model", responses=refusals(404))
async def show_model(name: str, request: Request, caller: Reader) -> ModelTold:
    """One model by its name."""
    return await asyncio.to_thread(lambda: _told(catalogue.find(name)))


@router.get(f"{ROOT}/machine", operation_id="show_machine", responses=refusals())
async def show_machine(request: Request, caller: Reader) -> Machine:
    """What this machine has, and how much of it is free now."""
    return await asyncio.to_thread(Machine.here)


@router.post(f"{ROOT}/estimate", operation_id="estimate", responses=refusals(404, 413))
async def estimate(body: EstimateAsked, request: Request, caller: Changer) -> EstimateTold:
    """Whether a film fits this machine, and what it takes: memory, time, download."""
    return await asyncio.to_thread(_estimate, body, service_of(request).loras)


def _estimate(body: EstimateAsked, loras: Path) -> EstimateTold:
    plan = resolve(body.request(loras))
    wishes = body.wishes()
    if wishes:
        polish, _ = asked(plan.num_frames, plan.fps, wishes)
        plan = plan.model_copy(update={"polish": polish})
    finished(plan)
    found = foresee(plan, None, body.precision)
    return EstimateTold(**vars(found), plan=plan)
