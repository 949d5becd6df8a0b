"""The sound of films of several shots: a track of the film or of a shot, resumed and reproduced to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.clicks import heard, track, wav

from flickbook.engine.films import RunOptions
from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.engine.shots import shot_list
from flickbook.engine.shots.film import made, run_options_for_shots
from flickbook.engine.shots.plan import Shooting, shooting
from flickbook.errors import Cancelled, RequestError
from flickbook.spec import Step

SHOT = {"prompt": "a red circle moving left on a blue background", "num_frames": 8}


def planned(place: Path, **document: Any) -> tuple[Shooting, RunOptions]:
    """The shot list of a file in `place`: two shots of a second each."""
    defaults = {"seed": 7, "num_inference_steps": 1}
    text = json.dumps({"shots": [SHOT, SHOT], "defaults": defaults, **document})
    (place / "shots.json").write_text(text, encoding="utf-8")
    found = shooting(shot_list.read(place / "shots.json"), {"model": "builtin"})
    return found, run_options_for_shots(found.plan, found.request)


@pytest.mark.slow
def test_a_track_is_under_the_whole_film(tmp_path: Path) -> None:
    wav(tmp_path / "voice.wav", track([0.25, 1.5], 2))
    found, run_options = planned(tmp_path, audio="voice.wav")
    clip = made(found.plan, run_options)
    assert clip.audio is not None and clip.audio.seconds == 2
    assert heard(clip.audio) == pytest.approx([0.25, 1.5], abs=0.001)
    film = clip.save(tmp_path / "film.mp4")
    assert clip.run is not None and str(tmp_path / "voice.wav") in clip.run.inputs.values()
    verdict = reproduce(film)
    assert verdict.identical_files, verdict.causes


@pytest.mark.slow
def test_a_shot_has_a_track_of_its_own_and_a_resumed_film_has_the_same_sound(tmp_path: Path) -> None:
    wav(tmp_path / "line.wav", track([0.25], 0.5))
    shots = [SHOT, {**SHOT, "audio": "line.wav", "audio_fade": 0.01}]
    found, run_options = planned(tmp_path, shots=shots, fade=2)
    whole = made(found.plan, run_options)
    assert whole.audio is not None and heard(whole.audio) == pytest.approx([0.75 + 0.25], abs=0.002)
    assert len(whole.audio.samples) == round(whole.seconds * whole.audio.rate)
    steps: list[Step] = []
    for last in (3, 10_000):  # stopped, then continued
        try:
            resumed = made(
                found.plan,
                run_options,
                directory=tmp_path / "takes",
                on_step=steps.append,
                cancel=lambda last=last: len(steps) > last,
            )
        except Cancelled:
            continue
    again = made(found.plan, run_options, directory=tmp_path / "takes")  # both shots are kept
    for clip in (resumed, again):
        assert clip.audio is not None and np.array_equal(clip.audio.samples, whole.audio.samples)
        assert clip.recipe is not None and whole.recipe is not None
        assert clip.recipe.audio_sha256 == whole.recipe.audio_sha256
    assert reproduce(whole.save(tmp_path / "film.mp4")).identical_files


def test_a_track_longer_than_the_film_is_refused_before_it_is_made(tmp_path: Path) -> None:
    wav(tmp_path / "long.wav", track([0.25], 3))
    with pytest.raises(RequestError, match="lasts 3 seconds, and the film 2"):
        planned(tmp_path, audio="long.wav")
    with pytest.raises(RequestError, match="lasts 3 seconds, and the film 1"):
        planned(tmp_path, shots=[{**SHOT, "audio": "long.wav"}, SHOT])
    assert planned(tmp_path, audio="long.wav", audio_fit="trim")[0].plan.audio_fit == "trim"
