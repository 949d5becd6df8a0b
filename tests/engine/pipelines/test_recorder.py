"""A pipeline that was stopped continues at the next step, to the same bits, whatever its scheduler and caches hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.cases import CASES, Case
from tests.contract.matrix import request_of

from flickbook import catalogue
from flickbook.catalogue import find
from flickbook.engine.checkpoint import Checkpoint, Checkpointer
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.pipelines.state import CallState, Stage
from flickbook.errors import WeightsError
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Step

SD15, WAN = (next(case for case in CASES if case.build == build) for build in ("sd15", "wan"))


def planned(case: Case, model: str, place: Path, **changes: Any) -> Plan:
    return resolve(request_of(case, model, "text", place, **changes))


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny models on the disk."""
    found = {case.build: tmp_path_factory.mktemp(case.build) for case in (SD15, WAN)}
    for case in (SD15, WAN):
        case.save(found[case.build])
    return found


@pytest.fixture
def saved(directories: dict[str, Path], data: Path) -> None:
    """The tiny models, on the list of this machine."""
    for case in (SD15, WAN):
        catalogue.add(case.model(directories[case.build]))


def whole(plans: Sequence[Plan]) -> list[np.ndarray]:
    engine = Engine(find(plans[0].model), Placement(batch=len(plans)))
    return [event.frames for event in engine.run(plans) if isinstance(event, Frames)]


def stopped(plans: Sequence[Plan], stop: int, path: Path) -> list[int]:
    """Stop the films after `stop` steps, whether they are begun or continued; the steps that took."""
    steps = list[int]()
    events = Engine(find(plans[0].model), Placement(batch=len(plans))).run(plans, checkpointer=Checkpointer(path))
    for event in events:
        if isinstance(event, Step) and event.phase == "denoise":
            steps.append(event.index)
            if event.index == stop:
                break
    events.close()
    return steps


def resumed(plans: Sequence[Plan], stop: int, path: Path) -> tuple[list[np.ndarray], list[int], Checkpointer]:
    """The films stopped after `stop` steps and continued by another engine, the steps that took, and its keeper."""
    stopped(plans, stop, path)
    checkpointer = Checkpointer(path)
    made = list(Engine(find(plans[0].model), Placement(batch=len(plans))).run(plans, checkpointer=checkpointer))
    steps = [event.index for event in made if isinstance(event, Step) and event.phase == "denoise"]
    return [event.frames for event in made if isinstance(event, Frames)], steps, checkpointer


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SD15.schedulers)
def test_every_scheduler_is_resumed(saved: None, scheduler: str, tmp_path: Path) -> None:
    """Some draw noise in each step (lcm), others remember several of the network's answers (dpm++, unipc)."""
    plan = planned(SD15, "tiny-sd15", tmp_path, scheduler=scheduler, num_inference_steps=5)
    expected = whole([plan])
    assert stopped([plan], 2, tmp_path / "state") == [1, 2] and stopped([plan], 4, tmp_path / "state") == [2, 3, 4]
    frames, steps, _ = resumed([plan], 4, tmp_path / "state")
    assert np.array_equal(frames[0], expected[0]) and steps == [4, 5]


def test_a_first_block_cache_is_resumed(saved: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that the cache shortens depend on the one that filled it."""
    monkeypatch.setattr("flickbook.engine.pipelines.step_cache.THRESHOLD", 1e9)
    plan = planned(WAN, "tiny-wan", tmp_path, speed="balanced", num_inference_steps=5)
    expected = whole([plan])
    frames, _, checkpointer = resumed([plan], 3, tmp_path / "state")
    assert checkpointer.resumed_from is not None and np.array_equal(frames[0], expected[0])


@pytest.mark.parametrize("stop", [3, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 4))])
def test_finished_films_of_a_batch_are_not_made_again(saved: None, stop: int, tmp_path: Path) -> None:
    """Two films of three steps each, stopped in the first, before its frames are decoded, and in the second."""
    plans = [planned(WAN, "tiny-wan", tmp_path, seed=seed) for seed in (3, 4)]
    frames, steps, _ = resumed(plans, stop, tmp_path / "state")
    assert steps == list(range(stop, 7))
    for found, expected in zip(frames, whole(plans), strict=True):
        assert np.array_equal(found, expected)


def test_out_of_memory_repeats_no_step(saved: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import WanTransformer3DModel

    plan = planned(WAN, "tiny-wan", tmp_path, guidance_scale=1.0)
    expected, forward, calls = whole([plan]), WanTransformer3DModel.forward, list[int]()

    def starved(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(WanTransformer3DModel, "forward", starved)
    engine = Engine(find("tiny-wan"), Placement(offload="model", device="cpu"))
    monkeypatch.setattr("flickbook.engine.memory.fallback.lower", lambda placement, *_: placement)
    monkeypatch.setattr("flickbook.engine.pipelines.family._placed", lambda pipe, _: pipe)
    (frames,) = [event.frames for event in engine.run([plan]) if isinstance(event, Frames)]
    assert np.array_equal(frames, expected[0]) and len(calls) == 4


def test_state_that_cannot_be_saved_does_not_stop_the_film(
    saved: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler whose state is an object of its own: the film is finished, and the run says why it was not kept."""
    from diffusers import DDIMScheduler

    set_timesteps: Callable[..., None] = DDIMScheduler.set_timesteps

    def strange(self: Any, *args: Any, **kwargs: Any) -> None:
        set_timesteps(self, *args, **kwargs)
        self.tree = object()

    monkeypatch.setattr(DDIMScheduler, "set_timesteps", strange)
    plan = planned(SD15, "tiny-sd15", tmp_path, scheduler="ddim")
    checkpointer = Checkpointer(tmp_path / "state")
    events = list(Engine(find("tiny-sd15"), Placement()).run([plan], checkpointer=checkpointer))
    assert any(isinstance(event, Frames) for event in events) and not (tmp_path / "state").exists()
    assert any("DDIMScheduler: a value of the class object cannot be saved" in note for note in checkpointer.notes)


def test_a_state_of_another_diffusers_version_is_refused(
    saved: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(SD15, "tiny-sd15", tmp_path)
    resumed([plan], 1, tmp_path / "state")
    found = Checkpoint.read(tmp_path / "state", [plan])
    assert found is not None
    monkeypatch.setattr("flickbook.engine.pipelines.state.version", lambda _: "0.0")
    with pytest.raises(WeightsError, match="was written with diffusers"):
        Stage.from_tensors(found.tensors)


def test_a_state_survives_conversion_to_tensors() -> None:
    strided = torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1)
    values = {"list": [1, None, 0.5, True, "a"], "tuple": (strided,), "array": np.arange(3), "scalar": np.float32(0.1)}
    again = CallState.from_tensors(CallState.of(2, values, {"half": torch.ones(2).half()}).to_tensors())
    found = again.values(torch.device("cpu"))
    assert again.index == 2 and found["list"] == values["list"] and found["half"].dtype == torch.float16
    assert torch.equal(found["tuple"][0], strided) and found["tuple"][0].stride() == strided.stride()
    assert np.array_equal(found["array"], values["array"]) and type(found["scalar"]) is np.float32
