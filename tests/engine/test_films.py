"""Films of one shape that run together, and films that go on where another process left them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.engine.memory.test_fit import MIB, SMALL, film
from tests.loras import adapter, write

from flickbook.catalogue import find
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.films import RunOptions, _read, engine_of, films, forget, located, run_options_of
from flickbook.engine.memory import run_history
from flickbook.engine.memory.device import threads
from flickbook.engine.memory.fit import batch_size
from flickbook.errors import Cancelled
from flickbook.media.clip import Clip
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Polish, Request, Step
from flickbook.world.captions import captions
from flickbook.world.render import render
from flickbook.world.scenes import sample
from flickbook.world.steadiness import steadiness

MakePlan = Callable[..., Plan]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job" / "state.safetensors"


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    """Films of one test do not run on what another one left warm."""
    forget()
    yield
    forget()


def test_films_run_together_as_far_as_memory_allows() -> None:
    model = find("builtin")
    made = film("builtin")
    small = replace(SMALL, memory_total=700 * MIB)
    assert batch_size(model, made, SMALL, Placement(), 8) == 2
    assert batch_size(model, made, SMALL, Placement(), 1) == 1
    assert batch_size(model, made, small, Placement(), 8) == 1
    assert batch_size(model, made, SMALL, Placement(rungs=("denoise: slicing",)), 8) == 1, "memory ran out before"
    assert batch_size(find("sd15"), film("sd15"), SMALL, Placement(), 8) == 1, "pipelines run one by one"


@pytest.mark.slow
def test_films_encoded_during_decoding_are_the_same_files(plan: MakePlan, tmp_path: Path) -> None:
    run_options = RunOptions(placement=Placement(decode_frames=3, batch=2))
    plans = [plan(container="mp4"), plan(container="mp4", seed=8)]
    for number, (early, late) in enumerate(
        zip(films(plans, run_options, ahead=True), films(plans, run_options), strict=True)
    ):
        assert early.recipe is not None and early.ahead is not None and late.ahead is None
        how = early.recipe.plan.encoding()
        assert how is not None and early.ahead.packets(how, early.recipe.frames_sha256)
        files = [clip.save(tmp_path / f"{name}-{number}.mp4") for name, clip in (("early", early), ("late", late))]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_looped_films_and_other_formats_are_encoded_at_the_end(plan: MakePlan) -> None:
    polished = plan(container="mp4").model_copy(update={"polish": Polish(loop="pingpong")})
    for each in (polished, plan(container="gif"), plan(num_frames=1)):
        assert next(films([each], ahead=True)).ahead is None


def test_cancelling_during_decoding_leaves_no_thread(plan: MakePlan) -> None:
    run_options, seen = RunOptions(placement=Placement(decode_frames=1)), list[str]()

    def on_step(step: Step) -> None:
        seen.append(step.phase)

    with pytest.raises(Cancelled):
        next(films([plan(container="mp4")], run_options, on_step=on_step, cancel=lambda: "decode" in seen, ahead=True))
    for thread in threading.enumerate():
        if thread.name == "encoder":
            thread.join(60)
            assert not thread.is_alive()


def test_the_run_has_the_time_of_the_first_preview(plan: MakePlan) -> None:
    run_options = RunOptions(placement=Placement(decode_frames=3))
    runs = [next(films([plan()], run_options, previews=previews)).run for previews in (True, False)]
    assert all(run is not None and run.first_preview for run in runs)


def test_the_detector_of_the_world_scores_films_of_the_builtin_model(plan: MakePlan) -> None:
    scene = sample(3, "core")
    frames = render(scene)
    prompt = captions(scene)[0]
    made = _read(plan(prompt=prompt), frames, 8)
    assert made == {"agreement": 1.0, "steadiness": round(steadiness(frames) or 0, 4)}
    changing = plan(prompt=prompt, num_frames=32, prompt_at=((16, "a blue star"),))
    assert _read(changing, frames, 8) == {}
    assert _read(plan(prompt="a dragon"), frames, 8) == {}


def test_a_warm_engine_is_reused_for_its_placement(plan: MakePlan) -> None:
    chosen = engine_of(plan(), RunOptions())
    given = RunOptions(placement=chosen.placement.model_copy(update={"batch": 2}))
    assert engine_of(plan(), given) is chosen and engine_of(plan(), RunOptions()) is chosen
    assert engine_of(plan(), RunOptions(placement=Placement(decode_frames=1))) is not chosen


def planned(tmp_path: Path, kind: str) -> tuple[list[Plan], RunOptions]:
    """Films that begin from something, or are something more than four frames of words."""
    polish_options: dict[str, Any] = {"num_frames": 4, "num_inference_steps": 4, "seed": 3, "scheduler": "dpm++"}
    if kind == "long":
        polish_options |= {"num_frames": 24, "prompt_at": ((12, "a green star"),)}
    elif kind == "image":
        Image.new("RGB", (128, 128), "red").save(tmp_path / "given.png")
        polish_options |= {"image": str(tmp_path / "given.png")}
    elif kind == "video":
        frames = np.stack([np.full((128, 128, 3), 40 * number, np.uint8) for number in range(4)])
        polish_options |= {"video": str(Clip(frames, 8.0).save(tmp_path / "given.mp4")), "strength": 0.8}
    elif kind == "lora":
        networks = TextToVideo.load(find("builtin").path())
        file = write(tmp_path / "style.safetensors", adapter(networks.unet, lambda name: "attn" in name), "peft")
        polish_options |= {"loras": located([f"{file}:0.1"])}
    request = Request.of(prompt="a red circle", **polish_options)
    plans = [resolve(request)]
    if kind == "two":
        plans.append(resolve(request.model_copy(update={"seed": 4, "prompt": "a green star"})))
    return plans, run_options_of(plans[0], request)


@pytest.mark.parametrize(
    "kind", ["two", *(pytest.param(each, marks=pytest.mark.slow) for each in ("image", "video", "long", "lora"))]
)
def test_a_resumed_film_has_the_recipe_of_an_uninterrupted_one(tmp_path: Path, path: Path, kind: str) -> None:
    plans, run_options = planned(tmp_path, kind)
    run_options = replace(run_options, placement=Placement(batch=len(plans)))
    whole, known = list(films(plans, run_options)), len(run_history.read())
    forget()
    steps: list[Step] = []
    with pytest.raises(Cancelled):
        list(
            films(
                plans,
                run_options,
                keep=lambda _: Checkpointer(path),
                on_step=steps.append,
                cancel=lambda: len(steps) > 2,
            )
        )
    assert steps[-1].index == 1 and steps[-1].phase == "denoise"
    forget()
    resumed = list(films(plans, run_options, keep=lambda _: Checkpointer(path)))
    assert [clip.recipe for clip in resumed] == [clip.recipe for clip in whole]
    assert [len(films_of) for films_of in (whole, resumed)] == [len(plans)] * 2
    total = steps[-1].total
    assert all(clip.run and f"resumed from step 2 of {total}" in clip.run.notes for clip in resumed)
    assert len(run_history.read()) == known, "what a part of a film took says nothing about films"


KILLED = """
import sys
from pathlib import Path
import torch
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.films import films
from flickbook.spec import Plan

