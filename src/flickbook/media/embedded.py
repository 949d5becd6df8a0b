"""The recipe embedded in a file, and the run in its sidecar."""

from __future__ import annotations

from pathlib import Path

from flickbook.errors import MediaError
from flickbook.formats import first_frame, is_frames
from flickbook.media.inspect import read_comment, read_sidecar, recipe_of
from flickbook.media.write import FilePath
from flickbook.spec import Recipe, Run, Sidecar


def carried(path: FilePath) -> tuple[Recipe, Run | None]:
    """Return the recipe of a film or image, and its run if there is a sidecar.

    If the file has lost its recipe, for example by conversion or upload, the recipe of the sidecar is returned.
    Numbered frames carry the recipe in the first frame. Raises MediaError if there is no recipe, or if it is damaged or
    of a newer schema.
    """
    file = first_frame(path) if is_frames(path) else Path(path)
    comment = read_comment(file)
    try:
        beside = read_sidecar(path)
    except MediaError:
        if comment is None:
            raise
        beside = Sidecar(recipe=None, run=None)
    if comment is None and beside.recipe is not None:
        return beside.recipe, beside.run
    # The recipe in the file takes precedence. If it is damaged or newer, that is an error, not a reason to use the
    # sidecar.
    return recipe_of(file, comment), beside.run
