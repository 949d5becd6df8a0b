"""MP4 and PNG files back to frames, comment and recipe. Sizes are judged by the headers, before anything is decoded."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, Final, Literal

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from flickbook.errors import FlickbookError, MediaError, shown
from flickbook.media.clip import sidecar_path
from flickbook.media.write import MAX_COMMENT_BYTES, FilePath
from flickbook.spec import SCHEMA_VERSION, Recipe, Run

CODECS: Final = ("h264",)
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_MAX_BOXES: Final = 4096
_MAX_INDEX_BYTES: Final = 64 << 20
_MAX_SAMPLES: Final = 1_000_000  # all tracks together; the demuxer sets memory aside for each one
_MAX_SIDECAR_BYTES: Final = 2 * MAX_COMMENT_BYTES
_HOLDERS: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")  # boxes that hold boxes
_BULK: Final = (b"mdat", b"free", b"skip", b"wide")  # boxes the demuxer does not read into memory
_COUNTS: Final = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # where in a box its number of samples stands
_PILLOW_ERRORS: Final = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, struct.error, zlib.error)


@dataclass(frozen=True)
class Limits:
    """What is refused before decoding: bytes of the file, pixels of one frame, frames, bytes of all frames as RGB."""

    file_bytes: int = 1 << 30
    pixels: int = 4096 * 4096
    frames: int = 4096
    decoded_bytes: int = 2 << 30


DEFAULT_LIMITS: Final = Limits()


@contextmanager
def _opened(path: FilePath, limits: Limits) -> Iterator[tuple[BufferedReader, Literal["mp4", "png"]]]:
    """The file, and what its first bytes say it is; whatever goes wrong while it is read becomes a MediaError."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe or a device could block for ever
            raise MediaError(path, "not a regular file", "name an .mp4 or .png file")
        _within(path, "bytes", facts.st_size, limits.file_bytes)
        with open(path, "rb") as file:
            head = file.read(33)
            file.seek(0)
            if head[4:8] == b"ftyp":
                _check_boxes(path, file, facts.st_size)
                yield file, "mp4"
            elif head[:8] == _PNG_MAGIC and head[12:16] == b"IHDR" and len(head) == 33:
                width, height = struct.unpack(">II", head[16:24])
                _check_size(path, 1, height, width, limits)
                yield file, "png"
            else:
                raise MediaError(path, "neither an MP4 film nor a PNG picture", "convert it to H.264 MP4 or to PNG")
    except FileNotFoundError:
        raise MediaError(path, "no such file", "check the path") from None
    except (*_PILLOW_ERRORS, av.FFmpegError) as error:
        raise MediaError(path, f"cannot be read ({shown(error)})", "check that it is complete and readable") from error


def _within(path: FilePath, what: str, value: int, limit: int) -> None:
    if value > limit:
        raise MediaError(path, f"{value} {what}, more than the limit of {limit}", "make it shorter or smaller")


def _check_size(path: FilePath, frames: int, height: int, width: int, limits: Limits) -> None:
    if min(frames, height, width) < 1:
        size = f"{frames} frames of {width}x{height}"
        raise MediaError(path, f"its header says {size}", "export it again; fragmented MP4 is not read")
    _within(path, "frames", frames, limits.frames)
    _within(path, "pixels a frame", height * width, limits.pixels)
    _within(path, "bytes once decoded", frames * height * width * 3, limits.decoded_bytes)


