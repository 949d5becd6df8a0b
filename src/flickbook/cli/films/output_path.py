"""Output paths of films: their names, and early checks that they can be written."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from flickbook.cli import console
from flickbook.errors import OutputError

if TYPE_CHECKING:
    from flickbook.media.clip import Clip
    from flickbook.spec import Container, Plan

SLUG_CHARACTERS = 40
#: Free bytes required per file; a built-in film is a tenth of it.
BYTES_A_FILE = 4 * 2**20
#: The longest file name in bytes on common file systems, less what a temporary name and ".json" add.
NAME_BYTES = 255 - 32


def slug(prompt: str) -> str:
    """Convert `prompt` to a file name of at most 40 characters: a-z, 0-9 and single hyphens; "film" if empty."""
    ascii_text = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode("ascii").lower()
    words = re.findall(r"[a-z0-9]+", ascii_text)
    name = ""
    for word in words:
        longer = f"{name}-{word}" if name else word[:SLUG_CHARACTERS]
        if len(longer) > SLUG_CHARACTERS:
            break
        name = longer
    return name or "film"


def targets(output: Path | None, directory: Path, prompt: str, seeds: list[int], container: Container) -> list[Path]:
    """Return one path per seed: `output`, numbered from 1 if there are several, or names of time, prompt and seed."""
    from flickbook.formats import FORMS  # lazy: pydantic takes a moment to import

    if output is None:
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{slug(prompt)}"
        # Numbered frames get a directory of their own.
        ending = "/frame-%04d.png" if container == "frames" else FORMS[container].suffixes[0]
        return [_free(directory / f"{stem}-{seed}{ending}") for seed in seeds]
    if len(seeds) == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, len(seeds) + 1)]


def directory(out: Path | None, parent: Path, prompt: str, seed: int, suffix: str) -> Path:
    """Return the directory for a film's report: `out`, or a free name of time, prompt, seed and `suffix`."""
    if out is not None:
        return out
    return _free(parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{slug(prompt)}-{seed}-{suffix}")


def _free(path: Path) -> Path:
    """Return `path`, with a number added if it exists: an automatic name must not be refused."""
    candidate, number = path, 2
    while os.path.lexists(candidate):
        candidate, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return candidate


def of_seed(path: Path, seed: int, clip: Clip) -> Path:
    """Return `path` with `seed` in its name, if the name was automatic and a retry with another seed was better."""
    better = getattr(clip.recipe.plan, "seed", seed) if clip.recipe is not None else seed
    ending = f"-{seed}{path.suffix}"
    if better == seed or not re.fullmatch(rf"[0-9]{{8}}-[0-9]{{6}}-.*{re.escape(ending)}", path.name):
        return path
    return _free(path.with_name(path.name.removesuffix(ending) + f"-{better}{path.suffix}"))


def check(films: list[Path], num_frames: int, sheets: list[Path], overwrite: bool) -> None:
    """Raises OutputError unless every film, of `num_frames` frames, and every sheet could be written now.

    Leaves nothing behind.
    """
    from flickbook.media.clip import check_save, sidecar_path
    from flickbook.media.write import check_target

    paths = films + sheets
    for path in paths:
        if len(os.fsencode(path.name)) > NAME_BYTES:
            raise OutputError(path, f"has a name longer than {NAME_BYTES} bytes", "choose a shorter name")
        if paths.count(path) > 1:
            raise OutputError(path, "is named twice", "give each file its own name")
    for place in [*paths, *map(sidecar_path, films)]:
        if os.path.lexists(place) and not place.is_dir() and not overwrite:
            raise OutputError(place, "exists already", "choose another name or add --overwrite")
    for film in films:
        check_save(film, num_frames, overwrite=overwrite)
    for sheet in sheets:
        check_target(sheet, overwrite=overwrite)
    for parent in dict.fromkeys(_parent(path) for path in paths):
        _check_space(parent, len(paths))


def announce(films: list[Path]) -> None:
    """Print a note for each directory that saving `films` makes."""
    for missing in dict.fromkeys(path.parent for path in films if not path.parent.exists()):
        console.note(f"creating the directory {missing}")


def check_plan(plan: Plan, films: list[Path], sheets: list[Path], overwrite: bool) -> None:
    """`check` for films of a Plan, and that this machine can encode them. Raises OutputError, RequestError."""
    from flickbook import formats
    from flickbook.engine.polish import finished
    from flickbook.media.encode import check_encoder
    from flickbook.media.write import frame_rate

    num_frames, height, width, fps = finished(plan)
    check(films, num_frames, sheets, overwrite)
    how = formats.encoding(plan.container, plan.codec, plan.quality, plan.pixel_format, num_frames=num_frames, fps=fps)
    if num_frames > 1:
        check_encoder(how, height, width, frame_rate(fps))


def _parent(path: Path) -> Path:
    """Return the nearest existing directory; missing ones below it are created when the film is written."""
    parent = path.absolute().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    return parent


def _check_space(directory: Path, files: int) -> None:
    """Check free space by writing a byte, because permission bits do not reveal read-only and full file systems."""
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"\0")
            probe.flush()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise OutputError(directory, error.strerror or str(error), "choose a directory that you may write to") from None
    needed = files * BYTES_A_FILE
    if free < needed:
        reason = f"only {free / 2**20:.1f} MiB are free, {needed / 2**20:.0f} MiB are needed"
        raise OutputError(directory, reason, "free some space or choose another --output")
