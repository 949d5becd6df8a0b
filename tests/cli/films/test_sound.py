"""Sound on the command line: `generate`, `sequence`, `batch` and `polish` with a track, `inspect` and `reproduce`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.clicks import heard, track, wav

from flickbook.cli.app import run
from flickbook.media.read_sound import read_sound
from flickbook.media.sound.samples import Sound

SHORT = ["--num-inference-steps", "2", "--num-frames", "8", "--seed", "7"]
PROMPT = "a red circle moving left on a blue background"
CLICKS = [0.25, 0.75]


@pytest.fixture
def tone(work: Path) -> Path:
    """A second with two clicks."""
    return wav(work / "tone.wav", track(CLICKS, 1))


def inspected(path: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["inspect", path, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("film.webm", "film.mkv")]


@pytest.mark.parametrize("name", ["film.mp4", *_SLOW])
def test_a_film_with_a_track_is_made_inspected_and_reproduced(
    tone: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", PROMPT, *SHORT, "--audio", "tone.wav", "-o", name]) == 0
    assert heard(read_sound(name)) == pytest.approx(CLICKS, abs=0.002)
    facts = inspected(name, capsys)
    assert facts["audio"]["channels"] == 2 and facts["audio"]["rate"] == 48_000
    assert facts["audio"]["seconds"] == pytest.approx(1, abs=0.03)
    assert facts["audio"]["peak_dbfs"] == pytest.approx(-0.9, abs=1) and facts["audio"]["silent"] is False
    assert len(facts["recipe"]["audio_sha256"]) == 64 and len(facts["recipe"]["plan"]["audio"]) == 64
    assert run(["reproduce", name]) == 0
    assert capsys.readouterr().out == "identical\n"
    assert run(["reproduce", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical_files"] is True


def test_inspect_says_when_a_film_has_no_sound_or_a_silent_one(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", PROMPT, *SHORT, "-o", "film.mp4"]) == 0
    capsys.readouterr()
    assert run(["inspect", "film.mp4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "audio: none" in lines and not any("audio_sha256" in line for line in lines)
    wav(work / "silence.wav", Sound(np.zeros((8_000, 1), np.float32), 8_000))
    assert run(["polish", "film.mp4", "--audio", "silence.wav", "-o", "silent.mp4"]) == 0
    assert run(["inspect", "silent.mp4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"  codec: aac", "  channels: 1", "  silent: True"} <= set(lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["generate", PROMPT, *SHORT, "--trim", "0:4f", "--audio", "tone.wav"],
            "--audio tone.wav: lasts 1 seconds, and the film 0.5; set the audio fit to trim to cut it",
        ),
        (["generate", PROMPT, *SHORT, "--audio", "tone.wav", "-o", "a.gif"], "gif files hold no sound; name the film"),
        (["generate", PROMPT, *SHORT, "--audio", "no.wav"], "no.wav: No such file"),
        (["generate", PROMPT, *SHORT, "--audio", "text.wav"], "as no sound does that is read; convert it to WAV"),
        (["generate", PROMPT, *SHORT, "--audio-fade", "1"], "--audio-fade 1.0: has no effect without a track"),
        (["generate", PROMPT, *SHORT, "--audio", "tone.wav", "--audio-fit", "stretch"], "--audio-fit stretch"),
    ],
)
def test_a_sound_that_does_not_fit_is_refused_before_computing(
    tone: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tone.parent / "text.wav").write_text("hello", encoding="ascii")
    assert run(words) == 2
    err = capsys.readouterr().err
    assert message in err and "denoise" not in err
    assert {each.name for each in tone.parent.iterdir()} == {"tone.wav", "text.wav"}


def test_a_longer_track_is_cut_if_asked_and_a_shorter_one_repeated(tone: Path) -> None:
    words = ["generate", PROMPT, *SHORT, "--audio", "tone.wav", "-o"]
    assert run([*words, "cut.mkv", "--trim", "0:4f", "--audio-fit", "trim"]) == 0
    assert heard(read_sound("cut.mkv")) == pytest.approx([0.25], abs=0.001)
    assert run([*words, "twice.mkv", "--speed", "0.5", "--audio-fit", "loop"]) == 0
    assert heard(read_sound("twice.mkv")) == pytest.approx([0.25, 0.75, 1.25, 1.75], abs=0.001)


def test_polish_replaces_and_removes_a_sound(tone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", PROMPT, *SHORT, "--audio", "tone.wav", "-o", "film.mp4"]) == 0
    wav(tone.parent / "other.wav", track([0.5], 1))
    assert run(["polish", "film.mp4", "--audio", "other.wav", "-o", "other.mp4"]) == 0
    assert heard(read_sound("other.mp4")) == pytest.approx([0.5], abs=0.002)
    assert run(["polish", "film.mp4", "--audio", "none", "-o", "silent.mp4"]) == 0
    assert inspected("silent.mp4", capsys)["audio"] is None
    assert run(["polish", "film.mp4", "-o", "film.gif"]) == 0
    assert inspected("film.gif", capsys)["run"]["notes"] == ["gif files hold no sound, so the film's was left out"]


@pytest.mark.slow
def test_a_sequence_and_a_batch_have_tracks_too(tone: Path, work: Path) -> None:
    words = ["sequence", "a red circle", "a blue square", "--frames-per", "4", "--num-inference-steps", "1"]
    assert run([*words, "--audio", "tone.wav", "-o", "sequence.mkv"]) == 0
    assert heard(read_sound("sequence.mkv")) == pytest.approx(CLICKS, abs=0.001)
    (work / "films").mkdir()
    rows = [{"prompt": PROMPT, "audio": "../tone.wav", "seed": 1}, {"prompt": PROMPT, "audio": "none", "seed": 2}]
    shared = {"num_frames": 8, "num_inference_steps": 1}
    text = "".join(json.dumps(row | shared) + "\n" for row in rows)
    (work / "films" / "batch.jsonl").write_text(text, encoding="utf-8")
    assert run(["batch", "films/batch.jsonl", "--output", "made/{number}.mp4"]) == 0
    films = sorted((work / "made").glob("*.mp4"))
    assert len(films) == 2
    sounding = [film for film in films if b"mp4a" in film.read_bytes()]
    assert len(sounding) == 1 and heard(read_sound(sounding[0])) == pytest.approx(CLICKS, abs=0.002)
