"""What a diffusers pipeline returned, as the frames and the sound of a film."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flickbook.errors import RequestError, WeightsError
from flickbook.media.sound.samples import MAX_CHANNELS, Sound
from flickbook.spec import Plan


class Film(NamedTuple):
    """A finished film of a pipeline: frames (n, h, w, 3) uint8, and the sound that was made with them, if any."""

    frames: np.ndarray
    sound: Sound | None = None


def film_of(pipe: Any, result: Any, plan: Plan) -> Film:
    """The film of a pipeline's result. Raises what `frames_of` and `sound_of` raise."""
    return Film(frames_of(result, plan), sound_of(pipe, result, plan))


def sound_of(pipe: Any, result: Any, plan: Plan) -> Sound | None:
    """The sound of a pipeline's result; None if it made none. Its duration may differ from that of the frames.

    Raises WeightsError for values that are not finite.
    """
    made = getattr(result, "audio", None)
    if made is None:
        return None
    # (films, samples) or (films, channels, samples), in the precision of the vocoder.
    first = made[0]
    samples = np.asarray(first.detach().float().cpu() if hasattr(first, "detach") else first, dtype=np.float32)
    samples = samples.reshape(-1, samples.shape[-1])[:MAX_CHANNELS].T
    if not np.isfinite(samples).all():
        raise WeightsError(plan.model, "produced values that are not a sound", "ask for --precision fp32 or bf16")
    config = getattr(getattr(pipe, "vocoder", None), "config", {})
    rate = config.get("output_sampling_rate") or getattr(pipe, "audio_sample_rate", None)
    if rate is None or not len(samples):
        return None
    return Sound(np.ascontiguousarray(samples), int(rate))


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
