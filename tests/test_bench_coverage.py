"""The coverage study measures the films of one model only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from bench import coverage

from flickbook.diffusion.text_to_video import FILES
from flickbook.errors import RequestError
from flickbook.world.render import render
from flickbook.world.scenes import Scene


def test_trainings_differ_in_coverage_only() -> None:
    quarter, half = (coverage.config_of(share, 100).to_dict() for share in (0.25, 0.5))
    assert {name for name, value in quarter.items() if half[name] != value} == {"coverage"}


def test_a_log_of_films_is_continued_for_the_same_weights_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Scene] = []

    def draw(networks: object, scenes: Sequence[Scene], settings: object) -> Iterator[np.ndarray]:
        for scene in scenes:
            made.append(scene)
            yield render(scene)

    class Networks:
        @staticmethod
        def load(directory: Path, device: str) -> Networks:
            return Networks()

        def pack(self) -> None: ...

    monkeypatch.setattr(coverage, "draw", draw)
    monkeypatch.setattr(coverage, "TextToVideo", Networks)
    weights = tmp_path / "model" / FILES["unet"]
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"first")
    (tmp_path / "model/training.json").write_text('{"coverage": 0.5}', encoding="utf-8")

    with pytest.raises(RequestError, match="coverage=0.25: must be that of the model"):
        coverage.measure(0.25, 4, tmp_path)
    coverage.measure(0.5, 4, tmp_path)
    assert len(made) == 4
    groups = coverage.measure(0.5, 6, tmp_path)
    assert len(made) == 6, "only the missing films are made"
    assert sum(rows["all correct"]["total"] for rows in groups.values()) == 6
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["coverage"] == 0.5

    weights.write_bytes(b"second")
    with pytest.raises(RequestError, match="films of other weights"):
        coverage.measure(0.5, 6, tmp_path)
