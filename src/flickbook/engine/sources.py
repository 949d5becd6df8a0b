"""Reads the image or video that a film starts from, as frames of the film's size and rate."""

from __future__ import annotations

import numpy as np
from PIL import Image

from flickbook import catalogue, formats
from flickbook.engine.family import Sources
from flickbook.errors import MediaError, RequestError
from flickbook.files import sha256
from flickbook.formats import check_numbers, is_frames, numbered_frames
from flickbook.media.read import facts, read_any, read_frames
from flickbook.spec import Plan, Request


def complete(request: Request) -> Request:
    """Set `num_frames` for a video that is shorter than the model's default, if the request leaves it open.

    Raises MediaError for an unreadable video, ModelNotFound.
    """
    if request.video is None or request.num_frames is not None or request.container == "png":
        return request
    model = catalogue.find(request.model)
    allowed = model.num_frames
    if is_frames(request.video):
        check_numbers(request.video)
        held = len(numbered_frames(request.video))  # numbered frames are taken at the film's own rate
    else:
        there, _, _, rate = facts(request.video)
        held = int(there / rate * (request.fps or model.fps.default) + 1e-6)
    fewest = allowed.range[0]
    fitting = fewest + max(0, held - fewest) // allowed.every * allowed.every
    return request.model_copy(update={"num_frames": min(allowed.default, fitting)})


def sources(plan: Plan, request: Request) -> Sources:
    """The frames (n, h, w, 3) uint8 that `plan`, resolved from `request`, starts from, by their file's SHA-256.

    Raises MediaError for a file that is unreadable or has changed since, RequestError for a video that is too short.
    """
    if request.image is not None:
        path, digest = request.image, plan.image
        # For a video file this is its last frame: the new film continues it.
        frames = read_any(path)[0][-1:]
    elif request.video is not None:
        path, digest = request.video, plan.video
        numbered = is_frames(path)
        frames = read_any(path)[0][: plan.num_frames] if numbered else read_frames(path, plan.num_frames, plan.fps)
        if len(frames) < plan.num_frames:
            limit, remedy = f"{path} has {len(frames)}", f"ask for {len(frames)} or fewer"
            if not numbered:
                limit, remedy = f"{limit} at {plan.fps:g} frames per second", f"{remedy}, or a higher --fps"
            raise RequestError("num_frames", plan.num_frames, limit, remedy)
    else:
        return {}
    if (formats.digest(path) if request.image is None else sha256(path)) != digest:
        raise MediaError(path, "was changed while it was read", "start again")
    return {digest: np.stack([fitted(frame, plan.width, plan.height) for frame in frames])}


def fitted(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale an image (h, w, 3) uint8 to cover width x height, and crop it to the centre."""
    frame_height, frame_width = frame.shape[:2]
    scale = max(width / frame_width, height / frame_height)
    # The part of the image to keep; resizing from this box needs no intermediate image.
    part_width, part_height = width / scale, height / scale
    # Rounding may put an edge slightly outside the image.
    left, top = max(0.0, (frame_width - part_width) / 2), max(0.0, (frame_height - part_height) / 2)
    box = (left, top, min(frame_width, left + part_width), min(frame_height, top + part_height))
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS, box=box))
