"""Writing of films and images: atomic (complete under the final name, or absent) and byte-reproducible."""

from __future__ import annotations

import errno
import math
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flickbook import formats
from flickbook.errors import OutputError, RequestError
from flickbook.media import animate, encode
from flickbook.spec import Encoding

if TYPE_CHECKING:
    from flickbook.media.encode import Packets
    from flickbook.media.sound.samples import Sound

FilePath = str | os.PathLike[str]
MAX_COMMENT_BYTES: Final = 1 << 20
MIN_FPS: Final = 0.1
MAX_FPS: Final = 240.0
#: An Exif segment holds 65533 bytes, including its name, a directory of one entry, and the NUL after the text.
MAX_JPEG_COMMENT_BYTES: Final = 65533 - 6 - 26 - 1
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
    """Check whether `path` may be written, without writing to the disk. Its directory need not exist yet.

    Raises OutputError if it exists and `overwrite` is false, if it is a directory, or if nothing can be created there.
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
def staged(*targets: FilePath, overwrite: bool = False, frames: int = 1) -> Iterator[tuple[Path, ...]]:
    """Write files atomically: yield one temporary path per target, and rename them to the targets at the end.

    The body must write every temporary path. Then each file is flushed to the disk and renamed, in order; if one rename
    fails, the earlier ones are undone unless they replaced a file. The first `frames` targets are one film: its first
    file is renamed last of them, so its presence implies that all are complete. On any error, including an interrupt,
    temporary files and directories created for them are removed. Raises OutputError, before the body runs if possible.
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
        order = (*range(1, frames), 0, *range(frames, len(paths)))
        _publish([(parts[place], paths[place]) for place in order], overwrite)
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
    """Create `directory` with its parents, and append each one that was missing to `made`, outermost first."""
    missing = [d for d in (directory, *directory.parents) if not d.exists()]
    for one in reversed(missing):
        with suppress(FileExistsError):  # another writer created it, so it is not removed on failure
            one.mkdir()
            made.append(one)


def _publish(pairs: Sequence[tuple[Path, Path]], overwrite: bool) -> None:
    """Flush every temporary file to the disk, then rename each; on failure, remove the names that are new."""
    for part, _ in pairs:
        # Without the flush, a power failure after the rename could leave an empty file under the final name.
        _flush(part)
    new: list[Path] = []
    try:
        for part, path in pairs:
            fresh = not os.path.lexists(path)
            _give_name(part, path, overwrite)
            if fresh:
                new.append(path)
    except BaseException:
        for path in new:
            with suppress(OSError):
                path.unlink()
        raise
    for directory in {path.parent for _, path in pairs}:
        with suppress(OSError):  # some systems cannot open a directory; the files themselves are flushed
            _flush(directory)


def _give_name(part: Path, path: Path, overwrite: bool) -> None:
    """Rename `part` to `path`. Without `overwrite`, a file that has appeared there is kept (FileExistsError)."""
    if not overwrite:
        try:
            os.link(part, path)  # fails if the name is taken, whereas a rename would replace the file
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
    """Return the OutputError for the target that `error` is about, or for the first one if it does not say."""
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
    """Return frames per second as the fraction that a file stores. Raises RequestError outside 0.1 to 240."""
    if not (math.isfinite(fps) and MIN_FPS <= fps <= MAX_FPS):
        raise RequestError("fps", fps, f"must be {MIN_FPS:g} to {MAX_FPS:g}", "8 to 30 suit most films")
    return Fraction(fps).limit_denominator(formats.FPS_DENOMINATOR)


def check_comment(path: FilePath, comment: str | None, how: Encoding) -> None:
    """Raises OutputError unless `comment` could be read back from a file written as `how`."""
    try:
        data = (comment or "").encode()
    except UnicodeEncodeError:
        raise OutputError(path, "the comment is not valid Unicode", "remove lone surrogates from it") from None
    most = MAX_JPEG_COMMENT_BYTES if how.container == "jpg" else MAX_COMMENT_BYTES
    if b"\0" in data or len(data) > most:
        kind = f"in {how.container} " if how.container == "jpg" else ""
        limit = f"the comment must {kind}be at most {most} bytes without NUL, and has {len(data)}"
        raise OutputError(path, limit, "name it .png" if how.container == "jpg" else "shorten it or leave it out")


def targets(path: FilePath, num_frames: int) -> tuple[Path, ...]:
    """Return the files of a film of `num_frames` frames under this name: one, or one per frame."""
    return formats.frame_paths(path, num_frames) if formats.container_of(path) == "frames" else (Path(path),)


def check_film(path: FilePath, num_frames: int, *beside: FilePath, overwrite: bool = False) -> None:
    """Check whether a film of `num_frames` frames, and the files `beside` it, may be written, as `check_target` does.

    Numbered frames are also refused if a frame of number 0 exists, and without `overwrite` if one with the next number
    does: readers would take it for part of this film.
    """
    if formats.container_of(path) == "frames" and os.path.lexists(before := formats.frame_paths(path, 1, 0)[0]):
        raise OutputError(before, "would be read as the first frame of this film", "remove it or choose another name")
    for each in (*targets(path, num_frames), *beside):
        check_target(each, overwrite=overwrite)
    following = targets(path, num_frames + 1)[num_frames:]
    if not overwrite and following and os.path.lexists(following[0]):
        raise OutputError(following[0], *_REMEDIES[errno.EEXIST])


