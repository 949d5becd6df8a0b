"""The four layouts of a dataset's directory, and how its files are paired with captions.

    metadata      metadata.jsonl or metadata.csv, also in subdirectories, with a path in `file_name` (Hugging Face)
    musubi        *.jsonl with a path in `video_path` or `image_path` (musubi-tuner)
    lists         videos.txt or images.txt, and prompts.txt, with one path and one caption a line (finetrainers)
    pairs         a.mp4 and a.txt or a.caption beside it, also in subdirectories

The first layout that a directory has, in this order, is used. Hidden files and directories are not read, nor are
directories behind symbolic links. Paths are absolute, or relative to the directory of the file that lists them, and
those in `*_path` columns also to the working directory; they may lead out of the dataset. Addresses are refused.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from flickbook.errors import RequestError, shown
from flickbook.learn.tuning.data.entries import (
    IGNORED,
    MAX_CAPTION_BYTES,
    MAX_FILES,
    MAX_LIST_BYTES,
    Entry,
    Listing,
    Unusable,
    caption_of,
    confined,
    located,
    text_of,
)

#: Suffixes of files that count as clips. Formats that cannot be read are included, so that such files are reported.
CLIP_SUFFIXES: Final = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".webp", ".apng", ".png", ".jpg", ".jpeg", ".bmp")
    + (".tif", ".tiff", ".avif", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".ogv", ".heic", ".heif", ".jxl")
)
CAPTION_SUFFIXES: Final = (".txt", ".caption")
METADATA_NAMES: Final = ("metadata.jsonl", "metadata.csv")
CLIP_LISTS: Final = ("videos.txt", "video.txt", "images.txt", "image.txt")
CAPTION_LISTS: Final = ("prompts.txt", "prompt.txt", "captions.txt", "caption.txt")
_MUSUBI_COLUMNS: Final = ("video_path", "image_path")
PATH_COLUMNS: Final = ("file_name", *_MUSUBI_COLUMNS, "video_file_name", "image_file_name", "video", "image")
CAPTION_COLUMNS: Final = ("caption", "text", "prompt")
_NOT_AN_OBJECT: Final = 'not a JSON object, such as {"file_name": "a.mp4", "text": "a caption"}'
_SEPARATORS: Final = ",;\t"
_EXPECTED: Final = (
    "put a.txt beside a.mp4, or list the clips in metadata.jsonl, metadata.csv, or videos.txt and prompts.txt"
)


def listing(directory: Path, only_inside: bool = False) -> Listing:
    """Return the entries that the files of a directory list, and the problems of these files.

    With `only_inside`, lists name files of the directory, and the directories in their paths are ignored.

    Raises RequestError if the directory has none of the layouts, more than MAX_FILES files or entries, or lists that do
    not match.
    """
    found = Listing(directory, only_inside)
    files = _files(found)
    clips = [path for path in files if path.suffix.lower() in CLIP_SUFFIXES]
    if sources := _metadata(found, files):
        found.layout = "musubi" if _is_musubi(sources[0]) else "metadata"
        for source in sources:
            _read_metadata(found, source)
    elif lists := _lists(directory, files):
        found.layout = "lists"
        sources = list(lists)
        _read_lists(found, *lists)
    elif clips:
        found.layout = "pairs"
        _read_pairs(found, files)
        return found
    else:
        limit = f"cannot be read as a dataset: {found.problems[0]}" if found.problems else "holds no dataset"
        raise RequestError("dir", directory, limit, _EXPECTED)
    listed = {entry.path for entry in found.entries}
    unlisted = [path for path in clips if path not in listed]
    if unlisted and found.entries:
        others = f" and {len(unlisted) - 1} more are" if len(unlisted) > 1 else " is"
        found.tell(found.name(unlisted[0]), f"this clip{others} not listed in {found.name(sources[0])}", IGNORED)
    return found


def _files(found: Listing) -> list[Path]:
    """Return the files of the directory and its subdirectories, sorted, without hidden ones."""
    files: list[Path] = []

    def unreadable(error: OSError) -> None:
        found.tell(found.name(Path(str(error.filename))), f"cannot be read ({shown(error.strerror or error)})")

    for folder, folders, names in os.walk(found.directory, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        if len(files) > MAX_FILES:
            limit = f"holds more than {MAX_FILES} files"
            raise RequestError("dir", found.directory, limit, "name the directory of one dataset, or split it")
    return files


def _metadata(found: Listing, files: Sequence[Path]) -> list[Path]:
    """Return the metadata files of a directory: those of Hugging Face, or else those of musubi-tuner in its root."""
    named: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        if path.name.lower() in METADATA_NAMES:
            named[path.parent].append(path)
    chosen = []
    for paths in named.values():
        first, *others = sorted(paths, key=lambda path: METADATA_NAMES.index(path.name.lower()))
        chosen.append(first)
        for path in others:
            found.tell(found.name(path), f"{first.name} lists the clips of this directory", IGNORED)
    if chosen:
        return chosen
    return [path for path in files if path.parent == found.directory and _is_musubi(path)]


def _is_musubi(path: Path) -> bool:
    """Whether a file holds JSON lines whose first object has a column of musubi-tuner."""
    if path.suffix.lower() != ".jsonl":
        return False
    try:
        text = text_of(path, MAX_LIST_BYTES)
    except Unusable:
        return False
    for line in text.split("\n"):
        values = _parsed(line)
        if values is not None:
            return any(column in values for column in _MUSUBI_COLUMNS)
    return False


def _read_metadata(found: Listing, source: Path) -> None:
    """Add the entries of a file of JSON lines or of CSV."""
    name = found.name(source)
    try:
        text = text_of(source, MAX_LIST_BYTES)
        rows = _csv_rows(text) if source.suffix.lower() == ".csv" else _json_rows(text)
        for line, values in rows:
            where = f"{name} line {line}"
            if isinstance(values, str):
                found.tell(where, values)
            else:
                _read_row(found, where, values, source.parent)
    except Unusable as error:
        found.tell(name, str(error))


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield each line's number and its object, or what is wrong with it."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            values = _parsed(line)
            yield number, _NOT_AN_OBJECT if values is None else values


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield each row's line number and its values by column, or what is wrong with it. Raises Unusable."""
    header = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] = []
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, f"not a row of CSV ({shown(error)})"
            continue
        if row is None:
            return
        if not columns:
            columns = [column.strip() for column in row]
            for wanted in (PATH_COLUMNS, CAPTION_COLUMNS):
                if not set(wanted) & set(columns):
                    raise Unusable(f"its first line names no column {_either(wanted)}")
        elif row and len(row) != len(columns):
            yield (
                reader.line_num,
                f"{len(row)} values for {len(columns)} columns; quote a caption that holds {separator!r}",
            )
        elif row:
            yield reader.line_num, dict(zip(columns, row, strict=True))


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _read_row(found: Listing, where: str, values: dict[str, Any], folder: Path) -> None:
    """Add the entries of one row: one for each of its captions."""
    column = next((name for name in PATH_COLUMNS if values.get(name)), None)
    if column is None:
        found.tell(where, f"has none of {_either(PATH_COLUMNS)}")
        return
    text_column = next((name for name in CAPTION_COLUMNS if values.get(name) is not None), None)
    texts = "" if text_column is None else values[text_column]
    texts = texts if isinstance(texts, list) and texts else [texts]
    if not isinstance(values[column], str) or not all(isinstance(text, str) for text in texts):
        found.tell(where, "its path or its caption is not a text")
        return
    where = f"{where}, {values[column]}"
    folders = (folder, Path.cwd()) if column.endswith("_path") else (folder,)
    for text in texts:
        _add(found, where, values[column], text, folders)