def _check_boxes(path: FilePath, file: BufferedReader, size: int) -> None:
    """Walk the boxes of an MP4 (ISO/IEC 14496-12), so that one cut short or made to exhaust memory goes no further.

    A box is its size (4 bytes, big endian), its kind (4 bytes) and its content; size 1 puts 8 bytes of size after
    the kind, size 0 means up to the end. Leaves the file at its start.
    """
    damaged = ("cut short or damaged", "fetch or export it again")
    pending, boxes, samples = [(0, size)], 0, 0
    while pending:
        start, end = pending.pop()
        while start < end:
            file.seek(start)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            content = start + 8
            if length == 1:
                length, content = int.from_bytes(head[8:], "big"), start + 16
            elif length == 0:
                length = end - start
            boxes += 1
            if length < content - start or start + length > end:
                raise MediaError(path, *damaged)
            if kind in _COUNTS:
                file.seek(content + _COUNTS[kind])
                samples += int.from_bytes(file.read(4), "big")
            large = boxes > _MAX_BOXES or samples > _MAX_SAMPLES or (kind not in _BULK and length > _MAX_INDEX_BYTES)
            if large or kind == b"cmov":  # a compressed index could unpack to any size
                raise MediaError(path, "its index is too large or compressed", "make it shorter, or export it again")
            start += length
            if kind in _HOLDERS:
                pending.append((content, start))
    file.seek(0)


