"""The recipe that a file carries, and the run that stands beside it."""

from __future__ import annotations

import json
from pathlib import Path

from flickbook.errors import FlickbookError
from flickbook.formats import frame_paths, is_frames
from flickbook.media.clip import sidecar_path
from flickbook.media.inspect import read_comment, read_recipe
from flickbook.media.write import MAX_COMMENT_BYTES, FilePath
from flickbook.spec import Recipe, Run


def carried(path: FilePath) -> tuple[Recipe, Run | None]:
    """The recipe of a film or picture, and what its run was, if that stands beside it.

    A recipe that is not in the file, as what was sent or converted has lost it, is taken from the sidecar. Numbered
    frames carry it in the first. Raises MediaError if there is none, or a damaged or a newer one.
    """
    beside, run = _sidecar(path)
    file = frame_paths(path, 1)[0] if is_frames(path) else Path(path)
    # What stands in the file is the first truth; a damaged or a newer recipe in it is not passed over.
    if beside is not None and read_comment(file) is None:
        return beside, run
    return read_recipe(file), run


def _sidecar(path: FilePath) -> tuple[Recipe | None, Run | None]:
    """What the sidecar of `path` holds; nothing if it is not there or not ours."""
    try:
        with open(sidecar_path(path), "rb") as file:
            text = file.read(2 * MAX_COMMENT_BYTES + 1)
        document = json.loads(text) if len(text) <= 2 * MAX_COMMENT_BYTES else {}
        parts = {name: json.dumps(document[name]) for name in ("recipe", "run") if document.get(name) is not None}
        recipe = Recipe.from_json(parts["recipe"]) if "recipe" in parts else None
        return recipe, Run.from_json(parts["run"]) if "run" in parts else None
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, FlickbookError):
        return None, None