def _add(found: Listing, where: str, name: str, text: str, folders: Sequence[Path]) -> None:
    """Add one entry, or the problem that its path or its caption has."""
    if len(found.entries) >= MAX_FILES:
        limit = f"lists more than {MAX_FILES} clips"
        raise RequestError("dir", found.directory, limit, "split the dataset")
    try:
        path = located(confined(name), found.directory) if found.confined else located(name, *folders)
        found.entries.append(Entry(where, path, caption_of(text)))
    except Unusable as error:
        found.tell(where, str(error))


def _lists(directory: Path, files: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return the list of clips and the list of captions of a directory, if it has one. Raises RequestError."""
    root = [path for path in files if path.parent == directory]
    # A list of clips has no clip of its own name beside it: video.mp4 and video.txt are a pair.
    stems = {path.stem for path in root if path.suffix.lower() in CLIP_SUFFIXES}
    free = {path.name.lower(): path for path in root if path.stem not in stems}
    clips = [free[name] for name in CLIP_LISTS if name in free]
    captions = [free[name] for name in CAPTION_LISTS if name in free]
    if not clips:
        return None
    if len(clips) > 1 or len(captions) > 1:
        limit = f"holds {' and '.join(path.name for path in (clips if len(clips) > 1 else captions))}"
        raise RequestError("dir", directory, limit, "keep one list of clips and one of captions in a directory")
    if not captions:
        limit = f"holds {clips[0].name} and no captions"
        raise RequestError("dir", directory, limit, "add prompts.txt with one caption a line")
    return clips[0], captions[0]


def _read_lists(found: Listing, clips: Path, captions: Path) -> None:
    """Add the entries of two lists. Raises RequestError if they differ in length: no caption would be certain."""
    lines = []
    for path in (clips, captions):
        try:
            lines.append(text_of(path, MAX_LIST_BYTES).split("\n"))
        except Unusable as error:
            raise RequestError("dir", found.directory, f"{path.name}: {error}", "correct the file") from None
    names, texts = lines
    while names and not names[-1].strip():
        names.pop()
    while len(texts) > len(names) and not texts[-1].strip():
        texts.pop()
    if len(names) != len(texts):
        limit = f"{clips.name} has {len(names)} lines, and {captions.name} has {len(texts)}"
        raise RequestError("dir", found.directory, limit, "write one caption for each clip, in the same order")
    for number, (name, text) in enumerate(zip(names, texts, strict=True), 1):
        where = f"{clips.name} line {number}"
        if name.strip():
            _add(found, f"{where}, {name.strip()}", name.strip(), text, (clips.parent,))
        elif text.strip():
            found.tell(where, f"empty, and {captions.name} has a caption in this line")


def _read_pairs(found: Listing, files: Sequence[Path]) -> None:
    """Add an entry for every clip with a caption file of the same name beside it."""
    clips: dict[Path, list[Path]] = defaultdict(list)
    captions: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in CLIP_SUFFIXES:
            clips[path.with_suffix("")].append(path)
        elif path.suffix.lower() in CAPTION_SUFFIXES:
            captions[path.with_suffix("")].append(path)
    for stem, paths in clips.items():
        if stem in captions and len(paths) > 1:
            names = _names(paths)
            found.tell(found.name(captions[stem][0]), f"the caption of {names}", "used with each")
        for path in paths:
            if stem not in captions:
                found.tell(found.name(path), f"has no caption file {stem.name}.txt or {stem.name}.caption")
            for caption in captions.get(stem, ()):
                _add_pair(found, path, caption)
    for stem, paths in captions.items():
        if stem not in clips:
            for path in paths:
                found.tell(found.name(path), "a text without a clip of this name", IGNORED)


def _names(paths: Sequence[Path]) -> str:
    return f"{', '.join(path.name for path in paths[:-1])} and {paths[-1].name}"


def _add_pair(found: Listing, clip: Path, caption: Path) -> None:
    try:
        text = caption_of(text_of(caption, MAX_CAPTION_BYTES))
    except Unusable as error:
        found.tell(found.name(caption), str(error), "its clip is skipped")
        return
    found.entries.append(Entry(found.name(clip), clip, text))
