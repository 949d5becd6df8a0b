"""LoRAs over HTTP: the files NAME.safetensors in the folder `loras` of the service's data, requested by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from flickbook.errors import RequestError
from flickbook.server.access.dependencies import Reader
from flickbook.server.api.responses import ROOT
from flickbook.server.errors import refusals
from flickbook.server.service import service_of

router = APIRouter(tags=["models"])


class Loras(BaseModel):
    """The names of the available LoRAs."""

    object: Literal["list"] = "list"
    data: Annotated[list[str], Field(examples=[["ink", "oil"]])]


@router.get(f"{ROOT}/loras", operation_id="list_loras", responses=refusals())
async def list_loras(request: Request, caller: Reader) -> Loras:
    """List the names of the LoRAs on this service."""
    return Loras(data=list(await asyncio.to_thread(here, service_of(request).loras)))


def here(place: Path) -> dict[str, Path]:
    """Return the LoRA files of a folder by name. Blocks."""
    return {path.stem: path for path in sorted(place.glob("*.safetensors"))}


def files_of(named: Sequence[tuple[str, float]], place: Path) -> tuple[tuple[str, float], ...] | None:
    """Return the files and weights of LoRAs given by name. Blocks.

    A name is compared with the names of existing files and is never part of a path. Raises RequestError.
    """
    if not named:
        return None
    there = here(place)
    for name, _ in named:
        if name not in there:
            known = ", ".join(list(there)[:8]) or "no LoRA"
            raise RequestError("loras", name, "no such LoRA", f"the service has {known}")
    return tuple((str(there[name]), float(weight)) for name, weight in named)
