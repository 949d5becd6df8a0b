"""What is kept of each film of an evaluation while the films pass by: verdicts, features, and copies to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flickbook.learn.evaluation import rate
from flickbook.learn.evaluation.adherence import OTHER, Tally, only, wrong
from flickbook.learn.evaluation.page import Shown, animation
from flickbook.media.sheet import contact_sheet
from flickbook.world.detect import fitted, judge
from flickbook.world.render import render
from flickbook.world.scenes import OBJECTS, Scene
from flickbook.world.steadiness import steadiness

_SHEET_ROWS = 12
#: Films of each group that the report shows, in the order of their seeds.
_REPORT_FILMS = 6


@dataclass(frozen=True)
class Shot:
    """A film to be measured: frames (n, h, w, 3) uint8 as they were made, and what it should show.

    `scene` is None for a prompt that the judge cannot read. `named` are the attributes that the prompt names, None for
    all of them.
    """

    frames: np.ndarray
    fps: float
    prompt: str
    scene: Scene | None = None
    named: frozenset[str] | None = None
    label: str = ""


class Collector:
    """Takes the films of an evaluation one by one; `thorough` also keeps features and measures motion and flicker.

    Of `total` films it keeps up to `rate.RATED` to be rated, spread over all of them.
    """

    def __init__(self, total: int, thorough: bool = False, sheets: Path | None = None) -> None:
        self.thorough, self._sheets = thorough, sheets
        self._rated = set(rate.spread(total, rate.RATED))
        self.tallies: dict[str, Tally] = {}
        self.shown: dict[str, list[Shown]] = {}
        self.vectors: dict[str, list[np.ndarray]] = {}
        self.temporal: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.rated: list[dict[str, str]] = []
        self._steady: dict[str, list[tuple[float | None, float | None]]] = {}
        self._kept: dict[str, dict[bool, list[tuple[np.ndarray, str]]]] = {}

    def add(self, group: str, shot: Shot) -> None:
        """Measure one film; a film without a scene belongs to `OTHER`."""
        film = fitted(shot.frames, whole=True)
        missed: list[str] = []
        if shot.scene is not None:
            missed = self._judge(group, shot, film)
        elif group != OTHER:
            raise ValueError("a film without a scene has no group")
        number = len(self.rows)
        row: dict[str, Any] = {"group": group, "prompt": shot.prompt, "label": shot.label}
        self.rows.append(row | ({} if shot.scene is None else {"right": not missed, "wrong": missed}))
        listed, rated = len(self.shown.setdefault(group, [])) < _REPORT_FILMS, number in self._rated
        if listed or (rated and self.thorough):
            data = animation(*_reduced(shot.frames, shot.fps))
            if listed:
                self.shown[group].append((data, shot.prompt, missed))
            if rated:
                self.rated.append({"group": group, "label": shot.label, "prompt": shot.prompt, "film": data})
        if self.thorough:
            self._measure(group, shot, film)

    def _judge(self, group: str, shot: Shot, film: np.ndarray) -> list[str]:
        """Count a film; returns its wrong attributes."""
        assert shot.scene is not None
        verdict = judge(shot.scene, film)
        if shot.named is not None:
            verdict = only(verdict, shot.named)
        elif shot.scene.kind in OBJECTS:
            self._steady.setdefault(group, []).append((steadiness(film), steadiness(render(shot.scene))))
        self.tallies.setdefault(group, Tally()).add(verdict)
        missed, kept = wrong(verdict), self._kept.setdefault(group, {True: [], False: []})
        if self._sheets is not None and len(kept[not missed]) < _SHEET_ROWS:
            label = shot.prompt + (f"   (wrong: {', '.join(missed)})" if missed else "")
            kept[not missed].append((film, label))
        return missed

    def _measure(self, group: str, shot: Shot, film: np.ndarray) -> None:
        from flickbook.learn.evaluation.features import features
        from flickbook.learn.evaluation.temporal import measure

        self.vectors.setdefault(group, []).append(features([film])[0])
        self.temporal.append(measure(shot.frames, shot.fps))

    def result(self) -> dict[str, Any]:
        """Groups and steadiness, as the report has them."""
        steady = {}
        for group, pairs in self._steady.items():  # a film in which no object is seen has steadiness 0
            made, true = (float(np.mean([value or 0.0 for value in side])) for side in zip(*pairs, strict=True))
            steady[group] = {"films": made, "true films": true, "share": made / max(true, 1e-6)}
        return {"groups": {group: tally.rows() for group, tally in self.tallies.items()}, "steadiness": steady}

    def write_sheets(self) -> None:
        """Contact sheets of the first right and the first wrong films of each group."""
        if self._sheets is None:
            return
        self._sheets.mkdir(parents=True, exist_ok=True)
        for path, films in self._listed():
            contact_sheet([film for film, _ in films], [label for _, label in films]).save(self._sheets / path)

    def _listed(self) -> Iterator[tuple[str, list[tuple[np.ndarray, str]]]]:
        for group, kept in self._kept.items():
            for won, films in kept.items():
                if films:
                    yield f"{group.replace(' ', '-')}-{'wins' if won else 'failures'}.png", films


def _reduced(frames: np.ndarray, fps: float, side: int = 256, most: int = 48) -> tuple[np.ndarray, float]:
    """A copy to look at, of the same duration: at most `side` pixels and `most` frames; and its frames per second."""
    chosen = rate.spread(len(frames), most)
    frames, fps = frames[chosen], fps * len(chosen) / len(frames)
    height, width = frames.shape[1:3]
    scale = side / max(height, width)
    if scale >= 1:
        return frames, fps
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames]), fps
