"""Encoding of films through PyAV: MP4, WebM and Matroska. Equal frames give equal bytes, hardware encoders excepted.

Every lossy film is BT.709 in limited range. `formats.Codec` maps a quality to the encoder's own number.
"""

from __future__ import annotations

import errno
import heapq
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flickbook.errors import RequestError
from flickbook.formats import CODECS, FORMS, LOSSLESS, encoding
from flickbook.media.sound import encoder
from flickbook.media.sound.samples import Sound
from flickbook.spec import Container, Encoding

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoCodecContext, VideoFrame, VideoStream
    from av.container import OutputContainer

    #: The encoded frames of a film, before they are muxed into a file.
    Packets = list[Packet[VideoStream]]

_MUXERS: Final[dict[Container, str]] = {"mp4": "mp4", "webm": "webm", "mkv": "matroska"}
_LIBRARIES: Final = {"h264": "libx264", "h265": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
_LOSSLESS: Final = _LIBRARIES | {"h264": "libx264rgb"}
_RGB: Final = ("rgb24", "gbrp", "bgr0")
_IN_PAIRS: Final = {"yuv420p": "nv12", "yuv420p10le": "p010le"}  # the same values, as most hardware takes them
_SMALLEST: Final = {"h265": 16, "av1": 4}  # smallest side in pixels that these encoders accept
_BT709: Final = 1  # ISO/IEC 23091-2 code point, the same for primaries, transfer and matrix
_IDENTITY: Final = 0  # code point of the RGB matrix
_X265: Final = "log-level=none:pools=none:frame-threads=1:info=0:bframes=0:open-gop=0"
_CUTREE_WIDTH: Final = 64  # x265 (build 216) writes past a buffer if its lookahead runs on narrower frames
_THREADS: Final = "/proc/self/task"
_PROBED: Final = (144, 256)  # height and width of the test frame that probes an encoder: some accept no smaller film

# SVT-AV1 prints to stderr, bypassing every callback, and this variable is its only switch. It is read once per process,
# when any thread opens the encoder for the first time, so it is set on import.
os.putenv("SVT_LOG", "0")


def encode_film(
    path: Path,
    frames: np.ndarray,
    fps: Fraction,
    comment: str | None,
    how: Encoding,
    packets: Packets | None = None,
    sound: Sound | None = None,
) -> None:
    """Encode frames (frames, height, width, 3) uint8 to `path` in place, as `how`. Callers use the atomic `write`.

    With subsampled chroma, odd sizes grow by one repeated row or column; sizes below the encoder's minimum grow
    further. `packets` are what `encoded` made of the same frames, if it ran. `sound` is encoded with the codec of the
    container. Raises RequestError if the encoder does not work here, OSError if it fails later or the disk does.
    """
    import av  # lazy, so that machines that only train need no codecs

    # bitexact omits versions, dates and random numbers, so that equal films are equal files.
    flags = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if how.container == "mp4" else {})
    try:
        with av.open(str(path), "w", format=_MUXERS[how.container], options=flags) as container:
            if comment:
                container.metadata["comment"] = comment
            stream = _stream(container, frames.shape[1], frames.shape[2], fps, how)
            heard = None if sound is None else _sounding(container, sound, how)
            shown = _packets(stream, [frames], fps, how) if packets is None else packets
            for packet in shown if heard is None else _interleaved(shown, heard, fps):
                container.mux(packet)
    except av.FFmpegError as error:
        if isinstance(error, OSError):  # a disk error, which `staged` reports
            raise
        raise OSError(errno.EIO, f"the encoder failed: {error}", str(path)) from error


def _sounding(container: OutputContainer, sound: Sound, how: Encoding) -> Iterator[Packet[AudioStream]]:
    """Add the audio stream to the container and return its packets."""
    encoder.check_encoder(how.container)
    fitted = encoder.fitted(sound, how.container)
    return encoder.packets(encoder.add_stream(container, fitted, how.container), fitted)


def _interleaved(
    shown: Iterable[Packet[VideoStream]], heard: Iterable[Packet[AudioStream]], fps: Fraction
) -> Iterator[Packet[Any]]:
    """Yield the packets of both streams in the order of their times, so that a player need not seek."""

    def at(packet: Packet[Any]) -> Fraction:
        return (packet.dts or 0) * (packet.time_base or 1 / fps)

    parts: list[Iterable[Packet[Any]]] = [shown, heard]
    yield from heapq.merge(*parts, key=at)


