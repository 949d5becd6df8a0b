"""The recipe that a file carries, and the run that stands beside it."""

from __future__ import annotations

from pathlib import Path

from flickbook.errors import MediaError
from flickbook.formats import frame_paths, is_frames
from flickbook.media.inspect import read_comment, read_sidecar, recipe_of
from flickbook.media.write import FilePath
from flickbook.spec import Recipe, Run, Sidecar


def carried(path: FilePath) -> tuple[Recipe, Run | None]:
    """The recipe of a film or picture, and what its run was, if that stands beside it.

    A recipe that is not in the file, as what was sent or converted has lost it, is taken from the sidecar. Numbered
    frames carry it in the first. Raises MediaError if there is none, or a damaged or a newer one.
    """
    file = frame_paths(path, 1)[0] if is_frames(path) else Path(path)
    comment = read_comment(file)
    try:
        beside = read_sidecar(path)
    except MediaError:
        if comment is None:
            raise
        beside = Sidecar(recipe=None, run=None)
    if comment is None and beside.recipe is not None:
        return beside.recipe, beside.run
    # What stands in the file is the first truth; a damaged or a newer recipe in it is not passed over.
    return recipe_of(file, comment), beside.run
