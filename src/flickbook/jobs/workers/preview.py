"""Animated previews of a film while it is denoised."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image

from flickbook.engine.engine import Engine
from flickbook.spec import Plan

#: Frames of a film that are shown, and the maximum width and height.
_FRAMES: Final = 8
_SIDE: Final = 256


def moving(engine: Engine, plan: Plan, x0: Any) -> bytes:
    """A WebP of some frames of one film's estimate x0 (channels, frames, h, w), at the film's own speed."""
    # The built-in networks decode single frames at equal cost; a pipeline decodes frames in groups.
    every = max(1, plan.num_frames // _FRAMES) if engine.model.family == "unet" else 1
    return webp(engine.sketch(x0[:, ::every] if every > 1 else x0), plan.fps / every)


def webp(frames: np.ndarray, fps: float) -> bytes:
    """Encodes frames (n, height, width, 3) uint8 as an animated WebP, at most 256 pixels wide and high."""
    scale = min(1.0, _SIDE / max(frames.shape[1:3]))
    size = (max(1, round(frames.shape[2] * scale)), max(1, round(frames.shape[1] * scale)))
    images = [Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR) for frame in frames]
    file = BytesIO()
    how: dict[str, Any] = {"save_all": True, "append_images": images[1:], "loop": 0, "quality": 70, "method": 0}
    images[0].save(file, "WEBP", duration=round(1000 / fps), **how)
    return file.getvalue()
