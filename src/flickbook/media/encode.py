"""Films through PyAV: MP4, WebM and Matroska, the same bytes for the same frames unless hardware encodes them.

Every lossy film is BT.709 in limited range. Of a quality, `formats.Codec` makes the encoder's own number.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from flickbook.errors import RequestError
from flickbook.formats import CODECS, FORMS, LOSSLESS, encoding
from flickbook.spec import Container, Encoding

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame, VideoStream
    from av.container import OutputContainer

    #: A film's frames, encoded, before they are put into a file.
    Packets = list[Packet[VideoStream]]

_MUXERS: Final[dict[Container, str]] = {"mp4": "mp4", "webm": "webm", "mkv": "matroska"}
_LIBRARIES: Final = {"h264": "libx264", "h265": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
_LOSSLESS: Final = _LIBRARIES | {"h264": "libx264rgb"}
_RGB: Final = ("rgb24", "gbrp", "bgr0")
_IN_PAIRS: Final = {"yuv420p": "nv12", "yuv420p10le": "p010le"}  # the same values, as most hardware takes them
_SMALLEST: Final = {"h265": 16, "av1": 4}  # pixels of a side that these encoders take
_BT709: Final = 1  # ISO/IEC 23091-2 code point, alike for primaries, transfer and matrix
_IDENTITY: Final = 0  # its code point for the matrix of RGB
_X265: Final = "log-level=none:pools=none:frame-threads=1:info=0:bframes=0:open-gop=0"
_CUTREE_WIDTH: Final = 64  # x265 (build 216) writes past a buffer if it plans narrower frames ahead
_THREADS: Final = "/proc/self/task"
_PROBED: Final = (144, 256)  # height and width at which an encoder is tried: some take no smaller film

# SVT-AV1 prints to stderr, past every callback, and this is its only switch. It reads it once in a process, when any
# thread opens it first, so it is set before there can be one.
os.putenv("SVT_LOG", "0")


def encode_film(
    path: Path,
    frames: np.ndarray,
    fps: Fraction,
    comment: str | None,
    how: Encoding,
    packets: Packets | None = None,
) -> None:
    """Encode frames (frames, height, width, 3) uint8 to `path` in place, as `how` says. `write` is the safe door.

    Where colours are halved, odd sizes grow by one repeated row or column, and the smallest by more. `packets` are what
    `encoded` made of these very frames, if it did. Raises RequestError if the encoder does not work here, OSError if it
    fails later or the disk does.
    """
    import av  # here, so that machines which only train need no codecs

    # bitexact leaves versions, dates and random numbers out, so that equal films are equal files.
    flags = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if how.container == "mp4" else {})
    try:
        with av.open(str(path), "w", format=_MUXERS[how.container], options=flags) as container:
            if comment:
                container.metadata["comment"] = comment
            stream = _stream(container, frames.shape[1], frames.shape[2], fps, how)
            for packet in _packets(stream, [frames], fps, how) if packets is None else packets:
                container.mux(packet)
    except av.FFmpegError as error:
        if isinstance(error, OSError):  # of the disk, and `staged` knows what to say about it
            raise
        raise OSError(errno.EIO, f"the encoder failed: {error}", str(path)) from error


def encoded(slices: Iterable[np.ndarray], height: int, width: int, fps: Fraction, how: Encoding) -> Packets:
    """A film's frames, (n, height, width, 3) uint8 as they come, as the packets of its file, which is written later:
    its header holds what is known at the end. Raises RequestError, or FFmpegError."""
    import av

    with av.open(io.BytesIO(), "w", format=_MUXERS[how.container]) as container:
        return list(_packets(_stream(container, height, width, fps, how), slices, fps, how))


def streamed(how: Encoding) -> bool:
    """Whether `encoded` makes such films: those of the other containers are seen whole before they are written."""
    return how.container in _MUXERS


def _stream(container: OutputContainer, height: int, width: int, fps: Fraction, how: Encoding) -> VideoStream:
    """The one stream of a film, its encoder open."""
    from av import VideoStream

    check_library(how)
    stream = container.add_stream(_library(how), rate=fps)
    assert isinstance(stream, VideoStream)
    _open(stream.codec_context, how, *_grown_size(height, width, how), fps)
    return stream


def _packets(
    stream: VideoStream, slices: Iterable[np.ndarray], fps: Fraction, how: Encoding
) -> Iterator[Packet[VideoStream]]:
    pixel_format = stream.codec_context.pix_fmt or how.pixel_format
    for index, frame in enumerate(frame for frames in slices for frame in _grown(frames, how)):
        picture = _converted(frame, pixel_format)
        picture.pts, picture.time_base = index, 1 / fps
        yield from stream.encode(picture)
    yield from stream.encode(None)


def check_encoder(how: Encoding, height: int, width: int, fps: Fraction = Fraction(8)) -> None:
    """Raises RequestError if no film of this size (pixels) can be encoded here as `how` says, found by trying."""
    if how.container in _MUXERS:
        from av import VideoCodecContext

        check_library(how)
        context = VideoCodecContext.create(_library(how), "w")
        assert isinstance(context, VideoCodecContext)
        context.framerate, context.time_base = fps, 1 / fps
        _open(context, how, *_grown_size(height, width, how), fps)


def writable_codecs() -> dict[str, str]:
    """The codecs that FFmpeg writes: each with "" if films can be written with it here, or why not in a few words."""
    found = {}
    for name in CODECS:
        container = next((each for each in _MUXERS if name in FORMS[each].codecs), None)
        if container is not None:
            found[name] = ""
            try:
                check_encoder(encoding(container, name), *_PROBED)
            except RequestError as error:
                found[name] = error.limit
    return found


def check_library(how: Encoding) -> None:
    """Raises RequestError if this FFmpeg was built without the encoder, or without the pixel format in it."""
    from av.codec.codec import Codec, UnknownCodecError

    library = _library(how)
    try:
        formats = {each.name for each in Codec(library, "w").video_formats or ()}
    except UnknownCodecError:
        raise RequestError("codec", how.codec, f"this FFmpeg has no {library}", _remedy(how)) from None
    if formats and not formats & {how.pixel_format, _IN_PAIRS.get(how.pixel_format)}:
        limit = f"{library} of this FFmpeg was built without it"
        raise RequestError("pixel_format", how.pixel_format, limit, f"choose {CODECS[how.codec].pixel_formats[0]}")


def _library(how: Encoding) -> str:
    """What FFmpeg calls the encoder."""
    return (_LOSSLESS if how.quality == LOSSLESS else _LIBRARIES).get(how.codec, how.codec)


def _remedy(how: Encoding) -> str:
    usual = FORMS[how.container].codecs[0]
    return f"choose {usual}" if usual != how.codec else "choose another container"


def _open(context: VideoCodecContext, how: Encoding, height: int, width: int, fps: Fraction) -> None:
    """Set an encoder up and open it, so that what fails here is the encoder and not the disk."""
    from av import FFmpegError
    from av.video.reformatter import ColorRange

    offered = {each.name for each in context.codec.video_formats or ()}
    chosen = how.pixel_format if how.pixel_format in offered else _IN_PAIRS.get(how.pixel_format, how.pixel_format)
    rgb = how.pixel_format in _RGB
    context.height, context.width, context.pix_fmt = height, width, chosen
    context.options = _options(how, width, fps)
    if not CODECS[how.codec].hardware:
        context.thread_count = 1  # the bytes depend on the number of threads
    if how.container == "mp4" and how.codec.startswith(("h265", "hevc")):
        context.codec_tag = "hvc1"  # QuickTime plays no other kind
    context.color_range = ColorRange.JPEG if rgb else ColorRange.MPEG
    context.colorspace = _IDENTITY if rgb else _BT709
    context.color_primaries = context.color_trc = _BT709
    try:
        with _modest():
            context.open(strict=False)
    except FFmpegError as error:
        reason = f"{context.name} cannot be opened here for {width}x{height} ({error.strerror or error})"
        raise RequestError("codec", how.codec, reason, _remedy(how)) from error


@contextmanager
def _modest() -> Iterator[None]:
    """Undo what SVT-AV1 does where it runs as root: it gives its own threads, and the one that opens it, real-time
    priority over everything else on the machine, and keeps it; processes started later would have it too."""
    if not hasattr(os, "sched_getscheduler") or not os.path.isdir(_THREADS):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in map(int, os.listdir(_THREADS)):
            with suppress(OSError):  # it ended meanwhile
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameters)


def _options(how: Encoding, width: int, fps: Fraction) -> dict[str, str]:
    """The encoder's options. A keyframe a second seeks; without B-frames the first frame stands at time 0, so that
    players loop without a gap."""
    number = "" if how.quality == LOSSLESS else str(CODECS[how.codec].number(how.quality))
    gop = {"g": str(max(1, round(fps)))}
    if how.codec == "ffv1":
        return {"level": "3", "g": "1", "slicecrc": "1"}
    if how.codec == "h264":
        return gop | ({"crf": number} if number else {"qp": "0"}) | {"preset": "medium", "bf": "0"}
    if how.codec == "h265":
        own = _X265 + ("" if number else ":lossless=1") + ("" if width >= _CUTREE_WIDTH else ":cutree=0")
        return gop | ({"crf": number} if number else {}) | {"preset": "medium", "x265-params": own}
    if how.codec == "vp9":
        rate = {"crf": number, "b": "0"} if number else {"lossless": "1"}
        return gop | rate | {"deadline": "good", "cpu-used": "2", "row-mt": "0"}
    if how.codec == "av1":
        return gop | {"crf": number, "preset": "6", "svtav1-params": "lp=1"}
    if how.codec.endswith("_nvenc"):
        return gop | {"rc": "constqp", "qp": number, "preset": "p5", "bf": "0"}
    if how.codec.endswith("_videotoolbox"):
        return gop | {"flags": "+qscale", "global_quality": str(int(number) * 118)}  # FF_QP2LAMBDA
    if how.codec.endswith("_qsv"):
        return gop | {"global_quality": number, "preset": "medium", "bf": "0"}
    return gop | {"rc": "cqp", "qp_i": number, "qp_p": number}  # AMF


def _converted(frame: np.ndarray, pixel_format: str) -> VideoFrame:
    """One frame (height, width, 3) uint8 in `pixel_format`."""
    from av import VideoFrame
    from av.video.reformatter import ColorRange, Colorspace

    picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    if pixel_format in _RGB:
        return picture.reformat(format=pixel_format)
    return picture.reformat(
        format=pixel_format,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )


def _grown_size(height: int, width: int, how: Encoding) -> tuple[int, int]:
    """Height and width as they are encoded: halved chroma allows no odd size, and encoders have a smallest one."""
    even = 2 if how.pixel_format.startswith("yuv420") else 1
    least = _SMALLEST.get(how.codec, 1)
    return max(least, -(-height // even) * even), max(least, -(-width // even) * even)


def _grown(frames: np.ndarray, how: Encoding) -> np.ndarray:
    """Frames of a size that can be encoded, the last row or column repeated."""
    _, height, width, _ = frames.shape
    rows, columns = _grown_size(height, width, how)
    if (rows, columns) == (height, width):
        return frames
    return np.pad(frames, ((0, 0), (0, rows - height), (0, columns - width), (0, 0)), mode="edge")
