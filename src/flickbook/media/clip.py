"""The result of a run: frames, their rate, and the recipe that made them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from flickbook import formats
from flickbook.errors import OutputError, RequestError
from flickbook.media.background_encoder import Ahead
from flickbook.media.sound.samples import Sound, samples_in
from flickbook.media.write import (
    FilePath,
    check_film,
    check_fits,
    check_frames,
    encode_parts,
    frame_rate,
    staged_film,
)
from flickbook.spec import Container, Encoding, Plan, Recipe, Run, Sidecar


def frames_sha256(frames: np.ndarray) -> str:
    """Return the SHA-256 (64 hexadecimal digits) of frames (frames, height, width, 3) uint8, including their shape.

    The hash covers the line "uint8 16,128,128,3\\n" followed by the bytes in that order of axes.
    """
    digest = hashlib.sha256(f"{frames.dtype} {','.join(map(str, frames.shape))}\n".encode())
    for frame in frames:  # one frame at a time: a non-contiguous view need not be copied as a whole
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def sidecar_path(path: FilePath) -> Path:
    """Return the path of the sidecar with the recipe and the run of the film at `path`: film.mp4.json for film.mp4.

    Numbered frames have it beside the first frame: shot-0001.png.json for shot-%04d.png.
    """
    film = formats.frame_paths(path, 1)[0] if formats.is_frames(path) else path
    return Path(f"{os.fspath(film)}.json")


@dataclass(frozen=True, eq=False, repr=False)
class Clip:
    """A film, or an image if it has one frame.

    `frames` is (frames, height, width, 3) uint8 RGB; `fps` is frames per second (0.1 to 240). `recipe` describes how to
    reproduce it and `run` how the run went; both may be None. `ahead` holds the packets of its file if they were
    encoded while the frames were made. `audio` is its sound, None for silence; it begins with the film and is not
    longer. `latents` is the content of a file with its last latents, None if the model keeps none. Raises RequestError
    for other frames, rates and sounds.
    """

    frames: np.ndarray
    fps: float
    recipe: Recipe | None = None
    run: Run | None = None
    ahead: Ahead | None = None
    audio: Sound | None = None
    latents: bytes | None = None

    def __post_init__(self) -> None:
        check_frames(self.frames)
        frame_rate(self.fps)
        audio = self.audio
        if audio is not None and len(audio.samples) > samples_in(len(self.frames), self.fps, audio.rate) + 1:
            limit = f"must be at most {self.seconds:g} seconds, the duration of the film"
            raise RequestError("audio", f"{audio.seconds:g} s", limit, "cut it with flickbook.media.sound.mix.cut")

    def __repr__(self) -> str:
        """Return a summary without pixels: Clip(16 frames, 128x128, 8 fps, 'a red circle', seed 7)."""
        count, height, width, _ = self.frames.shape
        parts = [f"{count} frame{'s' * (count > 1)}", f"{width}x{height}", f"{self.fps:g} fps"]
        parts += [] if self.audio is None else ["sound"]
        plan = None if self.recipe is None else self.recipe.plan
        if isinstance(plan, Plan):
            parts += [repr(plan.prompt), f"seed {plan.seed}"]
        return f"Clip({', '.join(parts)})"

    def noted(self, notes: Sequence[str]) -> Clip:
        """Return the same film with `notes` prepended to those of its run."""
        if self.run is None or not notes:
            return self
        return replace(self, run=self.run.model_copy(update={"notes": [*notes, *self.run.notes]}))

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return len(self.frames) / self.fps

    def images(self) -> list[Image.Image]:
        """Return the frames as Pillow images of mode RGB, each with its own copy of the pixels."""
        return [Image.fromarray(np.ascontiguousarray(frame)).copy() for frame in self.frames]

    def save(
        self,
        path: FilePath,
        *,
        codec: str | None = None,
        quality: formats.Quality | None = None,
        pixel_format: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the film in the format of the suffix of `path`, and {"recipe", "run"} to its sidecar; return `path`.

        `codec`, `quality` (0 to 100, or "lossless") and `pixel_format` default to those of the recipe if it was made
        for the same container, else to the usual ones. The recipe is also embedded in the film's comment. All files
        appear together or not at all. MP4, WebM and Matroska hold the sound; the others leave it out, and a note in the
        sidecar says so. Raises OutputError if a file exists (unless `overwrite`) or cannot be written, RequestError for
        an encoding that does not work here, and if the frames or the sound are not those of the recipe.
        """
        target = Path(path)
        check_save(target, len(self.frames), overwrite=overwrite)
        how = self._encoding(target, codec, quality, pixel_format)
        check_fits(target, how)
        digest = "" if self.recipe is None else frames_sha256(self.frames)
        if self.recipe is not None and self.recipe.frames_sha256 != digest:
            limit = "must be the frames of the recipe, which names another SHA-256"
            raise RequestError("frames", self.frames.shape, limit, "save changed frames in a Clip with recipe=None")
        heard = None if self.audio is None else self.audio.sha256
        if self.recipe is not None and self.recipe.audio_sha256 != heard:
            limit = "must be the sound of the recipe, which names another SHA-256"
            raise RequestError("audio", str(self.audio), limit, "save a changed sound in a Clip with recipe=None")
        # The embedded recipe describes this file's encoding, which may differ from the Plan's.
        recipe = None if self.recipe is None else self.recipe.encoded(how)
        comment = None if recipe is None else recipe.to_json()
        packets = None if self.ahead is None else self.ahead.packets(how, digest)
        with staged_film(target, len(self.frames), sidecar_path(target), overwrite=overwrite) as parts:
            encode_parts(parts[:-1], self.frames, self.fps, comment, how, target, packets, self.audio)
            known = [] if self.run is None else self.run.notes
            notes = [note for note in unheard(how.container, self.audio) if note not in known]
            beside = Sidecar(recipe=recipe, run=self.noted(notes).run).model_dump(mode="json")
            parts[-1].write_text(json.dumps(beside, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return target

    def _encoding(
        self, target: Path, codec: str | None, quality: formats.Quality | None, pixel_format: str | None
    ) -> Encoding:
        container = formats.container_of(target)
        planned = None if self.recipe is None else self.recipe.plan.encoding()
        requested = (codec, quality, pixel_format) != (None, None, None)
        if planned is not None and planned.container == container and not requested:
            return planned
        return formats.encoding(container, codec, quality, pixel_format)


def unheard(container: Container, audio: Sound | None) -> list[str]:
    """Return a note if a film has sound that its container does not hold."""
    if audio is None or container in formats.SOUNDING:
        return []
    return [f"{container} files hold no sound, so the film's was left out"]


def check_save(path: FilePath, num_frames: int, *, overwrite: bool = False) -> None:
    """Check whether a Clip of `num_frames` frames could be saved at `path`, before hours of work.

    Raises OutputError if the suffix does not fit, or if the film or its sidecar exists or cannot be written.
    """
    container = formats.container_of(path)
    if num_frames != 1 and not formats.FORMS[container].films:
        reason = f"a {container.upper()} stores one frame, not {num_frames}"
        raise OutputError(path, reason, "name it .mp4, or ask for one frame")
    check_film(path, num_frames, sidecar_path(path), overwrite=overwrite)
