"""The result of a run: frames, their rate, and what made them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from flickbook.errors import OutputError, RequestError, shown
from flickbook.media.write import FilePath, check_frames, check_target, encode_mp4, encode_png, frame_rate, staged
from flickbook.spec import Recipe, Run

SUFFIXES: Final = (".mp4", ".png")


def frames_sha256(frames: np.ndarray) -> str:
    """SHA-256 (64 hexadecimal digits) of frames (frames, height, width, 3) uint8, their shape included.

    Hashed are the line "uint8 16,128,128,3" with its line end, then the bytes in that order of axes.
    """
    digest = hashlib.sha256(f"{frames.dtype} {','.join(map(str, frames.shape))}\n".encode())
    for frame in frames:  # one at a time: a view that is not contiguous need not be copied whole
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def sidecar_path(path: FilePath) -> Path:
    """Where the recipe and the run of the film at `path` stand: film.mp4.json beside film.mp4."""
    return Path(f"{os.fspath(path)}.json")


@dataclass(frozen=True, eq=False)
class Clip:
    """A film, or a picture if it has one frame.

    `frames` is (frames, height, width, 3) uint8 RGB, `fps` frames a second (0.1 to 240). `recipe` says how to make
    it again and `run` what happened when it was made; both may be unknown. Raises RequestError for other frames or
    rates.
    """

    frames: np.ndarray
    fps: float
    recipe: Recipe | None = None
    run: Run | None = None

    def __post_init__(self) -> None:
        check_frames(self.frames)
        frame_rate(self.fps)

    @property
    def seconds(self) -> float:
        """How long the film plays, in seconds."""
        return len(self.frames) / self.fps

    def images(self) -> list[Image.Image]:
        """The frames as Pillow images of mode RGB, each with pixels of its own."""
        return [Image.fromarray(np.ascontiguousarray(frame)).copy() for frame in self.frames]

    def save(self, path: FilePath, *, overwrite: bool = False) -> Path:
        """Write the film to `path` (.mp4, or .png for one frame) and {"recipe", "run"} to `path`.json; returns `path`.

        The recipe also goes into the film's comment. Film and sidecar appear together or not at all. Raises
        OutputError if either exists (unless `overwrite`) or cannot be written, RequestError if the frames are not
        those the recipe was written for.
        """
        target = Path(path)
        check_save(target, len(self.frames), overwrite=overwrite)
        if self.recipe is not None and self.recipe.frames_sha256 != frames_sha256(self.frames):
            limit = "must be the frames of the recipe, which names another SHA-256"
            raise RequestError("frames", self.frames.shape, limit, "save changed frames in a Clip with recipe=None")
        comment = None if self.recipe is None else self.recipe.to_json()
        sidecar = sidecar_path(target)
        with staged(target, sidecar, overwrite=overwrite) as (film_part, sidecar_part):
            if target.suffix.lower() == ".png":
                encode_png(film_part, self.frames[0], comment)
            else:
                encode_mp4(film_part, self.frames, self.fps, comment)
            sidecar_part.write_text(_sidecar_text(self.recipe, self.run), encoding="utf-8")
        return target


def check_save(path: FilePath, num_frames: int, *, overwrite: bool = False) -> None:
    """Whether a Clip of `num_frames` frames could be saved at `path`, for asking before hours of work.

    Raises OutputError if the suffix does not fit, or the film or its sidecar exists or cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        reason = f'the suffix "{shown(suffix)}" is not {" or ".join(SUFFIXES)}'
        raise OutputError(path, reason, "name the file film.mp4 or still.png")
    if suffix == ".png" and num_frames != 1:
        raise OutputError(path, f"a PNG holds one frame, not {num_frames}", "name it .mp4, or ask for one frame")
    check_target(path, overwrite=overwrite)
    check_target(sidecar_path(path), overwrite=overwrite)


def _sidecar_text(recipe: Recipe | None, run: Run | None) -> str:
    parts = {"recipe": recipe, "run": run}
    document = {name: None if part is None else part.model_dump(mode="json") for name, part in parts.items()}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
