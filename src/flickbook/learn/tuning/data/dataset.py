"""A dataset of captioned clips: which are usable, and what is done about the others.

All problems are reported before the training starts. It is refused only if no usable clip is left. The rules:

    a clip that is missing, damaged, too large or of a format that is not read      skipped
    an address instead of a path; a directory instead of a file                     skipped
    a clip without a caption, an empty caption, one that is not UTF-8 or over 64 KiB    skipped
    a line that is not a JSON object or a row of CSV, or that names no clip         skipped
    several captions for one clip                                                   used once with each
    one caption for several clips of the same name                                  used with each
    the same clip with the same caption again                                       used once
    a video of one frame                                                            used as a picture
    a video of more than 4096 frames                                                its first 4096 frames are used
    a caption file without a clip; a clip that the lists do not name                ignored
    lists of clips and captions that differ in length                               refused
    more than 100,000 files or entries; no layout; no usable clip                   refused

Of a video only the first frame is decoded here. Damage in a later frame is found by `frames.frames`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flickbook.errors import MediaError, RequestError
from flickbook.learn.tuning.data.entries import Entry, Listing, Problem
from flickbook.learn.tuning.data.layouts import listing
from flickbook.media.facts import Facts, facts_of
from flickbook.media.untrusted.sniff import DEFAULT_LIMITS
from flickbook.resolution import PROMPT_CHARACTERS

#: Frames of a video that are read, from its start.
MAX_FRAMES: Final = DEFAULT_LIMITS.frames


@dataclass(frozen=True)
class TrainingClip:
    """A video or a picture with one caption. Width and height are displayed pixels.

    A picture has 1 frame and 0 frames per second; a video of one frame keeps its rate.
    """

    path: Path
    caption: str
    num_frames: int
    fps: float
    width: int
    height: int


@dataclass(frozen=True)
class Dataset:
    """The usable clips of a directory, in order, and the problems of it. A clip occurs once for each caption."""

    directory: Path
    layout: str
    clips: tuple[TrainingClip, ...]
    problems: tuple[Problem, ...]


def read(
    directory: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    cache: Path | None = None,
    only_inside: bool = False,
) -> Dataset:
    """Read a dataset. Each file is opened once, in child processes with limits.

    `progress` is called with the number of files read and of all files. `cache` names a file that remembers what was
    read, for a second call; it belongs to this directory. With `only_inside`, the lists of an uploaded dataset name its
    own files only. Raises RequestError if there is no such directory, if it has no known layout or more than 100,000
    files, if its lists do not match, and if it has no usable clip.
    """
    if not directory.is_dir():
        limit = "not a directory" if directory.exists() else "no such directory"
        raise RequestError("dir", directory, limit, "name the directory of the dataset")
    found = listing(Path(os.path.abspath(directory)), only_inside)
    entries = _with_captions(found)
    facts = facts_of([entry.path for entry in entries], cache, progress)
    readable = _readable(found, entries, facts)
    clips = []
    for entry in _distinct(found, [entry for entry in entries if entry.path in readable]):
        each = readable[entry.path]
        clips.append(TrainingClip(entry.path, entry.caption, each.num_frames, each.fps, each.width, each.height))
    if not clips:
        raise RequestError("dir", directory, _without_clips(found), "correct these, and look again with --check")
    return Dataset(directory, found.layout, tuple(clips), tuple(found.problems))


def first_caption(directory: Path, only_inside: bool = False) -> str:
    """Return the first caption of a dataset without reading its clips, of the length that a prompt may have; "" without
    one. Raises RequestError as `read` does for the directory and its lists."""
    if not directory.is_dir():
        raise RequestError("dir", directory, "no such directory", "name the directory of the dataset")
    found = listing(Path(os.path.abspath(directory)), only_inside)
    return next((each.caption for each in found.entries if each.caption), "")[:PROMPT_CHARACTERS].rstrip()


def _with_captions(found: Listing) -> list[Entry]:
    """Return the entries with a caption, and tell the others."""
    for entry in found.entries:
        if not entry.caption:
            found.tell(entry.where, "its caption is empty")
    return [entry for entry in found.entries if entry.caption]


def _readable(found: Listing, entries: Iterable[Entry], facts: Mapping[Path, Facts | MediaError]) -> dict[Path, Facts]:
    """Return the facts of the readable files. Tell, once for each file, the others and those that are used in part."""
    first: dict[Path, Entry] = {}
    for entry in entries:
        first.setdefault(entry.path, entry)
    readable = {}
    for path, entry in first.items():
        each = facts[path]
        if isinstance(each, MediaError):
            found.tell(entry.where, f"{each.reason}; {each.remedy}")
            continue
        readable[path] = each
        if each.num_frames > MAX_FRAMES:
            found.tell(entry.where, f"has {each.num_frames} frames", f"its first {MAX_FRAMES} frames are used")
        elif each.num_frames == 1 and each.fps > 0:
            found.tell(entry.where, "a video of one frame", "used as a picture")
    return readable


def _distinct(found: Listing, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries, each clip with each caption once. Tell repeated ones, and clips with several captions."""
    captions: dict[Path, dict[str, Entry]] = defaultdict(dict)
    for entry in entries:
        first = captions[entry.path].setdefault(entry.caption, entry)
        if first is not entry:
            other = f" ({first.where})" if first.where != entry.where else ""
            found.tell(entry.where, f"listed before with the same caption{other}", "used once")
    for several in captions.values():
        if len(several) > 1:
            where = next(iter(several.values())).where
            found.tell(where, f"has {len(several)} captions", "used once with each")
    return [entry for entry in entries if captions[entry.path][entry.caption] is entry]


def _without_clips(found: Listing) -> str:
    if not found.problems:
        return "lists no clips"
    first, *others = found.problems
    more = f", and {len(others)} more {'problem' if len(others) == 1 else 'problems'}" if others else ""
    return f"has no usable clip: {first.where}: {first.reason}{more}"
