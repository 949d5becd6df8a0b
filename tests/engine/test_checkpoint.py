"""What a film goes on from: the file, who keeps it, and that nothing of a film tells that it was interrupted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from flickbook.catalogue import find
from flickbook.diffusion.unet3d import UNet3D
from flickbook.engine.checkpoint import Checkpoint, Checkpointer, _elsewhere
from flickbook.engine.engine import Engine, Frames
from flickbook.errors import Cancelled, RequestError
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Request, Step

MakePlan = Callable[..., Plan]
PLANS = tuple(resolve(Request(prompt="a red circle", seed=seed)) for seed in (1, 2))


def checkpoint(plans: Sequence[Plan] = PLANS, **changes: Any) -> Checkpoint:
    made = Checkpoint(
        plans=tuple(plan.key() for plan in plans),
        family="unet",
        weights="0" * 63,
        index=2,
        total=25,
        placement=Placement(rungs=("denoise: slicing",)),
        made={"threads": "2"},
        tensors={"latents": torch.arange(24.0).view(2, 3, 4), "index": torch.tensor([2])},
    )
    return replace(made, **changes)


def test_the_note_of_a_resumed_film_names_what_made_its_earlier_steps() -> None:
    here = {"threads": "2", "packed": "yes", "attention": "fused"}
    assert _elsewhere(checkpoint(made=here), here) == ""
    older = checkpoint(made={"threads": "1", "packed": "yes"})
    assert _elsewhere(older, here) == ", made with attention products, threads 1"
    assert _elsewhere(replace(older, family="pipeline"), here) == ", made with threads 1", "not its attention"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "state.safetensors"
    checkpoint().write(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job" / "state.safetensors"


def made(engine: Engine, plans: Sequence[Plan], **how: Any) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """The frames of all films, one after another, and the steps."""
    frames, steps = [], []
    for event in engine.run(plans, **how):
        if isinstance(event, Frames):
            frames.append(event.frames)
        else:
            steps.append((event.phase, event.index))
    return np.concatenate(frames), steps


def stopped(engine: Engine, plans: Sequence[Plan], at: int, **how: Any) -> None:
    """A run that is asked to stop when it has made step `at`, and not yet told of it."""
    events, before = list[tuple[str, int]](), ("denoise", at - 1) if at > 1 else ("encode", 1)
    with pytest.raises(Cancelled):
        for event in engine.run(plans, cancel=lambda: before in events, **how):
            assert isinstance(event, Step)
            events.append((event.phase, event.index))
    assert events[-1] == before


def test_a_checkpoint_round_trips(kept: Path) -> None:
    found, written = Checkpoint.read(kept, PLANS), checkpoint()
    assert found is not None and found.tensors.keys() == written.tensors.keys()
    assert all(torch.equal(found.tensors[name], each) for name, each in written.tensors.items())
    assert vars(replace(found, tensors=written.tensors)) == vars(written)
    assert found.phase == "denoise" and checkpoint(index=25).phase == "decode"
    assert [each.name for each in kept.parent.iterdir()] == [kept.name], "nothing half-written stays"


@pytest.mark.parametrize("plans", [PLANS[:1], PLANS[::-1], (), (PLANS[0], PLANS[1].model_copy(update={"fps": 9.0}))])
def test_a_checkpoint_of_another_plan_is_not_read(kept: Path, plans: Sequence[Plan]) -> None:
    assert Checkpoint.read(kept, plans) is None


@given(st.data())
def test_a_damaged_checkpoint_is_ignored(kept: Path, data: st.DataObject) -> None:
    whole = kept.read_bytes()
    spoilt = bytearray(whole)
    match data.draw(st.sampled_from(["flip", "cut", "more", "torn"])):
        case "flip":
            for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8, unique=True)):
                spoilt[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del spoilt[data.draw(st.integers(0, len(whole) - 1)) :]
        case "more":
            spoilt += data.draw(st.binary(min_size=1, max_size=64))
        case _:  # a page that never reached the disk
            at = data.draw(st.integers(0, len(whole) - 1))
            spoilt[at:] = bytes(len(whole) - at)
    if bytes(spoilt) == whole:
        return
    other = kept.with_name("spoilt")
    other.write_bytes(spoilt)
    assert Checkpoint.read(other, PLANS) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_ignored(kept: Path, data: bytes) -> None:
    other = kept.with_name("foreign")
    for content in (data, len(data).to_bytes(8, "little") + data):
        other.write_bytes(content)
        assert Checkpoint.read(other, PLANS) is None


def test_a_file_that_is_no_checkpoint_is_ignored(tmp_path: Path) -> None:
    save_file({"latents": torch.zeros(3)}, tmp_path / "weights.safetensors")
    os.mkfifo(tmp_path / "fifo")
    for name in ("weights.safetensors", "fifo", "missing", "."):
        assert Checkpoint.read(tmp_path / name, PLANS) is None


def test_the_own_checkpoint_is_preferred_to_others(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    draft = tmp_path / "draft.safetensors"
    checkpoint(index=3).write(draft)
    found = Checkpointer(path, also=[tmp_path / "missing", draft]).look(PLANS)
    assert found is not None and found.index == 3
    checkpoint(index=9).write(path)
    found = Checkpointer(path, also=[draft]).look(PLANS)
    assert found is not None and found.index == 9
    assert Checkpointer(path).look(PLANS[:1]) is None


def test_a_film_stopped_early_late_or_at_its_end_resumes_to_the_same_frames(
    engine: Engine, plan: MakePlan, path: Path
) -> None:
    plans = [plan(scheduler="dpm++", num_inference_steps=5)]
    whole, _ = made(engine, plans)
    for at in (1, 3, 5):
        stopped(engine, plans, at, checkpointer=Checkpointer(path))
        checkpointer = Checkpointer(path)
        frames, steps = made(engine, plans, checkpointer=checkpointer)
        words = [("encode", 1)] if at < 5 else []
        rest = [*words, *(("denoise", index) for index in range(at, 6))]
        assert steps[: len(rest)] == rest and steps[len(rest)][0] == "decode", "no step is made twice"
        assert np.array_equal(frames, whole) and checkpointer.notes == [f"resumed from step {at} of 5"]
        checkpointer.forget()
        assert not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["dpm++", "ddim", "unipc"])
def test_a_film_stopped_after_each_step_resumes_to_the_same_frames(
    engine: Engine, plan: MakePlan, path: Path, scheduler: str
) -> None:
    plans = [plan(scheduler=scheduler, num_inference_steps=6)]
    whole, _ = made(engine, plans)
    for at in range(1, 6):
        stopped(engine, plans, at, checkpointer=Checkpointer(path), previews=at % 2 == 0)
        found = Checkpointer(path).look(plans)
        assert found is not None and found.index == at
    assert np.array_equal(made(engine, plans, checkpointer=Checkpointer(path))[0], whole)


@pytest.mark.slow
def test_denoised_latents_are_saved_before_decoding(
    engine: Engine, plan: MakePlan, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [plan(), plan(seed=8)]
    whole, _ = made(engine, plans)
    with closing(engine.run(plans, checkpointer=Checkpointer(path, share=0))) as run:
        next(event for event in run if isinstance(event, Frames))
        found = Checkpointer(path).look(plans)
        assert found is not None and found.phase == "decode"
    monkeypatch.setattr(UNet3D, "forward", None)  # not a step is made any more
    frames, steps = made(engine, plans, checkpointer=Checkpointer(path))
    assert np.array_equal(frames, whole) and steps[0] == ("denoise", 3) and steps[1][0] == "decode"


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, RuntimeError])
def test_any_error_leaves_a_checkpoint_of_the_last_step(
    engine: Engine, plan: MakePlan, path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    kept, calls = UNet3D.forward, list[int]()

    def forward(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise error("in the middle of a step")
        return kept(*args, **kwargs)

    monkeypatch.setattr(UNet3D, "forward", forward)
    with pytest.raises(error):
        made(engine, [plan()], checkpointer=Checkpointer(path, share=0))
    found = Checkpointer(path).look([plan()])
    assert found is not None and found.index == 2


def test_the_share_of_time_limits_the_number_of_writes(engine: Engine, plan: MakePlan, path: Path) -> None:
    for share, writes in ((0.0, 1), (1e9, 3)):
        checkpointer = Checkpointer(path, share)
        made(engine, [plan()], checkpointer=checkpointer)
        assert checkpointer.writes == writes and checkpointer.spent > 0, share
        checkpointer.forget()


def test_temporary_files_of_killed_writers_are_removed(engine: Engine, plan: MakePlan, path: Path) -> None:
    path.parent.mkdir()
    (path.parent / f".{path.name}.torn").write_bytes(b"half")
    (path.parent / "film.mp4").write_bytes(b"film")
    made(engine, [plan()], checkpointer=Checkpointer(path))
    assert sorted(each.name for each in path.parent.iterdir()) == ["film.mp4", path.name]


def test_a_full_disk_does_not_end_the_film(
    engine: Engine, plan: MakePlan, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = made(engine, [plan()])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    checkpointer = Checkpointer(path, share=1e9)
    assert np.array_equal(made(engine, [plan()], checkpointer=checkpointer)[0], whole)
    (note,) = checkpointer.notes
    assert "No space left" in note and [each.message for each in caplog.records] == [note]
    assert list(path.parent.iterdir()) == [] and checkpointer.writes == 0


@pytest.mark.slow
def test_a_checkpoint_of_other_weights_or_shapes_is_ignored(engine: Engine, plan: MakePlan, path: Path) -> None:
    whole, _ = made(engine, [plan()], checkpointer=Checkpointer(path))
    found = Checkpoint.read(path, [plan()])
    assert found is not None
    short = {**found.tensors, "latents": found.tensors["latents"][:, :, :2].clone()}
    less = {name: each for name, each in found.tensors.items() if name != "timesteps"}
    odd = {**found.tensors, "index": torch.tensor([1, 2]), "timesteps": torch.tensor(3)}
    others = [replace(found, weights="1" * 64), *(replace(found, tensors=each) for each in (short, less, odd))]
    for other in others:
        other.write(path)
        checkpointer = Checkpointer(path)
        frames, steps = made(engine, [plan()], checkpointer=checkpointer)
        assert steps[1] == ("denoise", 1) and np.array_equal(frames, whole) and checkpointer.notes == []


@pytest.mark.slow
def test_a_resumed_film_keeps_its_memory_fallbacks(plan: MakePlan, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, calls = UNet3D.forward, list[int]()

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The second step of a film runs out of memory."""
        calls.append(len(x))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(self, x, *args, **kwargs)

    def fresh() -> Engine:
        return Engine(find("builtin"), Placement(decode_frames=3))

    with monkeypatch.context() as starved:
        starved.setattr(UNet3D, "forward", forward)
        whole, _ = made(fresh(), [plan()])
        calls.clear()
        stopped(fresh(), [plan()], 2, checkpointer=Checkpointer(path))
    resumed = fresh()
    frames, steps = made(resumed, [plan()], checkpointer=Checkpointer(path))
    assert resumed.placement.rungs == ("denoise: slicing",) and steps[2] == ("denoise", 2)
    assert np.array_equal(frames, whole)


@pytest.mark.parametrize("until", [0.0, -1.0, 1.1, float("nan")])
def test_until_must_be_above_0_and_at_most_1(engine: Engine, plan: MakePlan, until: float) -> None:
    with pytest.raises(RequestError, match="^until="):
        next(engine.run([plan()], until=until))


@pytest.mark.parametrize(("until", "last"), [(0.01, 1), (0.28, 7), (0.5, 13), (0.999, 25)])
def test_until_stops_after_its_share_of_the_steps(
    engine: Engine, plan: MakePlan, path: Path, until: float, last: int
) -> None:
    plans = [plan(num_frames=1, num_inference_steps=25, guidance_scale=1.0)]
    for _ in range(2):  # the second time it is there already
        *_, step = engine.run(plans, checkpointer=Checkpointer(path), until=until, previews=True)
        assert isinstance(step, Step) and (step.phase, step.index, step.total) == ("denoise", last, 25)
        assert step.preview is not None and engine.loaded().show(step.preview[0]).shape == (1, 128, 128, 3)
        found = Checkpointer(path).look(plans)
        assert found is not None and found.index == last
