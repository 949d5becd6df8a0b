"""Pictures and films of any common format to frames. Sizes are judged by the headers, before anything is decoded.

What decodes files of others runs in a child of `flickbook.media.untrusted.probe`; `flickbook.media.read` asks it.
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
from flickbook.media.untrusted import av1, boxes
from flickbook.media.untrusted.picture import Animation, picture, pixels
from flickbook.media.untrusted.sniff import (
    AVI,
    DAMAGED,
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
_MAX_ALL_PACKETS: Final = 1 << 20  # those of sound included, and those of no bytes
_PROBED_BYTES: Final = 1 << 15
_MAX_HIDDEN: Final = 64  # frames that a decoder may hold back
_EDGES: Final = {"mpeg4": 256}  # pixels that a decoder adds to a side; others need the codec's alignment
_ALIGNMENT: Final = 64
_NO_FRAMES: Final = ("holds no frames", "name another film")
_VP8_SHOWN: Final = 0x10  # this bit of a VP8 frame's first byte (RFC 6386, 9.1)


class Film:
    """A film that FFmpeg reads, its header judged and nothing decoded.

    `frames` is 0 where the header does not say, `rate` is frames a second, `tags` what the file says of itself. Each
    method reads the file from its start, and raises MediaError for what is damaged or larger than `limits`.
    """

    def __init__(self, path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> None:
        self._path, self._file, self._form, self._limits = path, file, form, limits
        with self._demuxed() as (container, stream):
            context = stream.codec_context
            self.codec = context.codec.canonical_name if context else "unknown"
            if self.codec not in form.codecs:
                allowed = f"none of {', '.join(form.codecs)}, which are read from {form.name}"
                raise MediaError(path, f"its codec is {self.codec}, {allowed}", "export it as H.264 MP4")
            # Only in MP4 is the number that of an index. Recorders that were stopped leave it wrong in AVI.
            self.frames = stream.frames if form in (MP4, MOV) else 0
            self.height, self.width = stream.height, stream.width
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
            self.tags = dict(container.metadata)
            self._seconds = Fraction(stream.duration or 0) * (stream.time_base or 0)
        if self.codec == "mpeg4" and not self.width:
            # In MP4, only the codec's own header says the size of MPEG-4 part 2.
            with self._demuxed(codec_whitelist="mpeg4") as (_, stream):
                self.height, self.width = stream.height, stream.width
        check_size(path, 1, self.height, self.width, limits)
        if self.frames:
            if self.rate <= 0:
                raise MediaError(path, "says no frame rate", "export it again")
            within(path, "frames a second", int(self.rate), MAX_RATE)

    @contextmanager
    def _demuxed(self, **options: str) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The open file and its first video track. Nothing that the file names, a file or an address, is opened."""
        self._file.seek(0)
        given = {"format_whitelist": self._form.demuxer, "protocol_whitelist": "none"}
        # No codec may run while the file is probed: that would decode a frame before its size is known. Where one
        # must, it stays within the limit, with room for the edges that it adds.
        given |= {"codec_whitelist": "none", "max_pixels": str(2 * self._limits.pixels + (1 << 18))}
        # Meanwhile it keeps every packet, and one may be a byte.
        given["probesize"] = str(_PROBED_BYTES)
        if self._form == AVI:
            given["use_odml"] = "0"  # an index of indices can name the same one a million times
        name = self._form.demuxer
        with (
            _refusing(self._path),
            av.open(self._file, "r", format=name, options=given | options, metadata_errors="replace") as container,
        ):
            # A cover is a video track too.
            films = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
            if not films:
                raise MediaError(self._path, "holds no film", "name a file with a video track")
            yield container, films[0]

    def counted(self) -> tuple[int, Fraction]:
        """How many frames there are, and frames a second: by the header, or by the packets where it does not say."""
        if self.frames:
            # An edit list may show fewer than there are.
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
        # Matroska rounds times to milliseconds, where its header may say the rate.
        rate = self.rate if abs(self.rate - measured) <= measured / 50 else measured
        if rate <= 0:
            raise MediaError(self._path, "says no frame rate", "export it again")
        within(self._path, "frames a second", int(rate), MAX_RATE)
        return len(times), rate

    def shown(self) -> Generator[Shown, None, None]:
        """The frames in time, each decoded when it is asked for; at the end, whether the file held all of them."""
        packets = decoded = hidden = found = 0
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
                decoded += self._frames_in(packet)
                # A frame that is never shown takes as long to decode, and a few bytes can be one.
                within(self._path, "frames that are not shown", decoded - found, found + room)
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
        """The packets of one track, and at the end one of no bytes, which empties the decoder."""
        shown = stream.index
        for number, packet in enumerate(container.demux()):
            if number == _MAX_ALL_PACKETS:
                within(self._path, "packets", number + 1, _MAX_ALL_PACKETS)
            if packet.stream.index == shown:  # what empties a decoder says its stream only there
                yield packet

    def _frames_in(self, packet: Packet[Any]) -> int:
        """How many frames a packet holds, those that are not shown included: in AV1 as many as its writer likes."""
        if self.codec != "av1":
            return int(packet.size > 0)
        try:
            return av1.judged(bytes(packet)).frames
        except ValueError:
            raise MediaError(self._path, *DAMAGED) from None

    def _time(self, frame: VideoFrame, index: int, unit: Fraction) -> Fraction:
        """When a frame is shown, in seconds. AVI knows only the order in which frames are decoded."""
        if frame.pts is None or self._form == AVI:
            return index / (self.rate or Fraction(1))
        return frame.pts * unit

    def _check_whole(self, packets: int, expected: int, found: int) -> None:
        if packets < self.frames:  # cut short, unless an edit list leaves the rest out
            with self._demuxed(ignore_editlist="1") as (container, stream):
                packets = sum(packet.size > 0 for packet in self._packets(container, stream))
        # Of an HEVC film cut out of another, frames may lack what they refer to, and are not shown.
        if packets < self.frames or (self.codec == "h264" and found != expected):
            raise MediaError(self._path, f"ends after {found} of {self.frames} frames", "fetch or export it again")


