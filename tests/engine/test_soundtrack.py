"""The sound of a film: a track is fitted to it, and polishing keeps the sound at its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.clicks import flashes, heard, seen, track, wav

from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.engine.treat import polish
from flickbook.errors import MediaError, RequestError
from flickbook.media.clip import Clip
from flickbook.media.read_sound import film_sound, read_sound
from flickbook.media.sound.samples import Sound
from flickbook.spec import Treatment

FRAMES, FPS = [3, 8, 13], 8.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with three white frames, and a click in the middle of each."""
    return flashes(FRAMES, 16, FPS).save(tmp_path_factory.mktemp("films") / "film.mkv")


def in_step(clip: Clip) -> list[float]:
    """The times of the clicks, each of which plays while a white frame is shown."""
    assert clip.audio is not None and clip.recipe is not None
    assert len(clip.audio.samples) == round(clip.seconds * clip.audio.rate)
    assert clip.recipe.audio_sha256 == clip.audio.sha256
    clicks = heard(clip.audio)
    white = np.flatnonzero(clip.frames.reshape(len(clip.frames), -1).mean(1) > 200)
    # A click may touch the frame after the one that it begins in.
    assert all(
        {int(click * clip.fps + 1e-3), int((click + 0.004) * clip.fps)} & set(white.tolist()) for click in clicks
    )
    return clicks


@pytest.mark.parametrize(
    ("options", "clicks"),
    [
        ({"trim": "4:16f"}, 2),
        ({"trim": "0.25:1.2"}, 2),
        ({"interpolate": "2x"}, 3),
        ({"interpolate": "4x", "trim": "0:9f"}, 2),
        ({"speed": 2.0}, 3),
        ({"speed": 0.5}, 3),
        ({"rate": 24.0}, 3),
        ({"rate": 5.0}, 0),
        ({"loop": "pingpong"}, 6),
        ({"upscale": 2, "steady": 0.0, "text": "hello"}, 3),
        ({"trim": "2:14f", "interpolate": "2x", "speed": 2.0, "rate": 30.0}, 3),
    ],
)
def test_a_click_stays_at_its_white_frame(film: Path, options: dict[str, Any], clicks: int, tmp_path: Path) -> None:
    clip = polish(film, container="mkv", **options)
    if not clicks:  # frames were dropped, and white ones may be among them
        assert clip.audio is not None and len(heard(clip.audio)) == 3
        return
    assert len(in_step(clip)) == clicks
    saved = clip.save(tmp_path / "polished.mkv")
    assert heard(read_sound(saved)) == pytest.approx(heard(clip.audio), abs=0.002)  # type: ignore[arg-type]


def test_a_loop_that_cuts_or_blends_keeps_the_sound_of_its_frames(tmp_path: Path) -> None:
    """The film turns: its frames come back, so a part of it can be cut to a loop."""
    count = 24
    angle = 2 * np.pi * np.arange(count) / 12
    frames = np.full((count, 32, 48, 3), 16, np.uint8)
    for number in range(count):
        x, y = round(20 + 12 * np.cos(angle[number])), round(12 + 8 * np.sin(angle[number]))
        frames[number, y : y + 8, x : x + 8] = 90
    frames[7] = 240
    film = Clip(frames, FPS, audio=track([7.5 / FPS], count / FPS)).save(tmp_path / "film.mkv")
    for mode in ("cut", "blend"):
        try:
            clip = polish(film, loop=mode, container="mkv")
        except RequestError:
            pytest.fail(f"{mode} refused a film that turns")
        assert clip.audio is not None and len(clip.frames) < count
        (white,) = seen(clip.frames) or [None]
        if white is not None:
            assert min(abs(click - (white + 0.5) / FPS) for click in heard(clip.audio)) < 0.01


@pytest.mark.parametrize("fade", [0, 2])
def test_joined_films_are_heard_one_after_the_other(film: Path, fade: int, tmp_path: Path) -> None:
    clip = polish(film, join=[film], fade=fade, container="mkv")
    assert len(in_step(clip)) == 6
    silent = flashes([2], 16, 16.0)
    other = Clip(silent.frames, 16.0).save(tmp_path / "silent.mkv")
    clip = polish(other, join=[film], container="mkv")
    assert [round(click - 1, 3) for click in heard(clip.audio)] == [  # type: ignore[arg-type]
        pytest.approx((frame + 0.5) / FPS, abs=0.002) for frame in FRAMES
    ]


