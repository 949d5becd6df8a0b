"""Decoding of images and videos of common formats to frames. Sizes are checked in the headers before decoding.

This module runs in a child process of `flickbook.media.untrusted.probe`, on behalf of `flickbook.media.read`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from functools import partial
from io import BufferedReader
from typing import Any, Final

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from flickbook.errors import MediaError, shown
from flickbook.media.timeline import Shown, nearest
from flickbook.media.untrusted import boxes
from flickbook.media.untrusted.picture import Animation, picture, pixels, upright_size
from flickbook.media.untrusted.sniff import (
    AVI,
    DEFAULT_LIMITS,
    MAX_RATE,
    MOV,
    MP4,
    Format,
    Limits,
    check_size,
    opened,
    within,
)
from flickbook.media.write import FilePath, frame_rate

_MAX_PACKETS: Final = 1 << 18
_MAX_ALL_PACKETS: Final = 1 << 20  # including those of audio tracks and empty ones
_PROBED_BYTES: Final = 1 << 15
_MAX_HIDDEN: Final = 64  # frames that a decoder may delay
_EDGES: Final = {"mpeg4": 256}  # pixels that a decoder adds to a side; the others need the codec's alignment
_ALIGNMENT: Final = 64
_NO_FRAMES: Final = ("holds no frames", "name another film")
_VP8_SHOWN: Final = 0x10  # bit of a VP8 frame's first byte (RFC 6386, 9.1)


class Film:
    """A video that FFmpeg can read: header checked, nothing decoded yet.

    `frames` is 0 if the header does not state it; `rate` is frames per second; `tags` is the file's metadata. Each
    method reads the file from its start, and raises MediaError if it is damaged or larger than `limits`.
    """

    def __init__(self, path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> None:
        self._path, self._file, self._form, self._limits = path, file, form, limits
        with self._demuxed() as (container, stream):
            context = stream.codec_context
            self.codec = context.codec.canonical_name if context else "unknown"
            if self.codec not in form.codecs:
                allowed = f"none of {', '.join(form.codecs)}, which are read from {form.name}"
                raise MediaError(path, f"its codec is {self.codec}, {allowed}", "export it as H.264 MP4")
            # Only MP4 takes the count from an index. Interrupted recorders leave a wrong count in AVI.
            self.frames = stream.frames if form in (MP4, MOV) else 0
            self.height, self.width = stream.height, stream.width
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
            self.tags = dict(container.metadata)
            self._seconds = Fraction(stream.duration or 0) * (stream.time_base or 0)
        if self.codec == "mpeg4" and not self.width:
            # In MP4, only the codec's own header states the size of MPEG-4 part 2.
            with self._demuxed(codec_whitelist="mpeg4") as (_, stream):
                self.height, self.width = stream.height, stream.width
        check_size(path, 1, self.height, self.width, limits)
        if self.frames:
            if self.rate <= 0:
                raise MediaError(path, "says no frame rate", "export it again")
            within(path, "frames a second", int(self.rate), MAX_RATE)

    @contextmanager
    def _demuxed(self, **options: str) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Yield the open file and its first video track. Files and URLs that the file refers to are never opened."""
        self._file.seek(0)
        fixed = {"format_whitelist": self._form.demuxer, "protocol_whitelist": "none"}
        # No codec may run while the file is probed: it would decode a frame before its size is known. If one must, it
        # stays within the limit, with room for the padding that it adds.
        fixed |= {"codec_whitelist": "none", "max_pixels": str(2 * self._limits.pixels + (1 << 18))}
        # Probing keeps every packet in memory, and a packet may be one byte.
        fixed["probesize"] = str(_PROBED_BYTES)
        if self._form == AVI:
            fixed["use_odml"] = "0"  # an index of indices can refer to the same index a million times
        name = self._form.demuxer
        with (
            _refusing(self._path),
            av.open(self._file, "r", format=name, options=fixed | options, metadata_errors="replace") as container,
        ):
            # Cover art is a video track too.
            films = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
            if not films:
                raise MediaError(self._path, "holds no film", "name a file with a video track")
            yield container, films[0]

    def counted(self) -> tuple[int, Fraction]:
        """Return the number of frames and the frames per second: from the header, or else by counting packets."""
        if self.frames:
            # An edit list may show fewer frames than there are.
            return min(self.frames, round(self._seconds * self.rate) or self.frames), self.rate
        times: list[tuple[int, int]] = []
        with self._demuxed() as (container, stream):
            unit = Fraction(stream.time_base or 1)
            for packet in self._packets(container, stream):
                hidden = self.codec == "vp8" and packet.size and not memoryview(packet)[0] & _VP8_SHOWN
                if packet.size and not packet.is_discard and not hidden:
                    times.append((packet.pts or 0, packet.duration or 0))
                    if len(times) > _MAX_PACKETS:
                        within(self._path, "frames", len(times), _MAX_PACKETS)
        if not times:
            raise MediaError(self._path, *_NO_FRAMES)
        first, (last, seconds) = min(times)[0], max(times)
        span = last - first + (seconds or Fraction(last - first, max(1, len(times) - 1)))
        measured = len(times) / (span * unit) if span > 0 else self.rate
        # Matroska rounds times to milliseconds, but its header may state the rate.
        rate = self.rate if abs(self.rate - measured) <= measured / 50 else measured
        if rate <= 0:
            raise MediaError(self._path, "says no frame rate", "export it again")
        within(self._path, "frames a second", int(rate), MAX_RATE)
        return len(times), rate

    def shown(self) -> Generator[Shown, None, None]:
        """Yield the frames in presentation order, decoded lazily; check at the end that the file was complete."""
        packets = hidden = found = 0
        begin: Fraction | None = None
        with self._demuxed() as (container, stream):
            # The bitstream may claim another size than the header.
            edge = _EDGES.get(self.codec, _ALIGNMENT)
            most = str((self.height + edge) * (self.width + edge))
            stream.codec_context.options = {"max_pixels": most, "err_detect": "explode"}
            unit = Fraction(stream.time_base or 1)
            room = _MAX_HIDDEN + self._limits.decoded_bytes // (3 * self.height * self.width)
            for packet in self._packets(container, stream):
                packets += bool(packet.size)
                hidden += bool(packet.size and packet.is_discard)
                # A hidden frame takes as long to decode, and may take only a few bytes.
                within(self._path, "frames that are not shown", packets - found, found + room)
                for frame in stream.decode(packet):
                    found += 1
                    if (frame.height, frame.width) != (self.height, self.width) or frame.is_corrupt:
                        raise MediaError(self._path, f"frame {found} does not fit its header", "export it again")
                    at = self._time(frame, found - 1, unit)
                    begin = at if begin is None else begin
                    yield Shown(at - begin, (frame.duration or 0) * unit, partial(_upright, self._path, frame))
        if self.frames:
            self._check_whole(packets, packets - hidden, found)

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet[Any]]:
        """Yield the packets of one track, and finally an empty one, which flushes the decoder."""
        shown = stream.index
        for number, packet in enumerate(container.demux()):
            if number == _MAX_ALL_PACKETS:
                within(self._path, "packets", number + 1, _MAX_ALL_PACKETS)
            if packet.stream.index == shown:  # a flushing packet has no stream_index
                yield packet

    def _time(self, frame: VideoFrame, index: int, unit: Fraction) -> Fraction:
        """Return the presentation time of a frame in seconds. AVI stores only the decoding order."""
        if frame.pts is None or self._form == AVI:
            return index / (self.rate or Fraction(1))
        return frame.pts * unit

    def _check_whole(self, packets: int, expected: int, found: int) -> None:
        if packets < self.frames:  # truncated, unless an edit list omits the rest
            with self._demuxed(ignore_editlist="1") as (container, stream):
                packets = sum(packet.size > 0 for packet in self._packets(container, stream))
        # In an HEVC video cut from another one, frames may lack their references and are not shown.
        if packets < self.frames or (self.codec == "h264" and found != expected):
            raise MediaError(self._path, f"ends after {found} of {self.frames} frames", "fetch or export it again")


