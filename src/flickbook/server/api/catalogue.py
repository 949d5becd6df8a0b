"""Models over HTTP, this machine, and whether a film fits its memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.engine.films import estimate_plan
from flickbook.engine.memory.estimate import Estimate
from flickbook.engine.memory.machine import Machine
from flickbook.engine.polish import finished, parse_polish
from flickbook.hub.find import found
from flickbook.resolution import notes, resolve
from flickbook.server.access.dependencies import Changer, Reader
from flickbook.server.api.requests import EstimateRequest
from flickbook.server.api.responses import ROOT
from flickbook.server.errors import refusals
from flickbook.server.service import Service, service_of
from flickbook.spec import Plan

router = APIRouter(tags=["models"])


class ModelResponse(Model):
    """A model of the catalogue. `here` is whether its files are on this machine; `fixed` is the revision of its
    files."""

    here: bool
    fixed: str
    unet: str = Field("unet", exclude=True)


class Models(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelResponse]


@dataclass(frozen=True)
class EstimateResponse(Estimate):
    """The memory (bytes) and time (seconds) that a film needs on this machine, estimated without loading weights, and
    its Plan. `notes` name words of its prompts that the model never learned, with the nearest word it knows."""

    plan: Plan
    notes: list[str]


def _response(model: Model) -> ModelResponse:
    fields = {name: getattr(model, name) for name in Model.model_fields if name != "directory"}
    return ModelResponse.model_construct(**fields, directory="", here=found(model) is not None, fixed=model.revision())


@router.get(f"{ROOT}/models", operation_id="list_models", responses=refusals())
async def list_models(request: Request, caller: Reader) -> Models:
    """List the models with their limits and defaults."""
    found = await asyncio.to_thread(lambda: [_response(model) for model in catalogue.list_models()])
    return Models.model_construct(object="list", data=found)


@router.get(f"{ROOT}/models/{{name}}", operation_id="show_model", responses=refusals(404))
async def show_model(name: str, request: Request, caller: Reader) -> ModelResponse:
    """Get a model by its name."""
    return await asyncio.to_thread(lambda: _response(catalogue.find(name)))


@router.get(f"{ROOT}/machine", operation_id="show_machine", responses=refusals())
async def show_machine(request: Request, caller: Reader) -> Machine:
    """Get the hardware of this machine, and its free memory."""
    return await asyncio.to_thread(Machine.here)


@router.post(f"{ROOT}/estimate", operation_id="estimate", responses=refusals(404, 413))
async def estimate(body: EstimateRequest, request: Request, caller: Changer) -> EstimateResponse:
    """Estimate a film: memory, time and download, and whether it fits this machine."""
    return await asyncio.to_thread(_estimate, body, service_of(request), caller.owner)


def _estimate(body: EstimateRequest, service: Service, owner: str) -> EstimateResponse:
    request = body.request(service.loras_of(owner))
    plan = resolve(request)
    polish_options = body.polish_options()
    if polish_options:
        polish, _ = parse_polish(plan.num_frames, plan.fps, polish_options)
        plan = plan.model_copy(update={"polish": polish})
    finished(plan)
    found = estimate_plan(plan, None, body.precision)
    prompts = " ".join([plan.prompt, *(text for _, text in plan.prompt_at)])
    texts = [catalogue.find(plan.model).unlearned(prompts, plan.loras), *notes(request, plan)]
    return EstimateResponse(**vars(found), plan=plan, notes=[note for note in texts if note])
