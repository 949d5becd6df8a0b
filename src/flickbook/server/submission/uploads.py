"""Uploaded files: checked by their headers, and stored with the job that uses them."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import IO, Final, Literal

from flickbook.errors import MediaError, OutputError, RequestError
from flickbook.files import replace_whole
from flickbook.media.untrusted import probe
from flickbook.media.untrusted.sniff import DEFAULT_LIMITS, sniff, sniff_sound

Kind = Literal["picture", "film", "either", "sound"]
#: The most bytes of an image in a data: URL.
MAX_INLINE: Final = 12 << 20
#: Threads that wait while uploaded files are read, so that no other request waits for the loop's own threads.
#: There are more of them than callers that `probe` lets wait; further callers are refused at once.
READERS: Final = ThreadPoolExecutor(probe.CHILDREN + probe.WAITING + 16, "readers")
_HEAD: Final = 64
_COPIED: Final = 1 << 20
_DATA: Final = re.compile(r"data:(image/[a-z0-9.+-]{1,40});base64,", re.ASCII | re.IGNORECASE)
_SUFFIXES: Final = {"jpeg": ".jpg", "matroska": ".mkv", "apng": ".png"}


def inline(field: str, url: str) -> BytesIO:
    """Decode an image in a data: URL. Raises RequestError, also for any other URL: the service fetches none."""
    match = _DATA.match(url[:80])
    if match is None:
        limit = "is not a data: URL of an image, and the service opens no other address"
        raise RequestError(field, url, limit, "send the file itself, or data:image/png;base64,…")
    if len(url) > MAX_INLINE * 4 // 3 + 80:
        raise RequestError(field, match[0], f"has more than {MAX_INLINE >> 20} MiB", "send the file itself")
    try:
        return BytesIO(base64.b64decode(url[match.end() :], validate=True))
    except (binascii.Error, ValueError):
        raise RequestError(field, match[0], "is not base64", "encode it again") from None


def keep(field: str, source: IO[bytes], place: Path, stem: str, kind: Kind) -> Path:
    """Write an uploaded file into `place` as `stem` with the suffix of its format, atomically and synced. Blocks.

    Raises RequestError that names the `field` for a file that is no image, film or sound or is too large, OutputError,
    and LimitReached if too many callers wait for the process that reads it.
    """
    head = source.read(_HEAD)
    form = sniff_sound(head) if kind == "sound" else sniff(head)
    if form is None:
        limit = "is empty" if not head else f"is not a supported {kind}"
        remedy = "send WAV, FLAC, MP3, Ogg or M4A" if kind == "sound" else "send PNG or JPEG, or a film as H.264 MP4"
        raise RequestError(field, head[:12], limit, remedy)
    path = place / f"{stem}{_SUFFIXES.get(form.name, f'.{form.name}')}"

    def write(draft: Path) -> None:
        with open(draft, "wb") as file:
            file.write(head)
            shutil.copyfileobj(source, file, _COPIED)

    try:
        replace_whole(path, write)
        # A child process reads the header, and decodes the first frame, or all of a sound.
        if kind == "sound":
            probe.ask("sound_facts", path, probe.IMAGE)
        elif kind == "film" or (kind == "either" and form.moves):
            probe.ask("facts", path, limits=asdict(DEFAULT_LIMITS))
        else:
            probe.ask("size", path, probe.IMAGE)
    except MediaError as error:
        path.unlink(missing_ok=True)
        # Without the error's path, which is private.
        raise RequestError(field, form.name, error.reason, error.remedy) from None
    except OSError as error:
        raise OutputError(path.name, error.strerror or str(error), "free disk space, then send it again") from None
    return path


def again(path: Path, place: Path, stem: str, field: str = "video") -> Path:
    """Copy or link another job's file into `place`, so that it outlives that job. Blocks.

    Raises RequestError that names the `field` if the file is gone, and OutputError.
    """
    target = place / f"{stem}{path.suffix}"
    try:
        # Files in the artifact store are never modified, so a hard link is safe.
        if path.parents[2] == place.parents[1]:
            os.link(path, target)
        else:
            replace_whole(target, lambda draft: shutil.copyfile(path, draft))
    except FileNotFoundError:
        raise RequestError(field, path.name, "its file was deleted", "start from another job") from None
    except OSError as error:
        raise OutputError(path.name, error.strerror or str(error), "free disk space, then try again") from None
    return target
