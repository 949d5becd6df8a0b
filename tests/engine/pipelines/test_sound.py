"""Models that make sound: it reaches the film, in step with the frames, and a resumed film has the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.cases import CASES
from tests.contract.matrix import request_of

from flickbook import catalogue
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.engine import Engine
from flickbook.engine.films import RunOptions, films
from flickbook.engine.pipelines.result import sound_of
from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.errors import WeightsError
from flickbook.media.clip import Clip
from flickbook.media.read_sound import sound_facts
from flickbook.media.sound.samples import Sound
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Step

LTX2 = next(case for case in CASES if case.build == "ltx2")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LTX-2 on the disk."""
    place = tmp_path_factory.mktemp("ltx2")
    LTX2.save(place)
    return place


@pytest.fixture
def saved(directory: Path, data: Path) -> None:
    """The same, on the list of this machine."""
    catalogue.add(LTX2.model(directory))


def planned(place: Path, **changes: Any) -> Plan:
    return resolve(request_of(LTX2, "tiny-ltx2", "text", place, **changes))


def made(plan: Plan) -> Clip:
    return next(films([plan], RunOptions(placement=Placement())))


def sounds(plans: Sequence[Plan], checkpointer: Checkpointer | None = None, stop: int = 0) -> list[Sound | None]:
    """The sounds of a run; with `stop` it is stopped after that step, and there are none."""
    engine = Engine(catalogue.find(plans[0].model), Placement(batch=len(plans)))
    events = engine.run(plans, checkpointer=checkpointer)
    for event in events:
        if isinstance(event, Step) and event.phase == "denoise" and event.index == stop:
            break
    events.close()
    return engine.sounds


@pytest.mark.slow
def test_the_sound_of_a_model_is_in_the_film_and_reproduced(saved: None, tmp_path: Path) -> None:
    """The same film without sound has the same frames."""
    clip = made(planned(tmp_path))
    assert clip.audio is not None and clip.recipe is not None
    assert clip.audio.rate == 16000 and clip.audio.samples.shape[1] == 2
    assert len(clip.audio.samples) == round(clip.seconds * 16000)
    assert np.abs(clip.audio.samples).max() > 0
    assert clip.recipe.audio_sha256 == clip.audio.sha256
    film = clip.save(tmp_path / "film.mp4")
    facts = sound_facts(film)
    assert facts["codec"] == "aac" and facts["seconds"] == pytest.approx(clip.seconds, abs=0.07)
    verdict = reproduce(film)
    assert verdict.outcome == "identical" and verdict.identical_files, verdict.causes
    silent = made(planned(tmp_path, audio="none"))
    assert silent.audio is None and silent.recipe is not None and silent.recipe.audio_sha256 is None
    assert np.array_equal(clip.frames, silent.frames)


@pytest.mark.slow
def test_a_resumed_film_has_the_same_sound(saved: None, tmp_path: Path) -> None:
    """Two films of three steps each: stopped twice in the first, before it is decoded, and in the second."""
    plans = [planned(tmp_path, seed=seed) for seed in (3, 4)]
    expected = sounds(plans)
    for before, stop in ((0, 1), (1, 2), (2, 3), (3, 5)):
        checkpointer = Checkpointer(tmp_path / "state")
        sounds(plans, checkpointer, stop)
        assert (0 if checkpointer.resumed_from is None else checkpointer.resumed_from.index) == before
    checkpointer = Checkpointer(tmp_path / "state")
    found = sounds(plans, checkpointer)
    assert checkpointer.resumed_from is not None and checkpointer.resumed_from.index == 5
    for one, other in zip(found, expected, strict=True):
        assert one is not None and other is not None
        assert one.rate == other.rate and np.array_equal(one.samples, other.samples)
    assert expected[0] is not None and expected[1] is not None
    assert not np.array_equal(expected[0].samples, expected[1].samples)


class Vocoder:
    config = {"output_sampling_rate": 24000}


class Result:
    def __init__(self, audio: Any) -> None:
        self.audio = audio


class Pipe:
    vocoder, audio_sample_rate = Vocoder(), 44100


class PlainPipe:
    audio_sample_rate = 44100


@pytest.mark.parametrize(
    ("pipe", "audio", "rate", "shape"),
    [
        (Pipe(), torch.zeros(1, 2, 30, dtype=torch.bfloat16), 24000, (30, 2)),
        (Pipe(), torch.zeros(1, 30), 24000, (30, 1)),
        (PlainPipe(), np.zeros((1, 30), np.float32), 44100, (30, 1)),
    ],
)
def test_every_layout_of_a_pipelines_sound_is_read(
    pipe: Any, audio: Any, rate: int, shape: tuple[int, int], plan: Any
) -> None:
    sound = sound_of(pipe, Result(audio), plan())
    assert sound is not None and sound.rate == rate and sound.samples.shape == shape


def test_a_sound_that_is_not_finite_is_refused(plan: Any) -> None:
    assert sound_of(Pipe(), Result(None), plan()) is None
    with pytest.raises(WeightsError, match="not a sound"):
        sound_of(Pipe(), Result(torch.full((1, 2, 8), float("nan"))), plan())
