"""Encoding of a film's sound through PyAV: AAC in MP4, Opus in WebM, FLAC in Matroska.

Equal samples give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from flickbook.errors import RequestError
from flickbook.media.sound.resample import LAYOUTS, resampled
from flickbook.media.sound.samples import Sound, whole
from flickbook.spec import Container

if TYPE_CHECKING:
    from av import AudioStream, Packet
    from av.container import OutputContainer


@dataclass(frozen=True)
class Codec:
    """An audio codec: its name, FFmpeg's encoder, its sample format, bits per second of a channel, and its rates."""

    name: str
    library: str
    sample_format: str
    bit_rate: int = 0
    rates: tuple[int, ...] = ()


#: The audio codec of each container that holds sound.
CODECS: Final[dict[Container, Codec]] = {
    "mp4": Codec("aac", "aac", "fltp", 96_000, (48000, 44100, 32000, 24000, 22050, 16000)),
    "webm": Codec("opus", "libopus", "flt", 80_000, (48000, 24000, 16000)),
    "mkv": Codec("flac", "flac", "s32"),
}
#: Rate to which a sound is converted if the codec does not take its own.
_USUAL: Final = 48_000
_BLOCK: Final = 4096
#: Bits of a FLAC sample: float32 has no more.
_FLAC_BITS: Final = 24


def fitted(sound: Sound, container: Container) -> Sound:
    """Return the sound at a rate that the codec of this container takes."""
    rates = CODECS[container].rates
    return sound if not rates or sound.rate in rates else resampled(sound, _USUAL)


def check_encoder(container: Container) -> None:
    """Raises RequestError if this FFmpeg was built without the audio encoder of the container."""
    from av.codec.codec import Codec as Library
    from av.codec.codec import UnknownCodecError

    try:
        Library(CODECS[container].library, "w")
    except UnknownCodecError:
        limit = f"this FFmpeg has no {CODECS[container].library}"
        raise RequestError("audio", container, limit, "choose another container, or leave out the sound") from None


def add_stream(output: OutputContainer, sound: Sound, container: Container) -> AudioStream:
    """Add the audio stream of a film, for a sound that is `fitted`."""
    from av import AudioStream

    codec = CODECS[container]
    channels = sound.samples.shape[1]
    stream = output.add_stream(codec.library, rate=sound.rate, layout=LAYOUTS[channels])
    assert isinstance(stream, AudioStream)
    context = stream.codec_context
    context.format = codec.sample_format
    context.time_base = Fraction(1, sound.rate)
    context.thread_count = 1  # the bytes may depend on the number of threads
    if codec.bit_rate:
        context.bit_rate = codec.bit_rate * channels
    else:
        context.options = {"bits_per_raw_sample": str(_FLAC_BITS)}
    return stream


def packets(stream: AudioStream, sound: Sound) -> Iterator[Packet[AudioStream]]:
    """Encode a sound that is `fitted`; samples beyond -1 and 1 are clipped."""
    from av import AudioFrame

    context = stream.codec_context
    sample_format = context.format.name
    layout = LAYOUTS[sound.samples.shape[1]]
    clipped = np.clip(sound.samples, -1, 1)
    for start in range(0, len(clipped), _BLOCK):
        block = clipped[start : start + _BLOCK]
        if sample_format == "s32":
            block = whole(block).astype(np.int32) << (32 - _FLAC_BITS)
        planes = block.T if sample_format == "fltp" else block.reshape(1, -1)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(planes), format=sample_format, layout=layout)
        frame.rate, frame.pts, frame.time_base = sound.rate, start, Fraction(1, sound.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)
