"""What a diffusers pipeline returned, as the frames of a film."""

from __future__ import annotations

from typing import Any

import numpy as np

from flickbook.errors import RequestError, WeightsError
from flickbook.spec import Plan


def frames_of(result: Any, plan: Plan) -> np.ndarray:
    """The frames (n, h, w, 3) uint8 of a pipeline's result. Raises RequestError if their number or size differs from
    the Plan, WeightsError for values that are not finite.
    """
    made = result.frames if hasattr(result, "frames") else result.images
    made = np.asarray(made[0] if np.ndim(made) == 5 else made, dtype=np.float32)
    if not np.isfinite(made).all():
        raise WeightsError(plan.model, "produced values that are not an image", "ask for --precision fp32 or bf16")
    frames: np.ndarray = (made.clip(0, 1) * 255).round().astype(np.uint8)
    if frames.shape[0] != plan.num_frames:
        limit = f"{plan.model} made {frames.shape[0]} frames instead"
        raise RequestError("num_frames", plan.num_frames, limit, f"ask for {frames.shape[0]}")
    if frames.shape[1:3] != (plan.height, plan.width):
        made_size, requested = f"{frames.shape[2]}x{frames.shape[1]}", f"{plan.width}x{plan.height}"
        raise RequestError("size", requested, f"{plan.model} made {made_size} instead", f"ask for {made_size}")
    return frames
