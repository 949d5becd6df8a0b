"""Single pictures from meanings and noise that are handed in: of the built-in model, and of tiny pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.contract.cases import CASES, Case
from tests.contract.matrix import ready

from flickbook.catalogue import find
from flickbook.engine.films import RunOptions, engine_of, films
from flickbook.engine.pipelines.registry import check_stills
from flickbook.engine.sequences.interpolation import blended
from flickbook.engine.sequences.stills import Stills, stills
from flickbook.errors import Cancelled, RequestError
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request

#: The built-in model and one pipeline; the others are tested with the slow tests.
MODELS = ["", "sd15", *(pytest.param(each, marks=pytest.mark.slow, id=each) for each in ("sdxl", "flux", "sana_img"))]
A, B = "a red circle on a blue background", "a yellow square"


def case_of(build: str) -> Case:
    return next(case for case in CASES if case.build == build)


@pytest.fixture(params=MODELS, ids=lambda each: each or "builtin")
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Case:
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    return case_of(request.param)


@pytest.fixture
def plan(case: Case) -> Iterator[Plan]:
    with ready(case) as model:
        yield resolve(Request(prompt=A, model=model, num_frames=1, seed=5, num_inference_steps=4))


def maker(plan: Plan, feedback: float = 0.0) -> Stills:
    return stills(engine_of(plan, RunOptions()).loaded(), plan.model_copy(update={"feedback": feedback}))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.model
def test_an_image_made_in_parts_equals_the_generated_image(plan: Plan) -> None:
    whole = next(films([plan])).frames[0]
    one = maker(plan)
    assert np.array_equal(one.picture(one.embedding(A), one.noise(5)), whole)
    assert not np.array_equal(one.picture(one.embedding(A), one.noise(6)), whole)


@pytest.mark.model
def test_an_image_made_in_parts_without_guidance_equals_the_generated_image(plan: Plan) -> None:
    plain = plan.model_copy(update={"guidance_scale": 1.0})
    one = maker(plain)
    assert np.array_equal(one.picture(one.embedding(A), one.noise(5)), next(films([plain])).frames[0])


@pytest.mark.model
def test_every_step_is_reported_and_can_cancel(plan: Plan) -> None:
    one, seen = maker(plan), list[int]()
    embedding, noise = one.embedding(A), one.noise(5)
    one.picture(embedding, noise, step=lambda: seen.append(1))
    assert len(seen) == 4

    def stop() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        one.picture(embedding, noise, step=stop)
    assert one.picture(embedding, noise).shape == (plan.height, plan.width, 3)


@pytest.mark.model
def test_a_blend_of_two_prompts_differs_from_both(plan: Plan) -> None:
    one = maker(plan)
    a, b = one.embedding(A), one.embedding(B)
    middle = blended(a, b, 0.5)
    assert {name: each.shape for name, each in middle.items()} == {name: each.shape for name, each in a.items()}
    assert {name: each.dtype for name, each in middle.items()} == {name: each.dtype for name, each in a.items()}
    for name, each in middle.items():
        if not name.startswith("negative") and each.is_floating_point():
            assert not torch.equal(each, a[name]) and not torch.equal(each, b[name])
    assert one.picture(middle, one.noise(5)).dtype == np.uint8


@pytest.mark.model
def test_image_to_image_depends_on_strength_and_noise(case: Case, plan: Plan) -> None:
    source = np.full((plan.height, plan.width, 3), (200, 60, 30), np.uint8)
    weak, strong = maker(plan, 0.5), maker(plan, 1.0)
    embedding, noise = weak.embedding(A), weak.noise(5)
    if "image" not in case.begins:
        with pytest.raises(RequestError, match="takes none"):
            weak.picture(embedding, noise, source)
        return
    seen = list[int]()
    made = weak.picture(embedding, noise, source, lambda: seen.append(1))
    assert len(seen) == 2, "half of the steps"
    assert np.array_equal(made, weak.picture(embedding, noise, source))
    assert not np.array_equal(made, weak.picture(embedding, weak.noise(6), source))
    assert not np.array_equal(made, weak.picture(embedding, noise, 255 - source))
    assert not np.array_equal(made, strong.picture(embedding, noise, source))


@pytest.mark.model
def test_a_low_strength_stays_near_the_source() -> None:
    plan = resolve(Request(prompt=A, num_frames=1, seed=5, num_inference_steps=8))
    one = maker(plan, 0.25)
    source = maker(plan).picture(one.embedding(A), one.noise(5))
    near = one.picture(one.embedding(A), one.noise(6), source)
    assert distance(near, source) < distance(maker(plan).picture(one.embedding(A), one.noise(6)), source) / 2


@pytest.mark.parametrize("name", ["animatediff", "wan-2.1-1.3b", "ltx-video"])
def test_a_class_without_single_images_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError, match=f"^model={name}: {find(name).pipeline} cannot make the single images"):
        check_stills(find(name))
    for able in ("builtin", "sd15", "sdxl", "sdxl-turbo", "flux-schnell", "sana", "text-to-video-ms-1.7b"):
        check_stills(find(able))


def test_a_class_known_only_after_loading_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    with ready(replace(case_of("wan"), frames=1)) as model:
        plan = resolve(Request(prompt=A, model=model, num_frames=1, seed=5))
        with pytest.raises(RequestError, match="WanPipeline cannot make the single images"):
            maker(plan)