def encoded(slices: Iterable[np.ndarray], height: int, width: int, fps: Fraction, how: Encoding) -> Packets:
    """Encode the frames of a film, slices of (n, height, width, 3) uint8 as they arrive, and return the packets.

    The file is written later, because its header holds values that are only known at the end. Raises RequestError, or
    FFmpegError.
    """
    import av

    with av.open(io.BytesIO(), "w", format=_MUXERS[how.container]) as container:
        return list(_packets(_stream(container, height, width, fps, how), slices, fps, how))


def streamed(how: Encoding) -> bool:
    """Whether `encoded` supports this container. The others need all frames before the file is written."""
    return how.container in _MUXERS


def _stream(container: OutputContainer, height: int, width: int, fps: Fraction, how: Encoding) -> VideoStream:
    """Add the film's only stream to the container and open its encoder."""
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
    """Check by a test encoding that a film of this size (pixels) can be encoded here as `how`. Raises RequestError."""
    if how.container in _MUXERS:
        from av import VideoCodecContext

        check_library(how)
        context = VideoCodecContext.create(_library(how), "w")
        assert isinstance(context, VideoCodecContext)
        context.framerate, context.time_base = fps, 1 / fps
        _open(context, how, *_grown_size(height, width, how), fps)


def writable_codecs() -> dict[str, str]:
    """Return the codecs that FFmpeg writes, each with "" if it works here, or a short reason why not."""
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
    """Raises RequestError if this FFmpeg was built without the encoder or without its pixel format."""
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
    """Return FFmpeg's name of the encoder."""
    return (_LOSSLESS if how.quality == LOSSLESS else _LIBRARIES).get(how.codec, how.codec)


def _remedy(how: Encoding) -> str:
    usual = FORMS[how.container].codecs[0]
    return f"choose {usual}" if usual != how.codec else "choose another container"


def _open(context: VideoCodecContext, how: Encoding, height: int, width: int, fps: Fraction) -> None:
    """Configure and open an encoder, so that encoder errors are separate from disk errors."""
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
        context.codec_tag = "hvc1"  # QuickTime plays no other tag
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
    """Undo the real-time priority that SVT-AV1 sets when it runs as root.

    It gives its own threads, and the thread that opens it, priority over everything else on the machine, and does not
    restore it; processes started later would inherit it.
    """
    if not hasattr(os, "sched_getscheduler") or not os.path.isdir(_THREADS):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in map(int, os.listdir(_THREADS)):
            with suppress(OSError):  # the thread has ended meanwhile
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameters)


def _options(how: Encoding, width: int, fps: Fraction) -> dict[str, str]:
    """Return the encoder's options.

    They request one keyframe per second for seeking, and no B-frames, so that the first frame is at time 0 and players
    loop without a gap.
    """
    number = "" if how.quality == LOSSLESS else str(CODECS[how.codec].number(how.quality))
    gop = {"g": str(max(1, round(fps)))}
    if how.codec == "ffv1":
        return {"level": "3", "g": "1", "slicecrc": "1"}
    if how.codec == "h264":
        return gop | ({"crf": number} if number else {"qp": "0"}) | {"preset": "medium", "bf": "0"}
    if how.codec == "h265":
        parameters = _X265 + ("" if number else ":lossless=1") + ("" if width >= _CUTREE_WIDTH else ":cutree=0")
        return gop | ({"crf": number} if number else {}) | {"preset": "medium", "x265-params": parameters}
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
    """Convert one frame (height, width, 3) uint8 to `pixel_format`."""
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
    """Return the encoded height and width: subsampled chroma allows no odd size, and encoders have a smallest size."""
    even = 2 if how.pixel_format.startswith("yuv420") else 1
    least = _SMALLEST.get(how.codec, 1)
    return max(least, -(-height // even) * even), max(least, -(-width // even) * even)


def _grown(frames: np.ndarray, how: Encoding) -> np.ndarray:
    """Pad frames to an encodable size by repeating the last row or column."""
    _, height, width, _ = frames.shape
    rows, columns = _grown_size(height, width, how)
    if (rows, columns) == (height, width):
        return frames
    return np.pad(frames, ((0, 0), (0, rows - height), (0, columns - width), (0, 0)), mode="edge")
