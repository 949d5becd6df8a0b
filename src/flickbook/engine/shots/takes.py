"""Takes: the finished shots of a film, kept as lossless files so that a resumed run does not make them again."""

from __future__ import annotations

import logging
from pathlib import Path

from flickbook.errors import FlickbookError
from flickbook.media.clip import Clip, frames_sha256
from flickbook.media.embedded import carried
from flickbook.media.read import read_any
from flickbook.media.read_sound import read_sound
from flickbook.spec import Plan

logger = logging.getLogger(__name__)


class Takes:
    """A directory with the shots of one film, before they are polished: 01.mkv and so on, each with its recipe."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, number: int) -> Path:
        """The file of shot `number`, from 1."""
        return self.directory / f"{number:02d}.mkv"

    def get(self, number: int, plan: Plan) -> Clip | None:
        """The finished shot of this Plan; None if it is missing, damaged, or of another Plan."""
        path = self.path(number)
        if not path.exists():
            return None
        try:
            recipe, run = carried(path)
            if not isinstance(recipe.plan, Plan) or recipe.plan.key() != plan.key():
                return None
            frames, fps = read_any(path)
            audio = None if recipe.audio_sha256 is None else read_sound(path)
        except (FlickbookError, OSError) as error:
            logger.warning("shot %d is made again: %s", number, error)
            return None
        if frames_sha256(frames) != recipe.frames_sha256:
            logger.warning("shot %d is made again: %s is damaged", number, path)
            return None
        return Clip(frames, fps, recipe, run, audio=audio)

    def put(self, number: int, clip: Clip) -> None:
        """Keep a finished shot. Raises OutputError."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        clip.save(self.path(number), overwrite=True)