def test_a_track_replaces_the_sound_and_none_removes_it(film: Path, tmp_path: Path) -> None:
    place = wav(tmp_path / "track.wav", track([0.5], 1))
    clip = polish(film, audio=place, container="mkv")
    assert clip.audio is not None and heard(clip.audio) == pytest.approx([0.5], abs=0.001)
    assert len(clip.audio.samples) == 96_000 and not clip.audio.samples[50_000:].any()
    assert clip.recipe is not None and isinstance(clip.recipe.plan, Treatment)
    assert clip.run is not None and str(place) in clip.run.inputs.values()
    saved = clip.save(tmp_path / "with.mkv")
    assert reproduce(saved).identical_files
    silent = polish(saved, audio="none")
    assert silent.audio is None and film_sound(silent.save(tmp_path / "silent.mp4")) is None


@pytest.mark.parametrize(
    ("seconds", "fit", "expected"),
    [
        (1.0, None, [0.25]),
        (0.5, "loop", [0.25, 0.75, 1.25, 1.75]),
        (1.5, "loop", [0.25, 1.75]),
        (3.0, "trim", [0.25]),
        (3.0, "loop", [0.25]),
        (2.02, None, [0.25]),
    ],
)
def test_a_track_is_fitted_to_the_film(
    film: Path, seconds: float, fit: Any, expected: list[float], tmp_path: Path
) -> None:
    place = wav(tmp_path / "track.wav", track([0.25], seconds))
    clip = polish(film, audio=place, audio_fit=fit, container="mkv")
    assert clip.audio is not None and len(clip.audio.samples) == 96_000
    assert heard(clip.audio) == pytest.approx(expected, abs=0.001)


def test_a_track_longer_than_the_film_is_refused_with_the_remedy(film: Path, tmp_path: Path) -> None:
    place = wav(tmp_path / "long.wav", track([0.25], 3))
    with pytest.raises(RequestError) as caught:
        polish(film, audio=place)
    assert str(caught.value) == (
        "audio=long.wav: lasts 3 seconds, and the film 2; set the audio fit to trim to cut it, or make a longer film"
    )
    # The duration is that of the finished film.
    assert polish(film, audio=place, speed=0.5).audio is not None


def test_a_track_fades_with_its_own_end(film: Path, tmp_path: Path) -> None:
    steady = Sound(np.full((48_000, 1), 0.5, np.float32), 48_000)
    clip = polish(film, audio=wav(tmp_path / "track.wav", steady), audio_fade=0.25, container="mkv")
    assert clip.audio is not None
    level = clip.audio.samples[:, 0]
    assert abs(level[0]) < 0.01 and abs(level[47_999]) < 0.01 and level[24_000] == pytest.approx(0.5, abs=1e-3)
    assert level[6_000] == pytest.approx(0.5 * np.sin(np.pi / 4), abs=0.01) and not level[48_000:].any()


@pytest.mark.parametrize(
    ("options", "field", "limit"),
    [
        ({"audio_fit": "trim"}, "audio_fit", "no effect without a track"),
        ({"audio": "none", "audio_fade": 1.0}, "audio_fade", "no effect without a track"),
        ({"audio": "track.wav", "audio_fade": 61.0}, "audio_fade", "0 to 60 seconds"),
        ({"audio": "track.wav", "container": "gif"}, "audio", "gif files hold no sound"),
    ],
)
def test_a_sound_that_could_not_be_heard_is_refused(
    film: Path, options: dict[str, Any], field: str, limit: str, work: Path
) -> None:
    wav(work / "track.wav", track([0.25], 1))
    with pytest.raises(RequestError, match=limit) as caught:
        polish(film, **options)
    assert caught.value.field == field


def test_a_file_that_is_no_sound_is_refused(film: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello, world", encoding="ascii")
    with pytest.raises(MediaError, match="no sound"):
        polish(film, audio=tmp_path / "text.wav")
    with pytest.raises(MediaError, match="No such file"):
        polish(film, audio=tmp_path / "nothing.wav")
    silent = Clip(flashes([2], 8, 8).frames, 8.0).save(tmp_path / "silent.mp4")
    with pytest.raises(MediaError, match="holds no sound"):
        polish(film, audio=silent)


def test_reproduction_notices_another_sound(film: Path, tmp_path: Path) -> None:
    place = wav(tmp_path / "track.wav", track([0.5], 1))
    clip = polish(film, audio=place, container="mkv")
    saved = clip.save(tmp_path / "with.mkv")
    assert clip.recipe is not None
    other = Clip(clip.frames, clip.fps, clip.recipe.model_copy(update={"audio_sha256": None}), clip.run)
    other.save(tmp_path / "with.mkv", overwrite=True)
    verdict = reproduce(saved)
    assert verdict.outcome == "differs" and "the sound is a different one" in verdict.causes
    place.unlink()
    verdict = reproduce(clip.save(tmp_path / "with.mkv", overwrite=True))
    assert verdict.outcome == "differs" and "the audio with SHA-256" in verdict.causes[0]
