"""Decoding of the sound of audio files and videos, block by block.

This module runs in a child process of `flickbook.media.untrusted.probe`, on behalf of `flickbook.media.read_sound`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BufferedReader
from typing import Any, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from flickbook.errors import MediaError, shown
from flickbook.media.sound.resample import LAYOUTS
from flickbook.media.sound.samples import MAX_RATE, MIN_RATE, decibels, is_silent
from flickbook.media.untrusted import boxes
from flickbook.media.untrusted.sniff import AVI, MOV, MP4, SOUND_REMEDY, Format, opened, within
from flickbook.media.write import FilePath

#: Longest sound that is decoded, in seconds, and the most channels of a file; more than two are mixed to stereo.
MAX_SECONDS: Final = 3600
_MAX_CHANNELS: Final = 8
_MAX_PACKETS: Final = 1 << 20
_PROBED_BYTES: Final = 1 << 16
_CODECS: Final = ("aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus", "vorbis")
#: Seconds by which a frame may be late without silence being inserted: containers round times.
_GAP: Final = Fraction(1, 20)


class Heard:
    """The first sound of a file: header checked, nothing decoded yet. Raises MediaError.

    `rate` is samples per second, `channels` 1 or 2, `codec` FFmpeg's name.
    """

    def __init__(self, path: FilePath, file: BufferedReader, form: Format) -> None:
        self._path, self._file, self._form = path, file, form
        with self._demuxed() as (_, stream, _):
            context = stream.codec_context
            self.codec = context.codec.canonical_name if context else "unknown"
            self.rate, channels = stream.rate, stream.channels
        if self.codec not in _CODECS and not self.codec.startswith("pcm_"):
            raise MediaError(path, f"the codec of its sound is {self.codec}, which is not read", SOUND_REMEDY)
        if not MIN_RATE <= self.rate <= MAX_RATE:
            reason = f"its sound has {self.rate} samples a second, outside {MIN_RATE} to {MAX_RATE}"
            raise MediaError(path, reason, "resample it to 48000")
        within(path, "channels of sound", channels, _MAX_CHANNELS)
        if channels < 1:
            raise MediaError(path, "says no channels of sound", "export it again")
        self.channels = min(2, channels)

    @contextmanager
    def _demuxed(self) -> Iterator[tuple[InputContainer, AudioStream, Fraction]]:
        """Yield the open file, its first sound, and the time at which its film begins.

        Files and URLs that the file refers to are never opened, and no other stream is decoded.
        """
        with _demuxer(self._path, self._file, self._form) as container:
            if not container.streams.audio:
                raise MediaError(self._path, "holds no sound", "name a file with an audio track")
            sound = container.streams.audio[0]
            # Cover art is a video track too. Without a film, the sound begins at its own first sample.
            films = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
            first = films[0] if films else sound
            began = Fraction(first.start_time or 0) * (first.time_base or 0)
            yield container, sound, began

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the samples (n, channels) float32 from the beginning of the film, at `rate`."""
        done, last = 0, None
        resampler = av.AudioResampler(format="fltp", layout=LAYOUTS[self.channels], rate=self.rate)
        with self._demuxed() as (container, stream, began):
            unit = Fraction(stream.time_base or 0)
            # Its edit list says where the encoder's padding begins. Other formats only estimate their duration.
            if stream.duration is not None and self._form in (MP4, MOV):
                last = round((((stream.start_time or 0) + stream.duration) * unit - began) * self.rate)
            for frame in self._frames(container, stream):
                at = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base - began
                place = done if at is None else round(at * self.rate)
                for samples in self._placed(resampler, frame, place - done if done == 0 else self._late(place, done)):
                    samples = samples if last is None else samples[: max(0, last - done)]
                    done += len(samples)
                    within(self._path, "seconds of sound", done // self.rate, MAX_SECONDS)
                    if len(samples):
                        yield samples
        if not done:
            raise MediaError(self._path, "its sound has no samples", "export it again")

    def _late(self, place: int, done: int) -> int:
        """Return how many samples of silence precede a frame that should begin at `place`, after `done` samples."""
        return place - done if place - done > _GAP * self.rate else 0

    def _frames(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        for number, packet in enumerate(container.demux()):
            if number == _MAX_PACKETS:
                within(self._path, "packets", number + 1, _MAX_PACKETS)
            if packet.stream.index == stream.index:
                yield from stream.decode(packet)

    def _placed(self, resampler: av.AudioResampler, frame: AudioFrame, silence: int) -> Iterator[np.ndarray]:
        """Yield `silence` (negative: samples to drop) and the samples of a frame, as float32 of at most 2 channels."""
        within(self._path, "seconds of sound", silence // self.rate, MAX_SECONDS)
        while silence > 0:
            count = min(silence, self.rate)
            yield np.zeros((count, self.channels), np.float32)
            silence -= count
        if frame.sample_rate != self.rate:
            raise MediaError(self._path, "the rate of its sound changes", "export it again")
        frame.pts = None  # the resampler would fill gaps itself
        for part in resampler.resample(frame):
            samples = part.to_ndarray().T
            drop = min(len(samples), -silence)
            silence += drop
            yield np.nan_to_num(samples[drop:], posinf=1, neginf=-1).astype(np.float32)


@contextmanager
def _demuxer(path: FilePath, file: BufferedReader, form: Format) -> Iterator[InputContainer]:
    """Open the container from its start. Every error of FFmpeg is converted to a MediaError."""
    file.seek(0)
    options = {"format_whitelist": form.demuxer, "protocol_whitelist": "none"}
    options |= {"codec_whitelist": "none", "probesize": str(_PROBED_BYTES)}
    if form == AVI:
        options["use_odml"] = "0"  # an index of indices can refer to the same index a million times
    try:
        with av.open(file, "r", format=form.demuxer, options=options, metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        reason = f"its sound cannot be read ({shown(error.strerror or error)})"
        raise MediaError(path, reason, "check that it is complete and readable") from error


@contextmanager
def heard(path: FilePath, optional: bool = False) -> Iterator[Heard | None]:
    """Open the file at `path` and check its structure and the header of its sound. With `optional`, yield None for a
    video without sound. Raises MediaError."""
    with opened(path, None, "sound") as (file, form, _):
        boxes.check(path, file, form)
        if optional:
            with _demuxer(path, file, form) as container:
                silent = not container.streams.audio
            if silent:
                yield None
                return
        yield Heard(path, file, form)


def sound_task(path: FilePath, seconds: float | None, optional: bool = False) -> Iterator[Any]:
    """Task: the rate and the channels; then blocks of samples, of the first `seconds` only; then their number. With
    `optional`, None for a video without sound."""
    with heard(path, optional) as source:
        if source is None:
            yield None
            return
        yield {"rate": source.rate, "channels": source.channels}
        most = None if seconds is None else round(seconds * source.rate)
        done = 0
        for block in source.blocks():
            part = block if most is None else block[: most - done]
            if len(part):
                yield np.ascontiguousarray(part)
                done += len(part)
            if most is not None and done >= most:
                break
        yield {"samples": done}


def sound_facts_task(path: FilePath, optional: bool = False) -> Iterator[dict[str, Any] | None]:
    """Task: codec, rate, channels, seconds and loudness of a sound, all of which is decoded. With `optional`, None for
    a video without sound."""
    with heard(path, optional) as source:
        if source is None:
            yield None
            return
        count, peak, squares = 0, 0.0, 0.0
        for block in source.blocks():
            count += len(block)
            peak = max(peak, float(np.abs(block).max()))
            squares += float((block.astype(np.float64) ** 2).sum())
        loudest = decibels(peak)
        yield {
            "codec": source.codec,
            "rate": source.rate,
            "channels": source.channels,
            "seconds": count / source.rate,
            "peak_dbfs": loudest,
            "rms_dbfs": decibels((squares / (count * source.channels)) ** 0.5),
            "silent": is_silent(loudest),
        }