@contextmanager
def staged_film(
    path: FilePath, num_frames: int, *beside: FilePath, overwrite: bool = False
) -> Iterator[tuple[Path, ...]]:
    """`staged` for the `targets` of a film and the files `beside` it. Also raises OutputError as `check_film` does.

    With `overwrite`, surplus numbered frames of an earlier, longer film are removed at the end.
    """
    check_film(path, num_frames, *beside, overwrite=overwrite)
    names = targets(path, num_frames)
    with staged(*names, *beside, overwrite=overwrite, frames=len(names)) as parts:
        yield parts
    if overwrite and len(targets(path, num_frames + 1)) > num_frames:
        _remove_after(Path(path), num_frames)


def _remove_after(path: Path, num_frames: int) -> None:
    """Remove the numbered frames that would be read after the first `num_frames` at `path`."""
    try:
        # There cannot be more surplus frames than files in the directory.
        names = formats.frame_paths(path, num_frames + len(os.listdir(path.parent)))[num_frames:]
        for each in takewhile(lambda name: name.is_file() and not name.is_symlink(), names):
            each.unlink(missing_ok=True)
    except OSError as error:
        reason = f"frames of an earlier film follow it and cannot be removed ({error.strerror or error})"
        raise OutputError(path, reason, "remove them") from error


def encode_parts(
    parts: Sequence[Path],
    frames: np.ndarray,
    fps: float,
    comment: str | None,
    how: Encoding,
    path: FilePath,
    packets: Packets | None = None,
    sound: Sound | None = None,
) -> None:
    """Encode frames (frames, height, width, 3) uint8 into `parts`, the temporary paths of `staged` for `path`.

    `packets` are these frames already encoded, if available. `sound` is left out of a format that holds none. Raises
    RequestError for frames, fps and an encoder that does not work here, OutputError for the comment.
    """
    check_frames(frames)
    rate = frame_rate(fps)
    formats.encoding(how.container, how.codec, how.quality, how.pixel_format, num_frames=len(frames), fps=fps)
    check_comment(path, comment, how)
    if how.container in formats.SOUNDING:
        encode.encode_film(parts[0], frames, rate, comment, how, packets, sound)
    elif how.container == "frames":
        for number, (part, frame) in enumerate(zip(parts, frames, strict=True)):
            animate.encode_picture(part, frame, None if number else comment, how)
    elif how.container == "gif":
        animate.encode_gif(parts[0], frames, rate, comment, how)
    elif how.container == "webp":
        animate.encode_webp(parts[0], frames, rate, comment, how)
    elif how.container == "apng":
        animate.encode_apng(parts[0], frames, rate, comment, how)
    else:
        animate.encode_picture(parts[0], frames[0], comment, how)


def write(
    path: FilePath,
    frames: np.ndarray,
    fps: float,
    comment: str | None = None,
    *,
    encoding: Encoding | None = None,
    overwrite: bool = False,
    sound: Sound | None = None,
) -> None:
    """Write frames (frames, height, width, 3) uint8 to `path`, in the format of its suffix.

    `fps` is frames per second, 0.1 to 240. MP4, WebM and Matroska hold the `sound` too. `encoding` defaults to the
    usual one for the suffix. `comment` (UTF-8, at most 1 MiB) is embedded: as the comment of MP4, WebM, Matroska and
    GIF, the text chunk "comment" of PNG and APNG, the Exif ImageDescription of WebP, AVIF and JPEG (there at most 65500
    bytes). Of numbered frames, the first one carries it. With subsampled chroma, odd sizes grow by one repeated row or
    column. Equal arguments give equal bytes with the same library versions, hardware encoders excepted. Raises
    RequestError for frames, fps and encoding, OutputError for the path and the comment; in that case nothing is left
    behind, and an existing file is unchanged.
    """
    how = encoding or formats.encoding(formats.container_of(path))
    check_fits(path, how)
    check_frames(frames)
    with staged_film(path, len(frames), overwrite=overwrite) as parts:
        encode_parts(parts, frames, fps, comment, how, path, sound=sound)


def check_fits(path: FilePath, how: Encoding) -> None:
    """Raises OutputError if the suffix of `path` belongs to another container than `how`."""
    container = formats.container_of(path)
    if container != how.container:
        suffixes = " or ".join(formats.FORMS[how.container].suffixes)
        remedy = "name it shot-%04d.png" if how.container == "frames" else f"end its name in {suffixes}"
        raise OutputError(path, f"its name asks for {container}, and the encoding for {how.container}", remedy)


def write_png(path: FilePath, frame: np.ndarray, comment: str | None = None, *, overwrite: bool = False) -> None:
    """Write one frame (height, width, 3) uint8 as a PNG whatever its suffix, as `write` does."""
    check_frames(frame[None] if isinstance(frame, np.ndarray) else frame)
    with staged(path, overwrite=overwrite) as parts:
        encode_parts(parts, frame[None], MIN_FPS, comment, formats.encoding("png"), path)
