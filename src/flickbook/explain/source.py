"""The Plan of an existing film, to run it again and explain it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flickbook.engine.reproduction.file_search import gather
from flickbook.engine.reproduction.rerun import checked_request
from flickbook.errors import MediaError, RequestError
from flickbook.media.embedded import carried
from flickbook.media.metrics.similarity import psnr
from flickbook.media.read import read_any
from flickbook.spec import Plan, Request


def planned(
    path: Path, files: Iterable[Path] = (), model_dir: Path | None = None
) -> tuple[Plan, Request, Mapping[str, Path]]:
    """The Plan of the film at `path`, the Request that resolves to it, and the files that it needs, by SHA-256.

    Raises MediaError for a file without a Recipe and for an input that is not found, RequestError for a film that no
    model made at once.
    """
    recipe, run = carried(path)
    plan = recipe.plan
    if not isinstance(plan, Plan):
        raise RequestError("prompt", path.name, "was polished from a file, not made by a model", "name its source")
    if plan.task == "sequence":
        remedy = "explain one of its prompts, which `flickbook inspect` shows"
        raise RequestError("prompt", path.name, "is a sequence, which has several prompts", remedy)
    evidence = gather(plan, path, files, None if run is None else run.inputs)
    if evidence.missing:
        raise MediaError(path, evidence.missing[0], "or explain its prompt instead")
    return plan, checked_request(plan, evidence.found, model_dir), evidence.found


def compared(path: Path, plan: Plan, frames: np.ndarray) -> dict[str, Any]:
    """How near the explained frames are to the film's file: its name, and the PSNR (dB), None if it was polished or if
    every pixel is equal."""
    found: dict[str, Any] = {"file": path.name, "polished": not plan.polish.nothing(), "psnr_db": None, "equal": False}
    if plan.polish.nothing():
        shown = read_any(path)[0]
        if shown.shape == frames.shape:
            likeness = psnr(shown, frames)
            found |= {"equal": likeness == float("inf")}
            found |= {"psnr_db": None if likeness == float("inf") else round(likeness, 2)}
    return found
