"""Sequences: which frame shows what, how coherent they are, and that nothing is lost when one is stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.cases import CASES
from tests.contract.matrix import ready
from tests.loras import adapter, write

from flickbook.catalogue import find
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine import films as engines
from flickbook.engine.engine import Engine
from flickbook.engine.films import RunOptions, engine_of
from flickbook.engine.generate import generate
from flickbook.engine.sequences import sequence
from flickbook.engine.sequences.sequence import Moment, continued, made, moment, plan_of
from flickbook.errors import Cancelled, ModelNotFound, OutputError, RequestError
from flickbook.media.finishing.tone import Tone
from flickbook.media.metrics.similarity import coherence, psnr
from flickbook.spec import Placement, Plan, Request, Step

A, B, C = "a red circle on a blue background", "a yellow square on a green background", "a green triangle"
#: By so much a sequence is more coherent than the same meanings from a seed of each frame's own. Of 15 films of
#: version 3 of the built-in model, with 4 to 12 steps, the least was 0.087 and the mean 0.095.
MARGIN = 0.08


def planned(prompts: list[str] | None = None, frames_per: int = 2, **changes: object) -> Plan:
    fields = {name: changes.pop(name) for name in ("drift", "feedback") if name in changes}
    request = Request.of(**{"prompt": "", "seed": 7, "num_inference_steps": 3, **changes})
    return plan_of([A, B] if prompts is None else prompts, request, frames_per=frames_per, **fields)  # type: ignore[arg-type]


def test_the_plan_holds_every_option() -> None:
    plan = planned([A, f" {B}\n", C], frames_per=5)
    assert (plan.task, plan.container, plan.num_frames, plan.window) == ("sequence", "mp4", 15, 0)
    assert (plan.prompt, plan.prompt_at) == (A, ((7, B), (14, C)))
    assert (plan.drift, plan.feedback, plan.fps, plan.strength) == (0.3, 0.0, 8.0, None)
    assert Plan.from_json(plan.to_json()) == plan


@given(st.integers(1, 64), st.integers(1, 40))
def test_moments_move_evenly_from_the_first_prompt_to_the_last(prompts: int, frames_per: int) -> None:
    frames = max(2, prompts * frames_per)
    moments = [moment(frame, frames, prompts) for frame in range(frames)]
    assert (moments[0].scene, moments[0].noise, moments[0].embedding) == (0, 0.0, 0.0)
    assert (moments[-1].scene, moments[-1].noise, moments[-1].embedding) == (max(0, prompts - 2), 1.0, 1.0)
    places = [when.scene + when.noise for when in moments]
    assert np.allclose(np.diff(places), max(1, prompts - 1) / (frames - 1)), "evenly"
    assert all(0 <= when.embedding <= 1 and 0 <= when.scene <= max(0, prompts - 2) for when in moments)


@pytest.mark.parametrize(
    ("prompts", "changes", "field"),
    [
        ([], {}, "prompts"),
        ([A] * 65, {"frames_per": 1}, "prompts"),
        ([A], {"frames_per": 1}, "frames_per"),
        ([A, B], {"frames_per": 0}, "frames_per"),
        ([A, B], {"frames_per": 5001}, "frames_per"),
        ([A, ""], {}, "prompt"),
        ([A, "a\x1b[31m"], {}, "prompt"),
        ([A, B], {"drift": 1.1}, "drift"),
        ([A, B], {"drift": float("nan")}, "drift"),
        ([A, B], {"feedback": -0.1}, "feedback"),
        ([A, B], {"feedback": 0.3}, "feedback"),
        ([A, B], {"model": "sana", "feedback": 0.5, "num_inference_steps": 20}, "feedback"),
        ([A, B], {"model": "stable-video-diffusion"}, "model"),
        ([A, B], {"seed": 2**63}, "seed"),
        ([A, B], {"fps": 0.5}, "fps"),
        ([A, B], {"width": 100}, "width"),
    ],
)
def test_options_out_of_range_are_refused(prompts: list[str], changes: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        planned(prompts, **changes)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert "\n" not in str(refused.value) and ";" in str(refused.value)


def test_models_without_single_images_are_refused() -> None:
    with pytest.raises(ModelNotFound):
        planned(model="nothing")
    with pytest.raises(RequestError, match="WanPipeline cannot make the single images"):
        made(planned(model="wan-2.1-1.3b"))


def test_a_sequence_too_large_for_memory_is_refused_first(tmp_path: Path) -> None:
    huge = planned(frames_per=2).model_copy(update={"num_frames": 10**9})
    with pytest.raises(RequestError, match="half of this machine"):
        made(huge, directory=tmp_path / "pictures")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.trial) for seed in (1, 2))])
def test_a_sequence_is_more_coherent_than_separate_images(seed: int) -> None:
    plan = planned(frames_per=4, seed=seed, num_inference_steps=4)
    clip = made(plan)
    assert clip.run is not None and clip.run.scores["coherence"] == coherence(clip.frames)
    maker = sequence._Maker(engine_of(plan, RunOptions()), plan, None, lambda: None)
    travel = maker.travel()
    embeddings = [travel.at(moment(frame, 8, 2))[0] for frame in range(8)]
    alone = [travel.stills.picture(embedding, travel.stills.noise(seed + n)) for n, embedding in enumerate(embeddings)]
    assert coherence(clip.frames) - coherence(alone) >= MARGIN


@pytest.mark.slow
@pytest.mark.model
def test_the_first_and_last_frames_are_the_images_of_their_prompts() -> None:
    clip = made(planned(frames_per=3, drift=1.0))
    first = generate(A, num_frames=1, num_inference_steps=3, seed=7)
    last = generate(B, num_frames=1, num_inference_steps=3, seed=8)
    assert np.array_equal(clip.frames[0], first.frames[0])
    assert np.abs(clip.frames[-1].astype(int) - last.frames[0]).max() <= 1, "the next seed's, but for rounding"


@pytest.mark.model
def test_a_single_prompt_moves_only_with_drift() -> None:
    still, moving = (made(planned([A], frames_per=3, drift=drift)).frames for drift in (0.0, 0.6))
    assert (still == still[0]).all()
    assert not (moving == moving[0]).all()


@pytest.mark.slow
@pytest.mark.model
def test_feedback_starts_from_the_previous_frame_with_matched_colours() -> None:
    plan = planned(frames_per=2, feedback=0.7)
    frames = made(plan).frames
    travel = sequence._Maker(engine_of(plan, RunOptions()), plan, None, lambda: None).travel()
    ends = [Tone.of(travel.stills.picture(*travel.at(Moment(0, t, t)))) for t in (0.0, 1.0)]
    for frame in (1, 2, 3):
        when = moment(frame, 4, 2)
        source = ends[0].towards(ends[1], when.embedding).transfer_to(frames[frame - 1])
        assert np.array_equal(travel.stills.picture(*travel.at(when), source), frames[frame])


@pytest.mark.slow
@pytest.mark.model
def test_feedback_keeps_colours_stable() -> None:
    fields = {"num_inference_steps": 8, "drift": 0.0}
    # Without feedback and drift every frame of one prompt is the same, so that two tell as much as twelve.
    free = made(planned([A], frames_per=2, **fields)).frames  # type: ignore[arg-type]
    fed = made(planned([A], frames_per=12, feedback=0.5, **fields)).frames  # type: ignore[arg-type]
    off = np.abs(fed.astype(float).mean((1, 2)) - free[0].mean((0, 1))).max(1)
    assert off.max() < 10, "levels of 255, after eleven pictures each over the one before"
    assert coherence(fed) > 0.95


@pytest.mark.slow
@pytest.mark.model
def test_steps_are_reported_and_a_seed_is_repeatable() -> None:
    steps: list[Step] = []
    first, again = made(planned(), on_step=steps.append), made(planned())
    assert [(step.phase, step.index, step.total) for step in steps] == [
        ("load", 1, 1),
        ("encode", 1, 1),
        *(("denoise", number, 4) for number in range(1, 5)),
    ]
    assert np.array_equal(first.frames, again.frames) and first.recipe == again.recipe
    assert not np.array_equal(first.frames, made(planned(seed=9)).frames)
    assert first.run is not None and set(first.run.seconds) == {"load", "encode", "denoise"}
    assert any(note.startswith("coherence 0.") for note in first.run.notes)


@pytest.mark.model
@pytest.mark.parametrize("feedback", [pytest.param(0.0, marks=pytest.mark.slow), 0.7])
def test_a_sequence_resumed_after_any_frame_is_the_same_film(tmp_path: Path, feedback: float) -> None:
    plan = planned(feedback=feedback)
    whole = made(plan, directory=tmp_path / "whole")
    assert np.array_equal(whole.frames, made(plan).frames), "pictures on the disk change nothing"
    names = sorted(path.name for path in (tmp_path / "whole").glob("*.png"))
    assert names == [f"{frame:05d}.png" for frame in range(4)] + (["key-01.png"] if feedback else [])
    for number in (0, 2, len(names) - 1, len(names)):
        directory = tmp_path / f"stopped-{number}"
        directory.mkdir()
        for name in ["sequence.json", *names[:number]]:
            shutil.copy(tmp_path / "whole" / name, directory / name)
        again = made(plan, directory=directory)
        assert np.array_equal(again.frames, whole.frames) and again.recipe == whole.recipe
        notes = [] if again.run is None else again.run.notes
        assert (f"{number} of the frames existed already" in notes) == (number > 0)


@pytest.mark.slow
@pytest.mark.model
def test_damaged_and_missing_frames_are_made_again(tmp_path: Path) -> None:
    plan, directory = planned(frames_per=3, feedback=0.7), tmp_path / "pictures"
    whole = made(plan, directory=directory)
    kept = {path.name: path.read_bytes() for path in directory.glob("*.png")}
    (directory / "00002.png").write_bytes(kept["00002.png"][:1000])
    (directory / "key-01.png").write_bytes(kept["00000.png"])
    (directory / "00004.png").unlink()
    assert np.array_equal(made(plan, directory=directory).frames, whole.frames)
    assert {path.name: path.read_bytes() for path in directory.glob("*.png")} == kept


@pytest.mark.model
def test_cancelling_within_a_frame_keeps_the_finished_ones(tmp_path: Path) -> None:
    plan, directory, calls = planned(), tmp_path / "pictures", []

    def cancel() -> bool:
        calls.append(1)
        return len(calls) == 2 + 3 + 1 + 2  # load and encode, one picture of three steps, two steps of the next

    with pytest.raises(Cancelled):
        made(plan, directory=directory, cancel=cancel)
    assert sorted(path.name for path in directory.iterdir()) == ["00000.png", "sequence.json"]


@pytest.mark.model
def test_a_resumed_sequence_keeps_its_drawn_seed(tmp_path: Path) -> None:
    directory = tmp_path / "pictures"
    drawn = planned(seed=None)
    assert continued(drawn, directory) == drawn
    clip = made(drawn, directory=directory)
    again = sequence.sequence([A, B], frames_per=2, num_inference_steps=3, directory=directory)
    assert again.recipe == clip.recipe and np.array_equal(again.frames, clip.frames)
    with pytest.raises(OutputError, match="num_inference_steps is '3' in the directory, '4' here"):
        sequence.sequence([A, B], frames_per=2, num_inference_steps=4, directory=directory)
    other = sequence.sequence([A, C], frames_per=1, num_inference_steps=3, directory=directory, overwrite=True)
    assert len(other.frames) == 2 and len(list(directory.glob("*.png"))) == 2


@pytest.mark.slow
@pytest.mark.model
def test_a_lora_changes_the_frames_and_is_in_the_recipe(tmp_path: Path) -> None:
    plan = planned(frames_per=1)
    plain = made(plan)
    torch.manual_seed(0)
    network = TextToVideo.load(find("builtin").path()).unet
    path = write(tmp_path / "ink.safetensors", adapter(network, lambda name: "attn1" in name), "peft")
    fields = {"frames_per": 1, "num_inference_steps": 3, "seed": 7}
    inked = sequence.sequence([A, B], lora=f"{path}:0.5", **fields)  # type: ignore[arg-type]
    assert inked.recipe is not None and [(each.name, each.weight) for each in inked.recipe.plan.loras] == [("ink", 0.5)]
    assert not np.array_equal(inked.frames, plain.frames)


@pytest.mark.slow
@pytest.mark.model
def test_out_of_memory_retries_a_frame_with_a_fallback() -> None:
    plan = planned()
    engine, refused = Engine(find("builtin"), Placement()), list[int]()
    maker = sequence._Maker(engine, plan, None, lambda: None)
    whole = list(maker.frames())

    def once() -> None:
        if not refused:
            refused.append(1)
            raise MemoryError

    maker.step = once
    again = list(maker.frames())
    assert engine.placement.rungs == ("denoise: slicing",)
    assert np.abs(np.stack(again).astype(int) - np.stack(whole)).max() <= 2
    with pytest.raises(RuntimeError, match="something else"):
        engine.with_fallbacks(lambda: (_ for _ in ()).throw(RuntimeError("something else")))


@pytest.mark.slow
@pytest.mark.model
def test_tiled_decoding_is_recorded_in_the_placement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import AutoencoderKL

    decode = AutoencoderKL.decode

    def starved(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, *args, **kwargs)

    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(AutoencoderKL, "decode", starved)
    with ready(next(case for case in CASES if case.build == "sd15")) as model:
        plan = planned(frames_per=1, model=model)
        clip = made(plan, directory=tmp_path / "pictures")
        assert clip.recipe is not None and clip.recipe.placement.rungs == ("decode: tiling",)
        engines.forget()  # as in another process, whose placement knows nothing of it yet
        assert np.array_equal(made(plan, directory=tmp_path / "pictures").frames, clip.frames)


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("build", ["sd15", "sdxl", "flux"])
def test_a_pipeline_sequence_resumes(build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    with ready(next(case for case in CASES if case.build == build)) as model:
        plan = planned(frames_per=2, model=model, feedback=0.7)
        whole = made(plan, directory=tmp_path / "pictures")
        (tmp_path / "pictures" / "00002.png").unlink()
        again = made(plan, directory=tmp_path / "pictures")
        assert np.array_equal(whole.frames, again.frames) and whole.recipe == again.recipe


@pytest.mark.slow
def test_balanced_frames_are_nearly_the_same_and_noted() -> None:
    exact, balanced = (made(planned(num_inference_steps=25, speed=speed)) for speed in ("exact", "balanced"))
    assert balanced.recipe is not None and balanced.recipe.plan.speed == "balanced"
    assert 30 < min(psnr(*pair) for pair in zip(exact.frames, balanced.frames, strict=True)) < float("inf")
    assert exact.run is not None and balanced.run is not None
    speed_notes = [note.split() for note in balanced.run.notes if note.startswith("speed balanced: ")]
    assert sum(int(words[-4]) for words in speed_notes) == 4
    assert all(" ".join(words[3:8]) == "of 25 steps were forecast" for words in speed_notes)
    assert sum(int(words[2]) * int(words[-4]) for words in speed_notes) >= 4
    assert not [note for note in exact.run.notes if "speed" in note]
