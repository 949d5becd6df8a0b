"""Sound in files: at the right time, in every container, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from tests.clicks import flashes, heard, seen, track

from flickbook.errors import RequestError
from flickbook.media.clip import Clip
from flickbook.media.inspect import inspect
from flickbook.media.read import read_video
from flickbook.media.read_sound import film_sound, read_sound, sound_facts
from flickbook.media.sound.mix import stored
from flickbook.media.sound.samples import Sound, samples_in

CODECS = {"mp4": "aac", "webm": "opus", "mkv": "flac"}


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("container", CODECS)
def test_clicks_are_at_the_white_frames_of_the_file(container: str, rate: int, tmp_path: Path) -> None:
    clip = flashes([2, 7, 13], 16, 8, rate)
    film = clip.save(tmp_path / f"film.{container}")
    frames, fps = read_video(film)
    sound = read_sound(film)
    assert seen(frames) == [2, 7, 13] and len(frames) == 16 and fps == 8
    assert heard(sound) == pytest.approx([(frame + 0.5) / 8 for frame in (2, 7, 13)], abs=0.002)
    assert sound.seconds == pytest.approx(2, abs=0.03)
    assert sound_facts(film)["codec"] == CODECS[container]


@pytest.mark.parametrize("container", CODECS)
def test_equal_films_are_equal_files(container: str, tmp_path: Path) -> None:
    one, other = (flashes([3], 8, 8).save(tmp_path / f"{name}.{container}") for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    louder = flashes([3], 8, 8)
    changed = Clip(louder.frames, 8, audio=track([0.1], 1)).save(tmp_path / f"c.{container}")
    assert changed.read_bytes() != one.read_bytes()


def test_a_player_finds_both_streams_near_each_other(tmp_path: Path) -> None:
    """The packets of frames and sound alternate, so that playing needs no seeking."""
    film = flashes([3], 40, 8).save(tmp_path / "film.mp4")
    with av.open(str(film)) as container:
        kinds = [(packet.stream.type, packet.pos) for packet in container.demux() if packet.size]
    order = [kind for kind, _ in sorted(kinds, key=lambda each: each[1] or 0)]
    changes = sum(one != other for one, other in zip(order, order[1:], strict=False))
    assert {"video", "audio"} == set(order) and changes > 20


def test_flac_keeps_24_bits_of_each_sample(tmp_path: Path) -> None:
    clip = flashes([3], 16, 8)
    assert clip.audio is not None
    found = read_sound(clip.save(tmp_path / "film.mkv"))
    assert np.abs(found.samples - clip.audio.samples).max() < 2**-23
    assert np.array_equal(found.samples, stored(clip.audio).samples)


@pytest.mark.parametrize("name", ["film.gif", "film.webp", "film.apng"])
def test_a_format_without_sound_leaves_it_out(name: str, tmp_path: Path) -> None:
    film = flashes([3], 8, 8).save(tmp_path / name)
    assert film_sound(film) is None and inspect(film)["audio"] is None


def test_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    frames = flashes([3], 8, 8).frames
    loud = track([0.5], 1)
    film = Clip(frames, 8, audio=type(loud)(loud.samples * 4, loud.rate)).save(tmp_path / "film.mkv")
    assert sound_facts(film)["peak_dbfs"] == 0.0


def test_a_sound_as_long_as_a_film_of_an_unusual_rate_is_accepted() -> None:
    """The film's file stores a rate near 30.0004, by which both have one duration."""
    for fps, count in ((30.0004, 300), (8.0004, 32), (24.0003, 240)):
        frames = np.zeros((count, 8, 8, 3), np.uint8)
        silence = Sound(np.zeros((samples_in(count, fps, 48_000), 1), np.float32), 48_000)
        assert Clip(frames, fps, audio=silence).audio is silence


def test_a_sound_longer_than_the_film_is_refused() -> None:
    with pytest.raises(RequestError, match=r"2\.5 s: must be at most 2 seconds"):
        Clip(flashes([3], 16, 8).frames, 8, audio=track([0.5], 2.5))
