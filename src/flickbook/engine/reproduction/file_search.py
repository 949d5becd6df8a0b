"""File search: looks for the input files that a Recipe names by SHA-256."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flickbook import conditioning, formats
from flickbook.errors import MediaError
from flickbook.formats import digest
from flickbook.spec import Plan, Treatment

#: Formats that are read but never written.
_READ: Final = (".bmp", ".tif", ".tiff", ".m4v", ".mov", ".avi", ".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
#: Limits of the search in a directory: number of files, and bytes of each.
FILES: Final = 500
BYTES: Final = 4 << 30
_SUFFIXES: Final = frozenset({*formats.SUFFIXES, *_READ, ".safetensors"})


@dataclass(frozen=True)
class RequiredFile:
    """A file that a Recipe needs: its role in the film ("image", "LoRA ink"), and its SHA-256."""

    role: str
    sha256: str


def required_files(plan: Plan | Treatment) -> list[RequiredFile]:
    """The files that a Plan needs in addition to its model."""
    found = []
    if isinstance(plan, Plan):
        found += [RequiredFile(role.replace("_", " "), digest) for role, digest in conditioning.files(plan)]
    else:
        found += [RequiredFile("source", digest) for digest in plan.sources]
    for each in (plan, *(shot.plan for shot in plan.shots)) if isinstance(plan, Plan) else (plan,):
        if isinstance(each, Plan):
            found += [RequiredFile(f"LoRA {lora.name}", lora.sha256) for lora in each.loras]
        elif each.track():
            found.append(RequiredFile("audio", each.track()))
        networks = (("interpolator", each.polish.interpolator), ("upscaler", each.polish.upscaler))
        found += [RequiredFile(f"{role} {net.name}", net.sha256) for role, net in networks if net is not None]
    return found


@dataclass(frozen=True)
class FileSearch:
    """The files found, by SHA-256, and a sentence for each one that was not found."""

    found: Mapping[str, Path]
    missing: tuple[str, ...]


def gather(
    plan: Plan | Treatment, film: Path, paths: Iterable[Path] = (), known: Mapping[str, str] | None = None
) -> FileSearch:
    """Look for the input files of `plan`: among `paths`, at the paths in its Run (`known`), and next to `film`.

    Raises MediaError for a file in `paths` that cannot be read.
    """
    required, known = required_files(plan), known or {}
    if not required:
        return FileSearch({}, ())
    hashes = {each.sha256 for each in required}
    found: dict[str, Path] = {}
    for path in paths:
        try:
            found.setdefault(digest(path), path)
        except OSError as error:
            raise MediaError(path, error.strerror or "cannot be read", "check the path") from None
    others = {each: path for each, path in found.items() if each not in hashes}
    changed: dict[str, tuple[Path, str]] = {}
    for each in hashes - set(found):
        place = Path(known.get(each, ""))
        if each in known and (here := _digest(place)) is not None:
            found.setdefault(here, place)
            if here != each:
                changed[each] = (place, here)
    for path in _near(film):
        if hashes <= set(found):
            break
        if (here := _digest(path)) is not None:
            found.setdefault(here, path)
    missing = [_missing_text(each, changed, others) for each in required if each.sha256 not in found]
    return FileSearch({each: path for each, path in found.items() if each in hashes}, tuple(missing))


def _missing_text(required: RequiredFile, changed: Mapping[str, tuple[Path, str]], others: Mapping[str, Path]) -> str:
    if required.sha256 in changed:
        path, here = changed[required.sha256]
        return f"the {required.role} was changed: {path} has SHA-256 {here}, the recipe says {required.sha256}"
    for here, path in others.items():
        return f"the {required.role} is a different file: {path} has SHA-256 {here}, the recipe says {required.sha256}"
    return f"the {required.role} with SHA-256 {required.sha256} was not found; name it with --input"


def _digest(path: Path) -> str | None:
    """The SHA-256 of a regular file of limited size; None for anything else."""
    try:
        first = formats.first_frame(path) if formats.is_frames(path) else path
        return digest(path) if first.is_file() and first.stat().st_size <= BYTES else None
    except OSError:
        return None


def _near(film: Path) -> Iterator[Path]:
    """The images, films, sounds and weights in the film's directory."""
    try:
        with os.scandir(film.parent) as entries:
            names = sorted(each.name for each in entries if Path(each.name).suffix.lower() in _SUFFIXES)
    except OSError:
        return
    yield from (film.parent / name for name in names[:FILES])
