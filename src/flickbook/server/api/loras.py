"""LoRAs over HTTP, requested by name: the files NAME.safetensors in the folder `loras` of the service's data, which all
owners may use, and those that an owner trained, which no other owner can use or see.
"""

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
    """List the names of the LoRAs that you can use: those of the service, and those that you trained."""
    service = service_of(request)
    return Loras(data=sorted(await asyncio.to_thread(lambda: here(service.loras_of(caller.owner)))))


def here(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the LoRA files of folders by name; of two of one name, that in the first folder. Blocks."""
    found: dict[str, Path] = {}
    for folder in folders:
        found = {path.stem: path for path in sorted(folder.glob("*.safetensors"))} | found
    return found


def files_of(named: Sequence[tuple[str, float]], folders: Sequence[Path]) -> tuple[tuple[str, float], ...] | None:
    """Return the files and weights of LoRAs given by name. Blocks.

    A name is compared with the names of existing files and is never part of a path. Raises RequestError.
    """
    if not named:
        return None
    there = here(folders)
    for name, _ in named:
        if name not in there:
            known = ", ".join(list(there)[:8]) or "no LoRA"
            raise RequestError("loras", name, "no such LoRA", f"the service has {known}")
    return tuple((str(there[name]), float(weight)) for name, weight in named)
