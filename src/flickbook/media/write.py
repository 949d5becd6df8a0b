"""Films to MP4 and pictures to PNG: complete under their name, or not there at all, and the same bytes every time."""

from __future__ import annotations

import errno
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flickbook.errors import OutputError, RequestError

if TYPE_CHECKING:
    from av.container import OutputContainer

FilePath = str | os.PathLike[str]
MAX_COMMENT_BYTES: Final = 1 << 20
MIN_FPS: Final = 0.1
MAX_FPS: Final = 240.0
_FPS_DENOMINATOR: Final = 1001  # holds 24000/1001 and its kin exactly
_CRF: Final = "16"  # x264's constant quality; at 128 pixels a higher figure smears thin shapes
_BT709: Final = 1  # ISO/IEC 23091-2 code point, alike for primaries, transfer and matrix
_REMEDIES: Final = {
    errno.ENOSPC: ("no space left", "free some space or choose another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or choose another disk"),
    errno.EFBIG: ("larger than this system lets a file be", "raise the limit or choose another disk"),
    errno.EACCES: ("no permission to write here", "choose a directory you may write to"),
    errno.EPERM: ("no permission to write here", "choose a directory you may write to"),
    errno.EROFS: ("the disk is read-only", "choose a directory you may write to"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter name"),
    errno.EEXIST: ("exists already", "choose another name or allow overwriting"),
}


def check_target(path: FilePath, *, overwrite: bool = False) -> None:
    """Find out, without touching the disk, whether `path` may be written; its directory need not exist yet.

    Raises OutputError if it exists and `overwrite` is false, is a directory, or lies where nothing can be created.
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise OutputError(text, "not a file name", "name a file, such as film.mp4")
    if os.path.isdir(text):
        raise OutputError(text, "is a directory", "name a file in it, such as film.mp4")
    if os.path.lexists(text) and not overwrite:
        raise OutputError(text, *_REMEDIES[errno.EEXIST])
    parent = Path(text).parent
    while not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    if not os.path.isdir(parent):
        raise OutputError(text, f"{parent} is not a directory", "choose a path whose parents are directories")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(text, f"no permission to write in {parent}", "choose a directory you may write to")


@contextmanager
def staged(*targets: FilePath, overwrite: bool = False) -> Iterator[tuple[Path, ...]]:
    """Write files whole: yields one temporary path for each target, and gives them their names at the end.

    The body must write every temporary path. Then each is flushed to the disk and renamed, in order; if one cannot
    be, those before it are taken back unless they replaced a file. On any error, an interrupt included, neither
    temporary files nor directories made for them stay behind. Raises OutputError, before the body runs where it can.
    """
    paths = tuple(Path(target) for target in targets)
    for target in targets:
        check_target(target, overwrite=overwrite)
    parts = tuple(path.with_name(f".flickbook-{secrets.token_hex(8)}.part") for path in paths)
    made: list[Path] = []
    done = False
    try:
        for path in paths:
            _make_parents(path.parent, made)
        yield parts
        _publish(parts, paths, overwrite)
        done = True
    except OSError as error:
        raise _refusal(error, parts, paths) from error
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink()
        for directory in [] if done else reversed(made):
            with suppress(OSError):
                directory.rmdir()


def _make_parents(directory: Path, made: list[Path]) -> None:
    """Create `directory` with its parents, adding each one that was missing to `made`, outermost first."""
    missing = [d for d in (directory, *directory.parents) if not d.exists()]
    for one in reversed(missing):
        with suppress(FileExistsError):  # another writer was first, so it is not ours to remove
            one.mkdir()
            made.append(one)


def _publish(parts: tuple[Path, ...], paths: tuple[Path, ...], overwrite: bool) -> None:
    """Flush every part to the disk, then give each its name; on failure take back the names that are new."""
    for part in parts:
        # Unsynced, a power cut after the rename could leave an empty file under the final name.
        _flush(part)
    new: list[Path] = []
    try:
        for part, path in zip(parts, paths, strict=True):
            fresh = not os.path.lexists(path)
            _give_name(part, path, overwrite)
            if fresh:
                new.append(path)
    except BaseException:
        for path in new:
            with suppress(OSError):
                path.unlink()
        raise
    for directory in {path.parent for path in paths}:
        with suppress(OSError):  # some systems cannot open a directory; the files themselves are flushed
            _flush(directory)


def _give_name(part: Path, path: Path, overwrite: bool) -> None:
    """Rename `part` to `path`. Without `overwrite`, a file that appeared there meanwhile is kept (FileExistsError)."""
    if not overwrite:
        try:
            os.link(part, path)  # fails if the name is taken, where a rename would replace the file
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    os.replace(part, path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refusal(error: Exception, parts: tuple[Path, ...], paths: tuple[Path, ...]) -> OutputError:
    """The OutputError about the target that `error` was about, or about the first one if it does not say."""
    names = {str(part): path for part, path in zip(parts, paths, strict=True)} | {str(path): path for path in paths}
    path = names.get(str(getattr(error, "filename", None)), paths[0])
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    known = _REMEDIES.get(getattr(error, "errno", None) or 0)
    return OutputError(path, *(known or (f"cannot be written ({reason})", "choose another place")))


def check_frames(frames: Any) -> None:
    """Raises RequestError unless `frames` is a uint8 array (frames, height, width, 3) with at least one pixel."""
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
        kind = str(getattr(frames, "dtype", type(frames).__name__))
        raise RequestError("frames", kind, "must be a numpy array of uint8", "give values of 0 to 255 as uint8")
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        limit = "must be (frames, height, width, 3), none of them 0"
        raise RequestError("frames", frames.shape, limit, "give RGB frames, one film at a time")


def frame_rate(fps: float) -> Fraction:
    """Frames a second as the fraction a file stores. Raises RequestError outside 0.1 to 240."""
    if not (math.isfinite(fps) and MIN_FPS <= fps <= MAX_FPS):
        raise RequestError("fps", fps, f"must be {MIN_FPS:g} to {MAX_FPS:g}", "8 to 30 suit most films")
    return Fraction(fps).limit_denominator(_FPS_DENOMINATOR)


def _check_comment(path: Path, comment: str | None) -> None:
    try:
        data = (comment or "").encode()
    except UnicodeEncodeError:
        raise OutputError(path, "the comment is not valid Unicode", "remove lone surrogates from it") from None
    if b"\0" in data or len(data) > MAX_COMMENT_BYTES:
        limit = f"the comment must be at most {MAX_COMMENT_BYTES} bytes without NUL"
        raise OutputError(path, limit, "shorten it or leave it out")


def _even(frames: np.ndarray) -> np.ndarray:
    """Frames of even height and width, the last row or column repeated: halved chroma allows no other size."""
    _, height, width, _ = frames.shape
    if height % 2 == width % 2 == 0:
        return frames
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def encode_mp4(path: Path, frames: np.ndarray, fps: float, comment: str | None) -> None:
    """Encode to `path` in place: H.264, yuv420p, BT.709 limited range, index first. `write_mp4` is the safe door."""
    import av  # here, so that machines which only train need no codecs

    check_frames(frames)
    rate = frame_rate(fps)
    _check_comment(path, comment)
    frames = _even(frames)
    # bitexact leaves the muxer's version and the date out, so that equal films are equal files.
    flags = {"movflags": "+faststart", "fflags": "+bitexact"}
    try:
        with av.open(str(path), "w", format="mp4", options=flags) as container:
            if comment:
                container.metadata["comment"] = comment
            _encode_h264(container, frames, rate)
    except av.FFmpegError as error:
        if isinstance(error, OSError):  # of the disk, and `staged` knows what to say about it
            raise
        raise OSError(errno.EIO, f"the encoder failed: {error}", str(path)) from error


def _encode_h264(container: OutputContainer, frames: np.ndarray, rate: Fraction) -> None:
    from av import VideoFrame
    from av.video.reformatter import ColorRange, Colorspace

    # Without B-frames the first frame stands at time 0, so players loop without a gap; a keyframe a second seeks.
    options = {"crf": _CRF, "preset": "medium", "bf": "0", "g": str(max(1, round(rate)))}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # the bytes depend on the number of threads
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.colorspace = Colorspace.ITU709
    stream.codec_context.color_primaries = _BT709
    stream.codec_context.color_trc = _BT709
    for index, frame in enumerate(frames):
        picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        picture.pts, picture.time_base = index, 1 / rate
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def encode_png(path: Path, frame: np.ndarray, comment: str | None) -> None:
    """Encode one frame (height, width, 3) uint8 to `path` in place. `write_png` is the safe door."""
    check_frames(frame[None] if isinstance(frame, np.ndarray) else frame)
    _check_comment(path, comment)
    info = PngInfo()
    if comment:
        info.add_text("comment", comment)
    with open(path, "wb") as file:
        Image.fromarray(np.ascontiguousarray(frame)).save(file, format="PNG", pnginfo=info)


def write_mp4(
    path: FilePath,
    frames: np.ndarray,
    fps: float,
    comment: str | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write frames (frames, height, width, 3) uint8 as an MP4 film of `fps` frames a second (0.1 to 240).

    `comment` (UTF-8, at most 1 MiB) becomes the file's comment tag. Odd sizes grow by one repeated row or column.
    Equal arguments give equal bytes under one version of FFmpeg. Raises RequestError for frames or fps, OutputError
    for the path and the comment; then nothing is left behind, and a file that was there is untouched.
    """
    with staged(path, overwrite=overwrite) as (part,):
        encode_mp4(part, frames, fps, comment)


def write_png(path: FilePath, frame: np.ndarray, comment: str | None = None, *, overwrite: bool = False) -> None:
    """Write one frame (height, width, 3) uint8 as a PNG picture, `comment` as its text of that name.

    Lossless. Errors and promises are those of `write_mp4`.
    """
    with staged(path, overwrite=overwrite) as (part,):
        encode_png(part, frame, comment)