@contextmanager
def _refusing(path: FilePath) -> Iterator[None]:
    """Whatever FFmpeg reports becomes a MediaError."""
    try:
        yield
    except av.FFmpegError as error:
        reason = f"cannot be read ({shown(error.strerror or error)})"
        raise MediaError(path, reason, "check that it is complete and readable") from error


def _upright(path: FilePath, frame: VideoFrame) -> np.ndarray:
    with _refusing(path):
        found = frame.to_ndarray(format="rgb24")
    return np.rot90(found, round(frame.rotation / 90))  # quarter turns against the clock, as phones write them


@contextmanager
def film(path: FilePath, limits: Limits | None = None) -> Iterator[Film | Animation]:
    """The film at `path`, open and judged by its header. Raises MediaError."""
    with opened(path, limits, "film") as (file, form, judge):
        yield judged_film(path, file, form, judge)


def judged_film(path: FilePath, file: BufferedReader, form: Format, limits: Limits) -> Film | Animation:
    """The film in `file`, its boxes and its header judged. Raises MediaError."""
    boxes.check(path, file, form)
    return (Film if form.demuxer else Animation)(path, file, form, limits)


def facts(path: FilePath, limits: Limits = DEFAULT_LIMITS) -> tuple[int, int, int, float]:
    """What `read.facts` says."""
    with film(path, limits) as source:
        frames, rate = source.counted()
        with closing(source.shown()) as all_frames:
            first = next(all_frames, None)
            if first is None:
                raise MediaError(path, *_NO_FRAMES)
            height, width, _ = first.pixels.shape
        return frames, width, height, float(rate)


def facts_task(path: FilePath, limits: dict[str, int]) -> Iterator[Any]:
    """Task: what `facts` says."""
    yield facts(path, Limits(**limits))


def video_task(path: FilePath, limits: dict[str, int]) -> Iterator[Any]:
    """Task: how many frames a film has at most, and its frames a second; then each frame."""
    judge = Limits(**limits)
    with film(path, judge) as source:
        count, rate = source.counted()
        most = max(count, source.frames)
        check_size(path, most, source.height, source.width, judge)
        yield {"most": most, "rate": float(rate)}
        with closing(source.shown()) as frames:
            yield from _counted(path, (frame.pixels for frame in frames), most)


def frames_task(path: FilePath, count: int, fps: float, limits: dict[str, int]) -> Iterator[Any]:
    """Task: how many frames are sent at most; then each of the first `count` of a film as it is at `fps`."""
    judge = Limits(**limits)
    with film(path, judge) as source:
        check_size(path, count, source.height, source.width, judge)
        yield {"most": count, "rate": fps}
        with closing(source.shown()) as frames:
            yield from _counted(path, nearest(_bounded(path, frames, judge.frames), count, frame_rate(fps)), count)


def _bounded(path: FilePath, frames: Iterable[Shown], most: int) -> Iterator[Shown]:
    for number, frame in enumerate(frames, 1):
        within(path, "frames to decode", number, most)
        yield frame


def _counted(path: FilePath, frames: Iterable[np.ndarray], most: int) -> Iterator[Any]:
    """`frames`, all of one size, and then how many there were."""
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
    """Task: the pixels (height, width, 3) uint8 RGB of a picture, as `read.read_picture` gives them."""
    judge = None if limits is None else Limits(**limits)
    with opened(path, judge, "picture") as (file, form, judged), picture(path, file, form, judged) as (image, turned):
        yield pixels(path, image, turned)
