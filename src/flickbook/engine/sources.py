"""Reads the images and videos that a film is made from, as frames of the film's size and rate."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from flickbook import catalogue, formats
from flickbook.conditioning import files, paths
from flickbook.engine.family import Sources
from flickbook.engine.kept_latents import KeptLatents
from flickbook.errors import MediaError, RequestError
from flickbook.files import sha256
from flickbook.formats import check_numbers, is_frames, numbered_frames
from flickbook.media.finishing.edges import edges
from flickbook.media.read import facts, read_any, read_frames
from flickbook.spec import Plan, Request

#: Input files of which every frame is used.
_VIDEOS: Final = ("video", "control_video", "face_video", "mask")
#: Pixels of a face's side, as Wan Animate was trained.
_FACE: Final = 512


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
    """The frames (n, h, w, 3) uint8 that `plan`, resolved from `request`, is made from, by the keys of `keys`.

    Raises MediaError for a file that is unreadable or has changed since, RequestError for a video that is too short.
    """
    found: dict[str, np.ndarray] = {}
    for key, (role, digest), path in zip(keys(plan), files(plan), paths(request), strict=True):
        if role != "audio" and key not in found:
            found[key] = _frames(role, path, plan)
            if (formats.digest(path) if role in _VIDEOS else sha256(path)) != digest:
                raise MediaError(path, "was changed while it was read", "start again")
    return found


def keys(plan: Plan) -> list[str]:
    """What each input file of a Plan is called in `Sources`, in the order of `conditioning.files`.

    A file that the film starts from has its SHA-256. Any other has its use before that, because one file may be used in
    several ways.
    """
    return [digest if role in ("image", "video") else f"{role}:{digest}" for role, digest in files(plan)]


def _frames(role: str, path: str, plan: Plan) -> np.ndarray:
    """The frames of an input file that its role in the film needs; a reference image keeps its own size. Of kept
    latents, those of the overlap.
    """
    if role == "latents":
        return overlapping(KeptLatents.read(path), plan)
    if role == "reference image":
        return read_any(path)[0][:1]
    if role == "mask" and len(frames := read_any(path)[0]) == 1:
        frames = np.repeat(frames, plan.num_frames, axis=0)  # a still mask holds for every frame
    elif role in _VIDEOS:
        numbered = is_frames(path)
        frames = read_any(path)[0][: plan.num_frames] if numbered else read_frames(path, plan.num_frames, plan.fps)
        _check_length(path, len(frames), plan)
    else:
        # Of a video file, a film that starts from it continues it, and a film that ends with it leads into it.
        frames = read_any(path)[0]
        frames = frames[-1:] if role == "image" else frames[:1]
    width, height = (_FACE, _FACE) if role == "face_video" else (plan.width, plan.height)
    frames = np.stack([fitted(frame, width, height) for frame in frames])
    return edges(frames) if role == "control_video" and plan.control == "edges" else frames


def overlapping(kept: KeptLatents, plan: Plan) -> np.ndarray:
    """The latents (c, k, h, w) float16 of a Plan's overlap. Raises RequestError for those of another model or size."""
    count = (plan.overlap - 1) // catalogue.find(plan.model).num_frames.every + 1
    if not kept.fit(plan) or kept.latents.shape[1] < count:
        limit = "are of another model, size or length than the film that continues them, or of other LoRAs"
        raise RequestError("latents", plan.latents, limit, "begin from an image, or use the same model, size and LoRAs")
    return np.ascontiguousarray(kept.latents[:, -count:])


def _check_length(path: str, held: int, plan: Plan) -> None:
    """Raise RequestError for a video with fewer frames than the film."""
    if held < plan.num_frames:
        limit, remedy = f"{Path(path).name} has {held}", f"ask for {held} or fewer"
        if not is_frames(path):
            limit, remedy = f"{limit} at {plan.fps:g} frames per second", f"{remedy}, or a higher --fps"
        raise RequestError("num_frames", plan.num_frames, limit, remedy)


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
