"""Trainings small enough for a test: tiny models with random weights, six clips, a handful of updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.cases import CASES, Case

from flickbook import catalogue
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.tune import Training
from flickbook.media.clip import Clip
from flickbook.resolution import resolve
from flickbook.spec import Request

Make = Callable[..., Training]


def case_of(build: str) -> Case:
    """The contract test's case of a tiny model."""
    found = next(case for case in CASES if case.build == build)
    # Attention over the pixels of the 3D U-Net takes most of its time.
    return replace(found, side=16) if build == "ms" else found


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of a square that moves, with captions."""
    directory = tmp_path_factory.mktemp("clips")
    for number in range(6):
        frames = np.full((17, 64, 64, 3), 40 * number, np.uint8)
        for place, frame in enumerate(frames):
            frame[8:24, 2 * place : 2 * place + 16] = (250, 215, 30)
        Clip(frames, 8.0).save(directory / f"{number}.mp4", quality=90)
        (directory / f"{number}.txt").write_text(f"a yellow square on shade {number}\n", encoding="utf-8")
    return directory


@pytest.fixture
def training(clips: Path, tmp_path: Path) -> Make:
    """`training(build, output, **config)` of a tiny model, which is then on the list; "" is the built-in model."""
    names: dict[str, str] = {"": "builtin"}

    def made(build: str = "ms", output: str = "lora", directory: Path = clips, **config: Any) -> Training:
        if build not in names:
            case, place = case_of(build), tmp_path / f"model-{build}"
            case.save(place)
            catalogue.add(case.model(place))
            names[build] = f"tiny-{build}"
        side, frames = (32, 4) if not build else (case_of(build).side, case_of(build).frames)
        request = Request.of(
            prompt="a yellow square",
            model=names[build],
            num_frames=frames,
            width=None if not build else side,
            height=None if not build else side,
            num_inference_steps=2,
            seed=1,
        )
        usual: dict[str, Any] = {"iterations": 4, "batch": 2, "rank": 2, "validation": 0.0, "warmup": 1}
        settings = TuneConfig(**{**usual, **config})
        return Training(directory, tmp_path / output, resolve(request), config=settings, sample_every=0)

    return made
