"""Facts of many videos and images: read by several child processes, and remembered in a cache file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flickbook.errors import MediaError
from flickbook.files import replace_whole
from flickbook.media.untrusted import probe

#: A child uses one processor; more of them than this rarely make a disk faster.
MAX_CHILDREN: Final = 8
#: Files for which one more child is started: its start takes as long as reading about so many.
_EACH: Final = 32
MAX_CACHE_BYTES: Final = 64 << 20
_VERSION: Final = 1


@dataclass(frozen=True)
class Facts:
    """Frames, displayed width and height (pixels) and frames per second of a video. An image has 1 frame and 0 fps."""

    num_frames: int
    width: int
    height: int
    fps: float


Progress = Callable[[int, int], None]


def facts_of(
    paths: Sequence[Path], cache: Path | None = None, progress: Progress | None = None
) -> dict[Path, Facts | MediaError]:
    """Return the Facts of each file, or the MediaError that tells why it cannot be read.

    Of a video the first frame is decoded, so that damage in later frames is found only when they are read; an image is
    decoded completely. `cache` names a JSON file: files whose size and time of modification are unchanged are taken
    from it, and it is written also if the call is interrupted. A cache that is damaged or cannot be written is ignored.
    `progress` is called with the number of files done and of all files. Raises LimitReached if no process can start.
    """
    stamps = {path: _stamp(path) for path in dict.fromkeys(paths)}
    remembered = _load(cache, stamps)
    found: dict[Path, Facts | MediaError] = dict(remembered)
    missing = [path for path in stamps if path not in found]
    if progress is not None:
        progress(len(found), len(stamps))
    try:
        if missing:
            _read(missing, found, len(stamps), progress)
    finally:
        if missing and cache is not None:
            _save(cache, stamps, found)
    return {path: found[path] for path in stamps}


def _read(paths: Sequence[Path], found: dict[Path, Facts | MediaError], total: int, progress: Progress | None) -> None:
    """Add the facts of `paths` to `found`."""
    children = min(1 + len(paths) // _EACH, MAX_CHILDREN, os.cpu_count() or 1)
    with (
        closing(probe.Pool(children, waiting=0)) as pool,
        ThreadPoolExecutor(children, thread_name_prefix="facts") as threads,
    ):
        reading = {threads.submit(_facts, pool, path): path for path in paths}
        try:
            for future in as_completed(reading):
                found[reading[future]] = future.result()
                if progress is not None:
                    progress(len(found), total)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            pool.close()
            raise


def _facts(pool: probe.Pool, path: Path) -> Facts | MediaError:
    try:
        *_, last = pool.stream("clip_facts", path, probe.IMAGE)
    except MediaError as error:
        return error
    frames, width, height, rate = last.value
    return Facts(int(frames), int(width), int(height), float(rate))


def _stamp(path: Path) -> list[int] | None:
    """Return the size and time of modification of a file; None if there is none."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _load(cache: Path | None, stamps: Mapping[Path, list[int] | None]) -> dict[Path, Facts]:
    """Return the remembered facts of the files that have not changed since."""
    if cache is None:
        return {}
    try:
        with open(cache, "rb") as file:
            text = file.read(MAX_CACHE_BYTES + 1)
        document = json.loads(text) if len(text) <= MAX_CACHE_BYTES else {}
        if document["version"] != _VERSION:
            return {}
        files = dict(document["files"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return {}
    found = {}
    for path, stamp in stamps.items():
        values = files.get(os.path.abspath(path))
        if stamp is not None and isinstance(values, list) and values[:2] == stamp:
            facts = _valid(values[2:])
            if facts is not None:
                found[path] = facts
    return found


def _valid(values: list[Any]) -> Facts | None:
    """Return remembered facts if they are possible ones."""
    try:
        frames, width, height, rate = values
        facts = Facts(int(frames), int(width), int(height), float(rate))
    except (TypeError, ValueError, OverflowError):
        return None
    return facts if min(facts.num_frames, facts.width, facts.height) >= 1 and 0 <= facts.fps <= 1000 else None


def _save(cache: Path, stamps: Mapping[Path, list[int] | None], found: Mapping[Path, Facts | MediaError]) -> None:
    files = {}
    for path, facts in found.items():
        stamp = stamps[path]
        if isinstance(facts, Facts) and stamp is not None:
            files[os.path.abspath(path)] = [*stamp, facts.num_frames, facts.width, facts.height, facts.fps]
    text = json.dumps({"version": _VERSION, "files": files})
    with suppress(OSError):  # the cache saves time, so a full disk is no reason to stop
        cache.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(cache, lambda path: path.write_text(text, encoding="ascii"))
