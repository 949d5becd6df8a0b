"""Saves the stills of a sequence in a directory as they are made, and finds them again when the sequence resumes.

`sequence.json` identifies the sequence; 00000.png and so on are its frames. Each image's metadata has the sequence, its
name and the SHA-256 of its pixels, so that a damaged image or one of another sequence is not used.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Final

import numpy as np

from flickbook.errors import FlickbookError, OutputError, shown
from flickbook.files import existing
from flickbook.media.clip import frames_sha256
from flickbook.media.inspect import read_comment
from flickbook.media.read import read_picture
from flickbook.media.write import check_target, staged, write_png
from flickbook.records import Record
from flickbook.spec import Placement, Plan

_OURS: Final = re.compile(r"[0-9]{5}\.png|key-[0-9]{2}\.png")
_REMEDY: Final = "choose another --output, or add --overwrite"
#: The fields of a Placement that affect pixels; the others affect speed and memory only.
_DECIDES: Final = ("device", "dtype", "quantize")


class Started(Record):
    """A sequence that was started: its Plan and its Placement."""

    plan: Plan
    placement: Placement


class FrameDirectory:
    """A directory with the stills of one Plan."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory, self.plan = directory, plan
        self._key = plan.key()

    def check(self, placement: Placement | None = None, *, overwrite: bool = False) -> None:
        """Raise OutputError if the directory belongs to something else (unless `overwrite`) or the disk is too full.

        Without a placement, the fields that depend on the machine are not compared. Leaves no file behind.
        """
        check_target(self._head, overwrite=True)
        if not overwrite:
            kept = started(self.directory)
            difference = "" if kept is None else self._difference(kept, placement)
            if difference:
                raise OutputError(self.directory, f"contains another sequence: {difference}", _REMEDY)
        free = shutil.disk_usage(existing(self.directory)).free
        needed = 3 * self.plan.num_frames * self.plan.width * self.plan.height
        if free < needed:
            reason = f"only {free / 2**20:.1f} MiB are free, {needed / 2**20:.0f} MiB are needed"
            raise OutputError(self.directory, reason, "free some space or choose another --output")

    def begin(self, placement: Placement) -> None:
        """Prepare the directory for this Plan: delete images of another sequence, and keep its own."""
        try:
            kept = started(self.directory)
        except OutputError:
            kept = None
        if kept is not None and not self._difference(kept, placement):
            return
        for path in self.directory.glob("*.png"):
            if _OURS.fullmatch(path.name):
                path.unlink()
        text = json.dumps(
            Started(plan=self.plan, placement=placement).model_dump(mode="json"), indent=2, sort_keys=True
        )
        with staged(self._head, overwrite=True) as (part,):
            part.write_text(text + "\n", encoding="utf-8")

    def get(self, name: str) -> np.ndarray | None:
        """The still (h, w, 3) uint8 of this name; None if it is missing, damaged or of another sequence."""
        path = self._path(name)
        try:
            picture = read_picture(path)
            comment = json.loads(read_comment(path) or "null")
        except (FlickbookError, ValueError, RecursionError):
            return None
        return picture if comment == self._comment(name, picture) else None

    def put(self, name: str, picture: np.ndarray) -> None:
        """Save a still atomically. Raises OutputError."""
        write_png(self._path(name), picture, json.dumps(self._comment(name, picture), sort_keys=True), overwrite=True)

    @property
    def _head(self) -> Path:
        return self.directory / "sequence.json"

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.png"

    def _comment(self, name: str, picture: np.ndarray) -> dict[str, str]:
        return {"sequence": self._key, "picture": name, "sha256": frames_sha256(picture[None])}

    def _difference(self, kept: Started, placement: Placement | None) -> str:
        """How another sequence differs; "" if it does not."""
        pairs = [(name, getattr(kept.plan, name), getattr(self.plan, name)) for name in Plan.model_fields]
        if placement is not None:
            pairs += [(name, getattr(kept.placement, name), getattr(placement, name)) for name in _DECIDES]
        differences = [
            f"{name} is {shown(old)!r} in the directory, {shown(new)!r} here" for name, old, new in pairs if old != new
        ]
        return "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")


def started(directory: Path) -> Started | None:
    """The sequence that was started in a directory; None if the directory is missing or empty.

    Raises OutputError for a directory with other contents, or with an unreadable sequence.json.
    """
    head = directory / "sequence.json"
    try:
        if not directory.exists() or all(path.name.startswith(".") for path in directory.iterdir()):
            return None
        if not head.exists():
            raise OutputError(directory, "contains files, but no sequence.json", _REMEDY)
        return Started.from_json(head.read_bytes())
    except (OSError, FlickbookError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(head, f"cannot be read ({shown(error)})", _REMEDY) from None
