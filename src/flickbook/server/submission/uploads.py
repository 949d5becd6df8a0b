"""Files that come with a request: judged by their headers, and kept beside the job that begins from them."""

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
from flickbook.media.untrusted.sniff import DEFAULT_LIMITS, sniff

Kind = Literal["picture", "film"]
#: Bytes of a picture in a data: URL.
MAX_INLINE: Final = 12 << 20
#: Threads that wait while files that were sent are read, so that no other request waits for one of the loop's own
#: threads. They are more than the callers that `probe` lets wait: further ones are refused at once.
READERS: Final = ThreadPoolExecutor(probe.CHILDREN + probe.WAITING + 16, "readers")
_HEAD: Final = 64
_COPIED: Final = 1 << 20
_DATA: Final = re.compile(r"data:(image/[a-z0-9.+-]{1,40});base64,", re.ASCII | re.IGNORECASE)
_SUFFIXES: Final = {"jpeg": ".jpg", "matroska": ".mkv", "apng": ".png"}


def inline(field: str, url: str) -> BytesIO:
    """The bytes of a picture in a data: URL. Raises RequestError, also for any other address: none is opened."""
    match = _DATA.match(url[:80])
    if match is None:
        limit = "is no data: URL of a picture, and no other address is opened"
        raise RequestError(field, url, limit, "send the file itself, or data:image/png;base64,…")
    if len(url) > MAX_INLINE * 4 // 3 + 80:
        raise RequestError(field, match[0], f"has more than {MAX_INLINE >> 20} MiB", "send the file itself")
    try:
        return BytesIO(base64.b64decode(url[match.end() :], validate=True))
    except (binascii.Error, ValueError):
        raise RequestError(field, match[0], "is not base64", "encode it again") from None


def keep(field: str, source: IO[bytes], place: Path, stem: str, kind: Kind) -> Path:
    """Write a file that was sent into `place` under `stem` and the suffix of what it is; whole, and on the disk.

    It blocks. Raises RequestError, naming the `field`, for what is no picture or film, or too large a one, OutputError.
    """
    head = source.read(_HEAD)
    form = sniff(head)
    if form is None:
        limit = "is empty" if not head else f"is no {kind} that is read"
        raise RequestError(field, head[:12], limit, "send PNG or JPEG, or a film as H.264 MP4")
    path = place / f"{stem}{_SUFFIXES.get(form.name, f'.{form.name}')}"

    def write(draft: Path) -> None:
        with open(draft, "wb") as file:
            file.write(head)
            shutil.copyfileobj(source, file, _COPIED)

    try:
        replace_whole(path, write)
        judge(path, kind)
    except MediaError as error:
        path.unlink(missing_ok=True)
        # The error names the file as it lies here, which is nobody's business.
        raise RequestError(field, form.name, error.reason, error.remedy) from None
    except OSError as error:
        raise OutputError(path.name, error.strerror or str(error), "free some space, and send it again") from None
    return path


def judge(path: Path, kind: Kind) -> None:
    """Raises MediaError unless a file is what it should be, by its header; of a film one frame is decoded.

    A child process reads it. Raises LimitReached where too many callers wait for one.
    """
    if kind == "film":
        probe.ask("facts", path, limits=asdict(DEFAULT_LIMITS))
    else:
        probe.ask("size", path)


def again(path: Path, place: Path, stem: str, field: str = "video") -> Path:
    """A file of another job in `place` too, so that it outlives that job. It blocks.

    Raises RequestError, naming the `field`, where it is gone, OutputError.
    """
    target = place / f"{stem}{path.suffix}"
    try:
        # On the shelf no file is ever written twice, so another name will do.
        if path.parents[2] == place.parents[1]:
            os.link(path, target)
        else:
            replace_whole(target, lambda draft: shutil.copyfile(path, draft))
    except FileNotFoundError:
        raise RequestError(field, path.name, "its file is gone", "begin from another") from None
    except OSError as error:
        raise OutputError(path.name, error.strerror or str(error), "free some space, and ask again") from None
    return target
