"""The built-in film beside stock diffusers, exact, balanced and turbo, in both precisions; and beside all rivals."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import warm
from bench.comparison import compare
from bench.rivals import deepcache, openvino, ours, pab, stock, tuned
from bench.subject import Side, Subject, films_of
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.learn.evaluation.evaluate import prompts
from flickbook.world.captions import captions

EXACT, BALANCED = "ours exact", "ours balanced"
_OWN = {f"{BALANCED}, {kind}": f"{EXACT}, {kind}" for kind in ("fp32", "bf16")}


def subject_of(folder: Path, steps: int) -> Subject:
    """The film that all sides make."""
    size = (warm.FRAMES, warm.SIZE, warm.SIZE)
    return Subject.of(warm.comparable(folder), warm.PROMPT, warm.SEED, steps, warm.GUIDANCE, size)


def measure(pairs: int, steps: int = warm.STEPS) -> dict[str, Any]:
    """Ours and stock, fp32 and bf16."""
    with tempfile.TemporaryDirectory() as folder:
        subject = subject_of(Path(folder), steps)
        plain, quick = stock.pipeline_of(subject), tuned.pipeline_of(subject)
        sides = [
            *ours.sides(subject, torch.float32, ("exact", "balanced", "turbo")),
            stock.side(subject, plain),
            *ours.sides(subject, torch.bfloat16, ("exact", "balanced", "turbo")),
            tuned.side(subject, quick),
        ]
        begin = films_of(subject, TextToVideo.load(subject.directory), _films(pairs + 1))
        return compare(sides, pairs, "stock, fp32", _OWN, begin) | {"steps": steps, "threads": subject.threads}


def _films(count: int) -> list[tuple[str, int]]:
    """Prompt and seed of as many of the evaluation's films: what balanced spares is another share of each."""
    scenes = [scene for group in prompts(max(count, 8)).values() for scene in group]
    return [(captions(scene)[0], scene.seed) for scene in scenes[:count]]


def rivals(pairs: int, steps: int = warm.STEPS) -> dict[str, Any]:
    """Everybody; who cannot be had is named with the reason."""
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        subject = subject_of(Path(folder), steps)
        plain, quick, frozen = stock.pipeline_of(subject), tuned.pipeline_of(subject), tuned.pipeline_of(subject)
        counts = tuned.threads(subject, quick)
        eager = tuned.side(subject, quick, counts)
        worker, converted = _tried(lambda: openvino.sides(subject), "OpenVINO", missing) or (None, [])
        compiled = tuned.compiled(subject, frozen, tuned.best_of(counts))
        if isinstance(compiled, str):
            missing["stock tuned and compiled"] = compiled
        cached: list[Side] = []
        for pipeline, interval, name in ((plain, 2, ""), (plain, 3, ""), (quick, 3, " on tuned")):
            make = partial(deepcache.side, subject, pipeline, interval, name)
            cached += [side] if (side := _tried(make, "DeepCache", missing)) else []
        sides = [
            *ours.sides(subject, torch.float32, ("exact", "balanced")),
            *ours.sides(subject, torch.bfloat16, ("exact", "balanced")),
            stock.side(subject, plain),
            eager,
            *([] if isinstance(compiled, str) else [compiled]),
            *cached,
            pab.side(subject, plain),
            *converted,
        ]
        try:
            found = compare(sides, pairs, "stock, fp32", _OWN)
        finally:
            if worker:
                worker.close()
    return found | {"missing": missing, "steps": steps, "threads": subject.threads}


def _tried(make: Callable[[], Any], name: str, missing: dict[str, str]) -> Any:
    """What `make` gives, or None with the reason under `missing`."""
    try:
        return make()
    except (RuntimeError, ImportError, OSError, subprocess.CalledProcessError) as error:
        told = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        last = (told.decode() if isinstance(told, bytes) else str(told)).strip().splitlines() or ["no reason given"]
        missing[name] = f"{type(error).__name__}: {last[-1][:200]}"
        return None