torch.set_num_threads(1)
plan = Plan.from_json(sys.argv[1])
keeper = Checkpointer(Path(sys.argv[2]), share=1e9)
(clip,) = films([plan], keep=lambda _: keeper, on_step=lambda step: print(step, flush=True))
print(clip.recipe.to_json())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "last"), [("unipc", 2), ("ddim", 4)])
def test_another_process_resumes_a_killed_one(plan: MakePlan, path: Path, scheduler: str, last: int) -> None:
    resumed = plan(scheduler=scheduler, num_inference_steps=8)
    with threads("1"):
        (whole,) = films([resumed])
    child = [sys.executable, "-c", KILLED, resumed.to_json(), str(path)]
    with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if f"phase='denoise', index={last}" in line:
                process.kill()  # wherever it is by now
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout.splitlines()
    first = next(line for line in done if "phase='denoise'" in line)
    assert int(first.partition("index=")[2].partition(",")[0]) >= last
    assert whole.recipe is not None and done[-1] == whole.recipe.to_json()


def test_a_resumed_film_uses_the_threads_of_the_first_attempt(plan: MakePlan, path: Path) -> None:
    run_options, seen = RunOptions(placement=Placement()), set[int]()
    with threads("1"):
        (first,) = films([plan()], run_options, keep=lambda _: Checkpointer(path))
    with threads("2"):
        how: dict[str, Any] = {"on_step": lambda _: seen.add(torch.get_num_threads())}
        (clip,) = films([plan()], run_options, keep=lambda _: Checkpointer(path), **how)
        assert torch.get_num_threads() == 2
    assert seen == {1} and clip.recipe == first.recipe
