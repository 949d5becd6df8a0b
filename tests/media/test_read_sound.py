"""Sound is read from every common file, from the beginning of the film, and damaged files are refused."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest
from tests.clicks import flashes, heard, track, wav

from flickbook.errors import MediaError
from flickbook.media.read_sound import film_sound, film_sound_facts, read_sound, sound_facts
from flickbook.media.sound.samples import Sound
from flickbook.media.write import write_png

TIMES = [0.25, 1.0, 1.75]
FORMATS = {
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
    "m4a": ("mp4", "aac"),
    "mov": ("mov", "aac"),
    "mka": ("matroska", "flac"),
}


def encoded(path: Path, sound: Sound, layout: str = "stereo") -> Path:
    """Write a sound in the format of the suffix."""
    muxer, codec = FORMATS[path.suffix[1:]]
    with av.open(str(path), "w", format=muxer) as output:
        stream = output.add_stream(codec, rate=sound.rate, layout=layout)
        kind = stream.codec_context.codec.audio_formats[0].name  # type: ignore[index]
        stream.codec_context.format = kind  # type: ignore[union-attr]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.samples.T), format="fltp", layout=layout)
        frame.rate, frame.pts = sound.rate, 0
        for part in av.AudioResampler(format=kind, layout=layout, rate=sound.rate).resample(frame):
            output.mux(stream.encode(part))  # type: ignore[arg-type]
        output.mux(stream.encode(None))  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("suffix", ["wav", *FORMATS])
def test_clicks_are_read_at_their_times(suffix: str, tmp_path: Path) -> None:
    sound = track(TIMES, 2)
    path = tmp_path / f"clicks.{suffix}"
    path = wav(path, sound) if suffix == "wav" else encoded(path, sound)
    found = read_sound(path)
    assert heard(found) == pytest.approx(TIMES, abs=0.001)
    assert (found.rate, found.samples.shape[1]) == (48_000, 2) and found.seconds == pytest.approx(2, abs=0.03)
    facts = sound_facts(path)
    assert facts["seconds"] == pytest.approx(found.seconds) and -2 < facts["peak_dbfs"] <= 0.5


def test_only_the_beginning_is_read_if_asked(tmp_path: Path) -> None:
    path = wav(tmp_path / "clicks.wav", track(TIMES, 2))
    assert len(read_sound(path, 0.5).samples) == 24_000
    assert read_sound(path, 60).seconds == 2


def test_more_channels_are_mixed_to_two(tmp_path: Path) -> None:
    six = np.repeat(track(TIMES, 2, channels=1).samples, 6, axis=1)
    path = encoded(tmp_path / "six.flac", _Wide(six), "5.1")
    found = read_sound(path)
    assert found.samples.shape[1] == 2 and heard(found) == pytest.approx(TIMES, abs=0.001)


class _Wide(Sound):
    """A sound with more channels than a film has."""

    def __init__(self, samples: np.ndarray) -> None:
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "rate", 48_000)


def test_a_sound_that_starts_after_its_film_is_preceded_by_silence(tmp_path: Path) -> None:
    film = flashes([2], 16, 8).save(tmp_path / "film.mkv")
    late = tmp_path / "late.mkv"
    with av.open(str(film)) as source, av.open(str(late), "w", format="matroska") as output:
        streams = {each.index: output.add_stream_from_template(each) for each in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                packet.pts, packet.dts = packet.pts + 500, packet.dts + 500  # milliseconds
            packet.stream = streams[packet.stream.index]
            output.mux(packet)
    assert heard(read_sound(late)) == pytest.approx([2.5 / 8 + 0.5], abs=0.002)


def test_a_film_without_sound_and_an_image_have_none(tmp_path: Path) -> None:
    clip = flashes([2], 8, 8)
    silent = type(clip)(clip.frames, 8.0).save(tmp_path / "silent.mp4")
    write_png(tmp_path / "a.png", clip.frames[0])
    clip.save(tmp_path / "film.mp4")
    numbered = clip.save(tmp_path / "shot-%02d.png")
    assert [film_sound(each) for each in (silent, tmp_path / "a.png", numbered)] == [None] * 3
    found = film_sound(tmp_path / "film.mp4")
    facts = film_sound_facts(tmp_path / "film.mp4")
    assert found is not None and facts is not None and facts["seconds"] == found.seconds
    with pytest.raises(MediaError, match="holds no sound; name a file with an audio track"):
        read_sound(silent)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"", "empty, 0 bytes"),
        (b"hello, world", "as no sound does that is read; convert it to WAV"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", "cannot be read|no sound"),
        (b"fLaC" + bytes(64), "cannot be read"),
        (b"OggS" + bytes(60), "cannot be read|no sound"),
        (b"\0\0\0\x1cftypM4A \0\0\0\0", "damaged|index"),
        (b"ID3\4\0\0\0\0\0\0" + bytes(4096), "cannot be read|no sound|no samples"),
        (b"#EXTM3U\nhttp://example.com/a.mp3\n", "as no sound does"),
    ],
)
def test_a_file_that_is_no_sound_is_refused(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    if content is not None:
        path.write_bytes(content)
    for read in (read_sound, sound_facts):
        with pytest.raises(MediaError, match=reason):
            read(path)


def test_a_rate_that_no_film_has_is_refused(tmp_path: Path) -> None:
    slow = Sound(np.zeros((8_000, 1), np.float32), 4_000)
    object.__setattr__(slow, "rate", 1_000)
    with pytest.raises(MediaError, match="1000 samples a second, outside 4000 to 192000"):
        read_sound(wav(tmp_path / "slow.wav", slow))


def test_a_header_that_promises_more_than_the_file_has_costs_no_memory(tmp_path: Path) -> None:
    path = wav(tmp_path / "short.wav", track([0.1], 0.5))
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = (0xFFFF_FFF0).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    assert read_sound(path).seconds == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["wav", *FORMATS])
def test_damaged_bytes_are_a_refusal_or_another_sound(suffix: str, tmp_path: Path) -> None:
    """Whatever the bytes are, the reader ends with a sound or a MediaError, and the next file is read."""
    sound = track(TIMES, 2)
    path = tmp_path / f"clicks.{suffix}"
    data = (wav(path, sound) if suffix == "wav" else encoded(path, sound)).read_bytes()
    chance = random.Random(suffix)
    for _ in range(20):
        broken = bytearray(data)
        for _ in range(chance.choice((1, 8, 64))):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        path.write_bytes(bytes(broken[: chance.randrange(1, len(broken))]))
        try:
            found = read_sound(path)
        except MediaError:
            continue
        assert np.isfinite(found.samples).all()
    path.write_bytes(data)
    assert heard(read_sound(path)) == pytest.approx(TIMES, abs=0.001)


def test_the_loudness_of_a_sine_is_three_decibels_below_its_peak(tmp_path: Path) -> None:
    samples = np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000).astype(np.float32)[:, None].repeat(2, 1)
    for level, peak in ((1.0, 0.0), (0.1, -20.0)):
        facts = sound_facts(encoded(tmp_path / "sine.flac", Sound(level * samples, 48_000)))
        assert (round(facts["peak_dbfs"], 1), round(facts["rms_dbfs"], 1)) == (peak, peak - 3)
    silence = sound_facts(encoded(tmp_path / "silence.flac", Sound(0 * samples, 48_000)))
    assert (silence["peak_dbfs"], silence["rms_dbfs"]) == (None, None)
