"""The pictures of a sequence in a directory: saved as they are made, and found again when the sequence goes on.

`sequence.json` says which sequence it is; 00000.png and so on are its frames. Each picture carries what it is and the
SHA-256 of its own pixels, so that one that is damaged, or of another sequence, is not taken for it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Final

import numpy as np

from flickbook.errors import FlickbookError, OutputError, shown
from flickbook.media.clip import frames_sha256
from flickbook.media.inspect import read_comment
from flickbook.media.read import read_picture
from flickbook.media.write import check_target, staged, write_png
from flickbook.spec import Placement, Plan, Record

_OURS: Final = re.compile(r"[0-9]{5}\.png|key-[0-9]{2}\.png")
_REMEDY: Final = "choose another --output, or add --overwrite"
#: What of a placement decides pixels; the rest is speed and memory.
_DECIDES: Final = ("device", "dtype", "quantize")


class Begun(Record):
    """A sequence that was begun, and how."""

    plan: Plan
    placement: Placement


class Album:
    """A directory of pictures of one Plan."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory, self.plan = directory, plan
        self._key = plan.key()

    def check(self, placement: Placement | None = None, *, overwrite: bool = False) -> None:
        """Raise OutputError where the directory belongs to something else (unless `overwrite`) or has no room.

        Without a placement what the machine decides is not compared. Leaves nothing behind.
        """
        check_target(self._head, overwrite=True)
        if not overwrite:
            kept = begun(self.directory)
            told = "" if kept is None else self._difference(kept, placement)
            if told:
                raise OutputError(self.directory, f"holds another sequence: {told}", _REMEDY)
        parent = self.directory.absolute()
        while not parent.exists():
            parent = parent.parent
        free, needed = shutil.disk_usage(parent).free, 3 * self.plan.num_frames * self.plan.width * self.plan.height
        if free < needed:
            reason = f"only {free / 2**20:.1f} MiB are free, {needed / 2**20:.0f} MiB are needed"
            raise OutputError(self.directory, reason, "free some space or choose another --output")

    def begin(self, placement: Placement) -> None:
        """Make the directory this Plan's: what is there of another sequence is removed, its own pictures stay."""
        try:
            kept = begun(self.directory)
        except OutputError:
            kept = None
        if kept is not None and not self._difference(kept, placement):
            return
        for path in self.directory.glob("*.png"):
            if _OURS.fullmatch(path.name):
                path.unlink()
        text = json.dumps(Begun(plan=self.plan, placement=placement).model_dump(mode="json"), indent=2, sort_keys=True)
        with staged(self._head, overwrite=True) as (part,):
            part.write_text(text + "\n", encoding="utf-8")

    def get(self, name: str) -> np.ndarray | None:
        """The picture (h, w, 3) uint8 of this name; None where there is none, or none that is whole and ours."""
        path = self._path(name)
        try:
            picture = read_picture(path)
            told = json.loads(read_comment(path) or "null")
        except (FlickbookError, ValueError, RecursionError):
            return None
        return picture if told == self._comment(name, picture) else None

    def put(self, name: str, picture: np.ndarray) -> None:
        """Save a picture whole. Raises OutputError."""
        write_png(self._path(name), picture, json.dumps(self._comment(name, picture), sort_keys=True), overwrite=True)

    @property
    def _head(self) -> Path:
        return self.directory / "sequence.json"

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.png"

    def _comment(self, name: str, picture: np.ndarray) -> dict[str, str]:
        return {"sequence": self._key, "picture": name, "sha256": frames_sha256(picture[None])}

    def _difference(self, kept: Begun, placement: Placement | None) -> str:
        """What another sequence has otherwise; "" for nothing."""
        pairs = [(name, getattr(kept.plan, name), getattr(self.plan, name)) for name in Plan.model_fields]
        if placement is not None:
            pairs += [(name, getattr(kept.placement, name), getattr(placement, name)) for name in _DECIDES]
        told = [f"{name} is {shown(old)!r} there, {shown(new)!r} here" for name, old, new in pairs if old != new]
        return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")


def begun(directory: Path) -> Begun | None:
    """What was begun in a directory; None where it is missing or empty.

    Raises OutputError for a directory that holds something else, or a description that cannot be read.
    """
    head = directory / "sequence.json"
    try:
        if not directory.exists() or all(path.name.startswith(".") for path in directory.iterdir()):
            return None
        if not head.exists():
            raise OutputError(directory, "holds files, but no sequence.json", _REMEDY)
        return Begun.from_json(head.read_bytes())
    except (OSError, FlickbookError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(head, f"cannot be read ({shown(error)})", _REMEDY) from None
