"""Takes: the finished shots of a film, kept as lossless files so that a resumed run does not make them again.

Beside each one are the last latents of the shot, from which the next one may continue.
"""

from __future__ import annotations

import logging
from pathlib import Path

from flickbook.engine.kept_latents import KeptLatents
from flickbook.errors import FlickbookError, MediaError
from flickbook.files import replace_whole
from flickbook.media.clip import Clip, frames_sha256
from flickbook.media.embedded import carried
from flickbook.media.read import read_any
from flickbook.media.read_sound import read_sound
from flickbook.spec import Plan, Recipe

logger = logging.getLogger(__name__)


class Takes:
    """A directory with the shots of one film, before they are polished: 01.mkv and so on, each with its recipe, and
    01.safetensors with its last latents."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, number: int) -> Path:
        """The file of shot `number`, from 1."""
        return self.directory / f"{number:02d}.mkv"

    def get(self, number: int, plan: Plan, continued: bool = False) -> Clip | None:
        """The finished shot of this Plan; None if it is missing, damaged, or of another Plan. If the next shot is
        `continued` from its latents, they must be there too.
        """
        path = self.path(number)
        if not path.exists():
            return None
        try:
            recipe, run = carried(path)
            if not isinstance(recipe.plan, Plan) or recipe.plan.key() != plan.key():
                return None
            frames, fps = read_any(path)
            audio = None if recipe.audio_sha256 is None else read_sound(path)
            latents = self._latents(number, recipe) if continued else None
        except (FlickbookError, OSError) as error:
            logger.warning("shot %d is made again: %s", number, error)
            return None
        if frames_sha256(frames) != recipe.frames_sha256:
            logger.warning("shot %d is made again: %s is damaged", number, path)
            return None
        return Clip(frames, fps, recipe, run, audio=audio, latents=latents)

    def _latents(self, number: int, recipe: Recipe) -> bytes:
        """The latents kept with a shot. Raises MediaError for those of other frames, OSError."""
        kept = KeptLatents.read(self.path(number).with_suffix(".safetensors"))
        if kept.frames_sha256 != recipe.frames_sha256:
            raise MediaError(self.path(number), "has the latents of another film", "make the shot again")
        return kept.to_bytes()

    def put(self, number: int, clip: Clip) -> None:
        """Keep a finished shot. Raises OutputError."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if clip.latents is not None:
            data = clip.latents
            replace_whole(self.path(number).with_suffix(".safetensors"), lambda draft: draft.write_bytes(data))
        clip.save(self.path(number), overwrite=True)
