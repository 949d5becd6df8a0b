"""Motion and flicker of films: VBench's one dimension without weights, exactly, and substitutes for two others.

VBench (Huang et al. 2024, arXiv 2311.17982) measures sixteen dimensions; fifteen need networks that are not here.
Temporal flickering is a formula, and VBench applies it to scenes without motion. Dynamic degree uses RAFT and motion
smoothness AMT; here dense inverse search (DIS) takes the place of both networks, so the numbers are substitutes and not
comparable with VBench's tables. They are comparable with those of true films, which stand beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flickbook.media.finishing.flow import plain_flow, warped
from flickbook.media.metrics.quality import changes

#: VBench's dynamic degree: frames per second, share of the fastest pixels, pixels of 256, and pairs of 16 frames.
_RATE, _FASTEST, _PIXELS, _PAIRS = 8.0, 0.05, 6.0, 4


def flickering(frames: np.ndarray) -> float:
    """VBench's temporal flickering of frames (n, h, w, 3) uint8, n > 1: 1 - mean |f(t + 1) - f(t)| / 255."""
    return (255 - float(changes(frames).mean())) / 255


def dynamic(frames: np.ndarray, fps: float) -> bool:
    """Whether a film moves: VBench's dynamic degree with DIS in place of RAFT.

    At 8 frames a second, a pair of frames moves if the mean length of its fastest 5 % exceeds 6 pixels per 256 of the
    shorter side; the film moves if 4 pairs do (of 16 frames; in proportion for other lengths).
    """
    part = frames[:: max(1, round(fps / _RATE))]
    bar = _PIXELS * min(part.shape[1:3]) / 256
    moved = sum(fastest(one, other) > bar for one, other in zip(part, part[1:], strict=False))
    return bool(moved >= max(1, round(_PAIRS * len(part) / 16)))


def fastest(one: np.ndarray, other: np.ndarray) -> float:
    """The mean length in pixels of the fastest 5 % of the flow between two images (h, w, 3) uint8."""
    length = np.hypot(*np.moveaxis(plain_flow(one, other), 2, 0)).ravel()
    most = max(1, int(len(length) * _FASTEST))
    return float(np.partition(length, -most)[-most:].mean())


def smoothness(frames: np.ndarray) -> float | None:
    """How well every second frame is predicted: VBench's motion smoothness with DIS in place of AMT, 0 to 1.

    A frame is predicted from its neighbours, moved half of the flow between them. None for fewer than three frames.
    """
    errors = []
    for place in range(1, len(frames) - 1, 2):
        before, after = frames[place - 1], frames[place + 1]
        there, back = plain_flow(before, after), plain_flow(after, before)
        # The middle's own flow is not known; that of either neighbour stands for it.
        middle = warped(before.astype(np.float32), 0.5 * back) + warped(after.astype(np.float32), 0.5 * there)
        errors.append(float(np.abs(middle / 2 - frames[place]).mean()))
    return (255 - float(np.mean(errors))) / 255 if errors else None


def measure(frames: np.ndarray, fps: float) -> dict[str, Any]:
    """All three of one film (n, h, w, 3) uint8, n > 1."""
    return {
        "flickering": flickering(frames),
        "dynamic": dynamic(frames, fps),
        "smoothness": smoothness(frames),
    }


def summary(films: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The means over films; flickering also over the films that do not move, and how many those are."""
    still = [film["flickering"] for film in films if not film["dynamic"]]
    smooth = [film["smoothness"] for film in films if film["smoothness"] is not None]
    return {
        "films": len(films),
        "static_films": len(still),
        "flickering_of_static_films": float(np.mean(still)) if still else None,
        "flickering_of_all_films": float(np.mean([film["flickering"] for film in films])),
        "dynamic_degree_dis": float(np.mean([film["dynamic"] for film in films])),
        "motion_smoothness_dis": float(np.mean(smooth)) if smooth else None,
    }