@contextmanager
def _film(path: FilePath, file: BufferedReader, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open MP4 and its first video track, its codec and its sizes already judged."""
    # No codec may run while the file is probed: that would decode a frame before its size is known.
    options = {"codec_whitelist": "none"}
    with av.open(file, "r", format="mp4", options=options, metadata_errors="replace") as container:
        if not container.streams.video:
            raise MediaError(path, "holds no film", "name an MP4 with a video track")
        stream = container.streams.video[0]
        codec = stream.codec_context.name if stream.codec_context else "unknown"
        if codec not in CODECS:
            raise MediaError(path, f"its codec is {codec}, not {' or '.join(CODECS)}", "export it as H.264 MP4")
        _check_size(path, stream.frames, stream.height, stream.width, limits)
        if not stream.average_rate:
            raise MediaError(path, "says no frame rate", "export it again")
        yield container, stream


def read_video(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> tuple[np.ndarray, float]:
    """The frames (frames, height, width, 3) uint8 RGB of an H.264 MP4, and its frames a second.

    Raises MediaError for anything missing, larger than `limits`, damaged, incomplete or in another format.
    """
    with _opened(path, limits) as (file, container_name):
        if container_name != "mp4":
            raise MediaError(path, "a picture, not a film", "name an .mp4 file")
        with _film(path, file, limits) as (container, stream):
            count, height, width = stream.frames, stream.height, stream.width
            # The bitstream may claim another size than the header; the margin is the codec's own alignment.
            most = str((height + 64) * (width + 64))
            stream.codec_context.options = {"max_pixels": most, "err_detect": "explode"}
            frames = np.empty((count, height, width, 3), np.uint8)
            found = 0
            for picture in container.decode(stream):
                if found == count or (picture.height, picture.width) != (height, width) or picture.is_corrupt:
                    raise MediaError(path, f"frame {found + 1} does not fit its header", "export it again")
                frames[found] = picture.to_ndarray(format="rgb24")
                found += 1
            if found != count:
                raise MediaError(path, f"ends after {found} of {count} frames", "fetch or export it again")
            return frames, float(stream.average_rate or 0)


@contextmanager
def _picture(path: FilePath, file: BufferedReader) -> Iterator[PngImageFile]:
    with Image.open(file, formats=["PNG"]) as image:
        if not isinstance(image, PngImageFile):
            raise MediaError(path, "not a PNG picture", "convert it to PNG")
        yield image


def read_picture(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """The pixels (height, width, 3) uint8 RGB of a PNG. Raises MediaError as `read_video` does."""
    with _opened(path, limits) as (file, container_name):
        if container_name != "png":
            raise MediaError(path, "a film, not a picture", "name a .png file")
        with _picture(path, file) as image:
            return np.array(image.convert("RGB"))


def read_comment(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> str | None:
    """The comment (at most 1 MiB) of an MP4 or PNG, or None if it has none. Raises MediaError as `read_video` does."""
    with _opened(path, limits) as (file, container_name):
        if container_name == "mp4":
            with _film(path, file, limits) as (container, _):
                return _comment(path, dict(container.metadata))
        with _picture(path, file) as image:
            return _comment(path, image.text)


def _comment(path: FilePath, tags: dict[str, Any]) -> str | None:
    """The tag `comment`, whichever case its name is in."""
    found = next((str(value) for name, value in tags.items() if name.lower() == "comment"), None)
    if found is not None:
        _within(path, "bytes of comment", len(found.encode("utf-8", "replace")), MAX_COMMENT_BYTES)
    return found


def read_recipe(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> Recipe:
    """The recipe an MP4 or PNG carries. Raises MediaError if it carries none, a damaged or a newer one."""
    comment = read_comment(path, limits)
    if comment is None:
        raise MediaError(path, "carries no recipe", "name a file that Flickbook made")
    return _recipe(path, comment)


def _recipe(path: FilePath, comment: str) -> Recipe:
    remedy = "name a file that Flickbook made"
    try:
        document = json.loads(comment)
    except (ValueError, RecursionError):
        raise MediaError(path, "its comment is not a recipe", remedy) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        reason = f"its recipe has schema {shown(version)}, and this Flickbook reads up to {SCHEMA_VERSION}"
        raise MediaError(path, reason, "install a newer Flickbook")
    try:
        return Recipe.from_json(comment)
    except FlickbookError as error:
        raise MediaError(path, f"its recipe is damaged ({error})", remedy) from None


def inspect(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """What a file says about itself, ready for JSON. A film is judged by its headers, not decoded.

    Keys: path, container, codec, width and height (pixels), frames, fps and seconds (None for a picture), bytes,
    sha256, comment (only if it is no recipe), recipe and run (None if there is none), problems (sentences about a
    recipe or sidecar that could not be read). Raises MediaError if the file itself cannot be.
    """
    with _opened(path, limits) as (file, container_name):
        facts: dict[str, Any] = {"path": os.fspath(path), "container": container_name}
        facts |= _film_facts(path, file, limits) if container_name == "mp4" else _picture_facts(path, file)
        file.seek(0)
        facts["bytes"] = os.fstat(file.fileno()).st_size
        facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    problems: list[str] = []
    facts |= {"recipe": None, "run": _sidecar_run(path, problems), "problems": problems}
    if facts["comment"] is not None:
        try:
            facts |= {"recipe": _recipe(path, facts["comment"]).model_dump(mode="json"), "comment": None}
        except MediaError as error:
            problems.append(str(error))
    return facts


def _film_facts(path: FilePath, file: BufferedReader, limits: Limits) -> dict[str, Any]:
    with _film(path, file, limits) as (container, stream):
        rate = float(stream.average_rate or 0)
        facts: dict[str, Any] = {"codec": stream.codec_context.name, "width": stream.width, "height": stream.height}
        facts |= {"frames": stream.frames, "fps": rate, "seconds": stream.frames / rate}
        return facts | {"comment": _comment(path, dict(container.metadata))}


def _picture_facts(path: FilePath, file: BufferedReader) -> dict[str, Any]:
    with _picture(path, file) as image:
        facts: dict[str, Any] = {"codec": "png", "width": image.width, "height": image.height}
        return facts | {"frames": 1, "fps": None, "seconds": None, "comment": _comment(path, image.text)}


def _sidecar_run(path: FilePath, problems: list[str]) -> dict[str, Any] | None:
    """The run told by the sidecar beside `path`; None if there is none, or if it cannot be read, which is a problem."""
    sidecar = sidecar_path(path)
    if not os.path.isfile(sidecar):
        return None
    with suppress(OSError, ValueError, RecursionError, FlickbookError):
        with open(sidecar, "rb") as file:
            text = file.read(_MAX_SIDECAR_BYTES + 1)
        document = json.loads(text) if len(text) <= _MAX_SIDECAR_BYTES else None
        if isinstance(document, dict) and "run" in document:
            run = document["run"]
            return None if run is None else Run.from_json(json.dumps(run)).model_dump(mode="json")
    problems.append(f"{sidecar}: not a sidecar that Flickbook wrote")
    return None