@contextmanager
def _refusing(path: FilePath) -> Iterator[None]:
    """Convert every error of FFmpeg to a MediaError."""
    try:
        yield
    except av.FFmpegError as error:
        reason = f"cannot be read ({shown(error.strerror or error)})"
        raise MediaError(path, reason, "check that it is complete and readable") from error


def _upright(path: FilePath, frame: VideoFrame) -> np.ndarray:
    with _refusing(path):
        found = frame.to_ndarray(format="rgb24")
    return np.rot90(found, round(frame.rotation / 90))  # counter-clockwise quarter turns, as phones write them


@contextmanager
def film(path: FilePath, limits: Limits | None = None) -> Iterator[Film | Animation]:
    """Open the video at `path` and check its header. Raises MediaError."""
    with opened(path, limits, "film") as (file, form, judge):
        yield judged_film(path, file, form, judge)


def judged_film(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> Film | Animation:
    """Open the video in `file` and check its container structure and header. Raises MediaError."""
    boxes.check(path, file, form)
    return (Film if form.demuxer else Animation)(path, file, form, limits)


def facts(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> tuple[int, int, int, float]:
    """See `read.facts`."""
    with film(path, limits) as source:
        frames, rate = source.counted()
        with closing(source.shown()) as all_frames:
            first = next(all_frames, None)
            if first is None:
                raise MediaError(path, *_NO_FRAMES)
            height, width, _ = first.pixels.shape
        return frames, width, height, float(rate)


def facts_task(path: FilePath, limits: dict[str, int]) -> Iterator[Any]:
    """Task: the result of `facts`."""
    yield facts(path, Limits(**limits))


def clip_facts_task(path: FilePath) -> Iterator[Any]:
    """Task: the result of `facts` for a video; 1, width, height, 0 for an image, which is decoded: it is complete."""
    with opened(path, None, "either") as (file, form, judge):
        found = None
        if not form.moves:
            with picture(path, file, form, judge) as image:
                found = (1, *upright_size(path, image), 0.0)
    yield facts(path) if found is None else found


def video_task(path: FilePath, limits: dict[str, int]) -> Iterator[Any]:
    """Task: the largest possible number of frames and the frames per second; then each frame."""
    judge = Limits(**limits)
    with film(path, judge) as source:
        count, rate = source.counted()
        most = max(count, source.frames)
        check_size(path, most, source.height, source.width, judge)
        yield {"most": most, "rate": float(rate)}
        with closing(source.shown()) as frames:
            yield from _counted(path, (frame.pixels for frame in frames), most)


def frames_task(path: FilePath, count: int, fps: float, limits: dict[str, int], first: int = 0) -> Iterator[Any]:
    """Task: the largest number of frames that will be sent; then `count` frames from number `first`, resampled."""
    judge = Limits(**limits)
    with film(path, judge) as source:
        check_size(path, count, source.height, source.width, judge)
        yield {"most": count, "rate": fps}
        with closing(source.shown()) as frames:
            chosen = nearest(_bounded(path, frames, judge.frames), count, frame_rate(fps), first)
            yield from _counted(path, chosen, count)


def _bounded(path: FilePath, frames: Iterable[Shown], most: int) -> Iterator[Shown]:
    for number, frame in enumerate(frames, 1):
        within(path, "frames to decode", number, most)
        yield frame


def _counted(path: FilePath, frames: Iterable[np.ndarray], most: int) -> Iterator[Any]:
    """Yield `frames`, checked to be of one size, and finally their number."""
    found, shape = 0, None
    for frame in frames:
        shape = shape or frame.shape
        if found == most or frame.shape != shape:
            raise MediaError(path, f"frame {found + 1} does not fit its header", "export it again")
        yield frame
        found += 1
    if not found:
        raise MediaError(path, *_NO_FRAMES)
    yield {"frames": found}


def picture_task(path: FilePath, limits: dict[str, int] | None) -> Iterator[Any]:
    """Task: the pixels (height, width, 3) uint8 RGB of an image, as `read.read_picture` returns them."""
    judge = None if limits is None else Limits(**limits)
    with opened(path, judge, "picture") as (file, form, judged), picture(path, file, form, judged) as image:
        yield pixels(path, image)
