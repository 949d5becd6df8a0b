"""The floors of the engine: what it yields, in which order, and what it refuses."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from flickbook.catalogue import find
from flickbook.diffusion.text_to_video import noise
from flickbook.engine.engine import Engine, Frames
from flickbook.errors import Cancelled, RequestError, WeightsError
from flickbook.media.clip import frames_sha256
from flickbook.spec import Placement, Plan, Step

MakePlan = Callable[..., Plan]


def films(engine: Engine, plans: Sequence[Plan]) -> list[np.ndarray]:
    """The finished films, put together from the frames as they come."""
    parts: list[list[np.ndarray]] = [[] for _ in plans]
    for event in engine.run(plans):
        if isinstance(event, Frames):
            assert event.start == sum(map(len, parts[event.film]))
            parts[event.film].append(event.frames)
    return [np.concatenate(part) for part in parts]


def summary(events: Sequence[Step | Frames]) -> list[tuple[object, ...]]:
    return [
        ("frames", event.film, event.start, len(event.frames))
        if isinstance(event, Frames)
        else (event.phase, event.index, event.total)
        for event in events
    ]


@pytest.mark.slow
def test_events_come_in_order_and_loading_only_once(plan: MakePlan) -> None:
    engine = Engine(find("builtin"), Placement(decode_frames=3))
    work = [
        ("encode", 1, 1),
        ("denoise", 1, 3),
        ("denoise", 2, 3),
        ("denoise", 3, 3),
        ("frames", 0, 0, 3),
        ("decode", 3, 8),
        ("frames", 0, 3, 1),
        ("decode", 4, 8),
        ("frames", 1, 0, 3),
        ("decode", 7, 8),
        ("frames", 1, 3, 1),
        ("decode", 8, 8),
    ]
    plans = [plan(), plan(seed=8)]
    first = list(engine.run(plans))
    assert summary(first) == [("load", 1, 1), *work]
    assert summary(list(engine.run(plans))) == work
    assert all(event.seconds >= 0 for event in first if isinstance(event, Step))
    for event in first:
        if isinstance(event, Frames):
            assert event.frames.shape[1:] == (128, 128, 3) and event.frames.dtype == np.uint8


def test_frames_leave_before_the_last_are_decoded(engine: Engine, plan: MakePlan) -> None:
    run = engine.run([plan()])
    first = next(event for event in run if isinstance(event, Frames))
    assert len(first.frames) == 3
    rest = list(run)
    assert summary(rest) == [("decode", 3, 4), ("frames", 0, 3, 1), ("decode", 4, 4)]


@pytest.mark.slow
def test_films_of_a_batch_may_differ_in_prompt_seed_and_guidance(engine: Engine, plan: MakePlan) -> None:
    plans = [plan(), plan(seed=8), plan(prompt="a green star"), plan(guidance_scale=7.0), plan(negative_prompt="red")]
    assert len({frames_sha256(film) for film in films(engine, plans)}) == 5


@pytest.mark.parametrize(
    "change", [{"num_frames": 2}, {"num_inference_steps": 2}, {"scheduler": "unipc"}, {"guidance_scale": 1.0}]
)
def test_plans_of_several_shapes_are_refused_before_anything_is_loaded(
    plan: MakePlan, change: dict[str, object]
) -> None:
    engine = Engine(find("builtin"), Placement())
    with pytest.raises(RequestError, match="^plans=2: must all have the same shape"):
        next(engine.run([plan(), plan(**change)]))
    with pytest.raises(RuntimeError):
        engine.weights  # noqa: B018


def test_no_plans_are_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="^plans=0"):
        next(engine.run([]))


@pytest.mark.slow
def test_previews_only_on_request(engine: Engine, plan: MakePlan) -> None:
    plans = [plan(), plan(seed=8)]
    silent = [event for event in engine.run(plans) if isinstance(event, Step)]
    assert all(event.preview is None for event in silent)
    steps = [event for event in engine.run(plans, previews=True) if isinstance(event, Step)]
    shown = [event.preview for event in steps if event.phase == "denoise"]
    # (films, channels, frames, h, w): 8 channels, a sixteenth of 128 pixels.
    assert [tuple(preview.shape) for preview in shown] == [(2, 8, 4, 8, 8)] * 3
    assert all(event.preview is None for event in steps if event.phase != "denoise")
    assert not torch.equal(shown[0], shown[2])


def test_the_last_preview_equals_the_film(engine: Engine, plan: MakePlan) -> None:
    events = list(engine.run([plan()], previews=True))
    last = [event.preview for event in events if isinstance(event, Step) and event.phase == "denoise"][-1]
    picture = engine.loaded().show(last[0])
    assert picture.shape == (4, 128, 128, 3) and picture.dtype == np.uint8
    film = np.concatenate([event.frames for event in events if isinstance(event, Frames)])
    assert np.array_equal(picture, film)
    left = engine.loaded().noise_left(3)
    assert len(left) == 3 and left == sorted(left, reverse=True) and left[-1] == 0 < left[0] < 1


def test_cancelling_stops_at_the_next_step(engine: Engine, plan: MakePlan) -> None:
    expected = films(engine, [plan()])[0]
    seen: list[tuple[object, ...]] = []
    with pytest.raises(Cancelled):
        for event in engine.run([plan()], cancel=lambda: len(seen) >= 3):
            seen.extend(summary([event]))
    assert seen == [("encode", 1, 1), ("denoise", 1, 3), ("denoise", 2, 3)]
    # It stays warm and whole.
    assert np.array_equal(films(engine, [plan()])[0], expected)


def test_cancel_is_asked_once_per_step(engine: Engine, plan: MakePlan) -> None:
    list(engine.run([plan()]))  # warm from here on
    calls: list[int] = []

    def cancel() -> bool:
        calls.append(1)
        return False

    assert len(list(engine.run([plan()], cancel=cancel))) == 8
    assert len(calls) == 6  # once a step


def test_a_film_of_a_batch_matches_the_film_alone(engine: Engine, plan: MakePlan) -> None:
    """It starts from the same noise; a batch takes other kernels, so the end may differ in the last bits."""
    shape = (8, 4, 8, 8)
    assert torch.equal(noise([7, 8], shape)[1], noise([8], shape)[0])
    together, alone = films(engine, [plan(), plan(seed=8)]), films(engine, [plan(seed=8)])[0]
    difference = np.abs(together[1].astype(int) - alone)
    assert difference.mean() <= 1 and difference.max() <= 8
    assert np.abs(together[0].astype(int) - alone).mean() > 0.5


def test_another_engine_of_the_same_placement_makes_the_same_bits(engine: Engine, plan: MakePlan) -> None:
    other = Engine(find("builtin"), Placement(decode_frames=3))
    assert frames_sha256(films(other, [plan()])[0]) == frames_sha256(films(engine, [plan()])[0])


@pytest.mark.parametrize("count", [1, 2, 16])
def test_decode_frames_does_not_change_the_frames(engine: Engine, plan: MakePlan, count: int) -> None:
    """Other numbers may take other kernels, and end in other last bits."""
    other = Engine(find("builtin"), Placement(decode_frames=count))
    assert np.abs(films(other, [plan()])[0].astype(int) - films(engine, [plan()])[0]).max() <= 1


def test_unlearned_words_are_noted_unless_a_lora_may_have_taught_them(
    engine: Engine, plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(engine.run([plan()]))
    assert engine.notes(["a red circle"]) == []
    (note,) = engine.notes(["a red walrus"])
    assert '"walrus"' in note and "text-to-video-ms-1.7b" in note
    monkeypatch.setattr(engine, "loras", ((Path("walrus.safetensors"), 1.0),))
    assert engine.notes(["a red walrus"]) == []


def test_before_the_first_run_there_are_no_notes() -> None:
    assert Engine(find("builtin"), Placement()).notes(["a red walrus"]) == []


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(find("builtin").path(), tmp_path / "model"))


def test_one_changed_byte_of_the_weights_is_detected(plan: MakePlan, tmp_path: Path) -> None:
    directory = copied(tmp_path)
    path = directory / "text_encoder" / "model.safetensors"
    data = bytearray(path.read_bytes())
    expected = hashlib.sha256(data).hexdigest()
    data[-5] ^= 1
    path.write_bytes(data)
    before = sorted(each for each in tmp_path.rglob("*") if "cache" not in each.parts)
    engine = Engine(find("builtin").model_copy(update={"directory": str(directory)}), Placement())
    with pytest.raises(WeightsError) as caught:
        list(engine.run([plan()]))
    message = str(caught.value)
    assert message.startswith(f"{path}: corrupt") and "\n" not in message
    assert expected in message and hashlib.sha256(data).hexdigest() in message
    assert sorted(each for each in tmp_path.rglob("*") if "cache" not in each.parts) == before


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json"])
def test_a_missing_file_is_named(plan: MakePlan, tmp_path: Path, name: str) -> None:
    directory = copied(tmp_path)
    (directory / name).unlink()
    engine = Engine(find("builtin").model_copy(update={"directory": str(directory)}), Placement())
    with pytest.raises(WeightsError, match=name):
        list(engine.run([plan()]))
