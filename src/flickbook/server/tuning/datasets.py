"""Uploaded datasets: their files are stored under safe names in one directory. A name from a client is never a path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from starlette.datastructures import FormData, UploadFile

from flickbook.errors import OutputError, RequestError
from flickbook.learn.tuning.data.entries import plain_name
from flickbook.learn.tuning.data.layouts import CAPTION_SUFFIXES, CLIP_SUFFIXES
from flickbook.server.service import MAX_DATASET_FILES

FILES: Final = "files"
#: The file of the prior prompts, beside the directory of the clips.
PRIOR: Final = "prior.txt"
_LIST_SUFFIXES: Final = (".jsonl", ".csv")
_SUFFIXES: Final = frozenset((*CLIP_SUFFIXES, *CAPTION_SUFFIXES, *_LIST_SUFFIXES))
#: Bytes of a file's name, and of a text file.
_NAME_BYTES: Final = 200
_TEXT_BYTES: Final = 16 << 20
_COPIED: Final = 1 << 20


def sent(form: FormData) -> list[UploadFile]:
    """Return the files of a form. Raises RequestError if there are none, or one was sent in another part."""
    found = []
    for name, value in form.multi_items():
        if name == "request":
            continue
        if isinstance(value, str) or not (value.filename or value.size):
            continue  # a browser sends an empty file if none was chosen
        if name not in (FILES, f"{FILES}[]"):
            raise RequestError(name, value.filename, "is not a file field", f"send each file as {FILES}")
        found.append(value)
    if not found:
        limit = "missing from the form"
        raise RequestError(FILES, "", limit, f"send clips and captions, 1 to {MAX_DATASET_FILES} files, in parts files")
    return found


def safe_name(name: str) -> str:
    """Return the name under which an uploaded file is stored: without directories, and with plain characters.

    Raises RequestError for a hidden file, a suffix that no dataset has, and a name of more than 200 bytes.
    """
    base = plain_name(name)
    if not base or base.startswith("."):
        raise RequestError(FILES, name, "is not a file name, or that of a hidden file", "leave this file out")
    if len(os.fsencode(base)) > _NAME_BYTES:
        raise RequestError(FILES, name, f"a name of more than {_NAME_BYTES} bytes", "shorten it")
    if os.path.splitext(base)[1].lower() not in _SUFFIXES:
        limit = "is neither a clip nor a caption"
        raise RequestError(FILES, name, limit, "send videos, pictures, .txt or .caption files, metadata.jsonl or .csv")
    return base


def keep(files: Sequence[UploadFile], place: Path) -> None:
    """Write uploaded files into the new directory `place`. Blocks. Raises RequestError, OutputError."""
    names: dict[str, UploadFile] = {}
    for upload in files:
        name = safe_name(upload.filename or "")
        if name.casefold() in (each.casefold() for each in names):
            raise RequestError(FILES, name, "is sent twice", "send each file once, under a name of its own")
        if os.path.splitext(name)[1].lower() not in CLIP_SUFFIXES and (upload.size or 0) > _TEXT_BYTES:
            raise RequestError(FILES, name, f"a text of more than {_TEXT_BYTES >> 20} MiB", "shorten it")
        names[name] = upload
    with _storing(place):
        place.mkdir(mode=0o700)
        for name, upload in names.items():
            _write(place / name, upload.file)


def keep_prompts(prompts: Sequence[str], path: Path) -> None:
    """Write prompts, each of one line, into a new file. Blocks. Raises OutputError."""
    with _storing(path):
        _write(path, BytesIO("\n".join(prompts).encode()))


def _write(path: Path, content: BinaryIO) -> None:
    with open(path, "xb") as file:
        shutil.copyfileobj(content, file, _COPIED)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _storing(place: Path) -> Iterator[None]:
    """Report errors without the directory, which is private."""
    try:
        yield
    except OSError as error:
        raise OutputError(place.name, error.strerror or str(error), "free disk space, then send it again") from None


@contextmanager
def about_files(count: int) -> Iterator[None]:
    """Report errors about the dataset's directory, which is private, under the name of the form's parts."""
    try:
        yield
    except RequestError as error:
        if error.field != "dir":
            raise
        raise RequestError(FILES, f"{count} files", error.limit, error.remedy.replace("--check", "check")) from None
