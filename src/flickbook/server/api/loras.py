"""The LoRAs of a service: files NAME.safetensors in the directory `loras` of its data, asked for by their names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from flickbook.errors import RequestError
from flickbook.server.access.dependencies import reader
from flickbook.server.api.responses import ROOT
from flickbook.server.errors import refusals
from flickbook.server.service import Caller, service_of

Reader = Annotated[Caller, Depends(reader)]
router = APIRouter(tags=["models"])


class Loras(BaseModel):
    """The names that a film can ask for."""

    object: Literal["list"] = "list"
    data: Annotated[list[str], Field(examples=[["ink", "oil"]])]


@router.get(f"{ROOT}/loras", operation_id="list_loras", responses=refusals())
async def list_loras(request: Request, caller: Reader) -> Loras:
    """The LoRAs of this service by their names."""
    return Loras(data=list(await asyncio.to_thread(here, service_of(request).loras)))


def here(place: Path) -> dict[str, Path]:
    """The files of the LoRAs in a directory by their names. It blocks."""
    return {path.stem: path for path in sorted(place.glob("*.safetensors"))}


def files_of(named: Sequence[tuple[str, float]], place: Path) -> tuple[tuple[str, float], ...] | None:
    """The files and weights of LoRAs by their names, in a directory of the service. It blocks.

    A name is compared with those of the files that are there, and is never part of a path. Raises RequestError.
    """
    if not named:
        return None
    there = here(place)
    for name, _ in named:
        if name not in there:
            known = ", ".join(list(there)[:8]) or "no LoRA"
            raise RequestError("loras", name, "no such LoRA", f"the service has {known}")
    return tuple((str(there[name]), float(weight)) for name, weight in named)
