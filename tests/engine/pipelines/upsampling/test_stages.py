"""Films of LTX whose latents are doubled: made by tiny models of the real classes, with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.cases import CASES, Case
from tests.contract.matrix import request_of
from tests.tiny.ltx import ltx2_upsampler, ltx_upsampler

from flickbook import catalogue
from flickbook.catalogue import LatentUpsampler, Model, find
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.films import RunOptions, engine_of, films, forget, run_options_of
from flickbook.engine.memory.components import upsampler_part
from flickbook.engine.memory.footprint import needs
from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.errors import HubError, RequestError, WeightsError
from flickbook.media.clip import Clip
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Step

STEPS = 3
#: Each tiny model -> the entry whose settings it has, and the steps of its second call.
ENTRIES = {"ltx_cond": ("ltx-video-13b-distilled", 4), "ltx2": ("ltx-2.3-distilled", 3)}
NETWORKS = {"ltx_cond": ltx_upsampler, "ltx2": ltx2_upsampler}


def case_of(build: str) -> Case:
    return next(case for case in CASES if case.build == build)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny models on the disk, with their upsamplers in a folder of the same directory."""
    found = {build: tmp_path_factory.mktemp(build) for build in ENTRIES}
    for build, directory in found.items():
        case_of(build).save(directory)
        torch.manual_seed(1)
        NETWORKS[build]().save_pretrained(directory / "latent_upsampler")
    return found


@pytest.fixture
def models(directories: dict[str, Path], data: Path) -> dict[str, Model]:
    """The tiny models, on the list of this machine."""
    forget()
    found = {}
    for build, directory in directories.items():
        published = find(ENTRIES[build][0]).latent_upsampler
        assert published is not None
        settings = published.model_copy(update={"repo": ""})
        found[build] = case_of(build).model(directory).model_copy(update={"latent_upsampler": settings})
        catalogue.add(found[build])
    return found


def planned(build: str, place: Path, begins: str = "text", **changes: Any) -> tuple[Plan, RunOptions]:
    fields = {"latent_upsample": "refine", **changes}
    asked = request_of(case_of(build), f"tiny-{build}", begins, place, **fields)
    plan = resolve(asked)
    return plan, run_options_of(plan, asked)


def film(plan: Plan, options: RunOptions, steps: list[Step] | None = None) -> Clip:
    return next(films([plan], options, previews=steps is not None, on_step=None if steps is None else steps.append))


@pytest.mark.slow
@pytest.mark.parametrize("build", ENTRIES)
def test_the_film_is_made_at_half_its_size_and_denoised_again(
    build: str, models: dict[str, Model], tmp_path: Path
) -> None:
    """Each step is reported once, and its preview has the film's size; that of the first call has half the detail."""
    (plan, options), steps = planned(build, tmp_path), list[Step]()
    shown: list[np.ndarray] = []

    def seen(step: Step) -> None:
        if step.phase == "denoise":
            steps.append(step)
            shown.append(engine_of(plan, options).loaded().show(step.preview[0]))

    clip = next(films([plan], options, previews=True, on_step=seen))
    total = STEPS + ENTRIES[build][1]
    assert [(step.index, step.total) for step in steps] == [(each, total) for each in range(1, total + 1)]
    assert {preview.shape[1:3] for preview in shown} == {(64, 64)}
    coarse = [np.array_equal(each[:, ::2, ::2], each[:, 1::2, 1::2]) for each in shown]
    assert coarse == [True] * STEPS + [False] * ENTRIES[build][1]
    assert clip.frames.shape == (plan.num_frames, 64, 64, 3)
    noise = engine_of(plan, options).loaded().noise_left(plan.num_inference_steps)
    assert len(noise) == total and noise[STEPS - 1] == noise[-1] == 0 and noise[STEPS] > 0
    assert np.array_equal(film(plan, options).frames, clip.frames)
    direct = film(*planned(build, tmp_path, latent_upsample=None))
    plain = film(*planned(build, tmp_path, latent_upsample="plain"))
    assert plain.frames.shape == clip.frames.shape
    for one, other in ((clip, direct), (clip, plain), (plain, direct)):
        assert not np.array_equal(one.frames, other.frames)
    assert (plain.audio is None) == (clip.audio is None) == (build != "ltx2")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "refine"])
@pytest.mark.parametrize("build", ENTRIES)
def test_a_stopped_film_is_resumed_to_the_bit(
    build: str, kind: str, models: dict[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step of either call, each time by an engine of its own; no network computes a step that was done."""
    plan, _ = planned(build, tmp_path, latent_upsample=kind)
    total = STEPS + ENTRIES[build][1] * (kind == "refine")

    def engine() -> Engine:
        return Engine(models[build], Placement(), (), True)

    network = "LTX2VideoTransformer3DModel" if build == "ltx2" else "LTXVideoTransformer3DModel"
    import diffusers

    forward, calls = getattr(diffusers, network).forward, list[int]()

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(getattr(diffusers, network), "forward", counted)
    (whole,) = [each.frames for each in engine().run([plan]) if isinstance(each, Frames)]
    once = len(calls)
    calls.clear()
    for stop in range(1, total + 1):
        seen = list[int]()
        events = engine().run([plan], checkpointer=Checkpointer(tmp_path / "state"))
        for event in events:
            if isinstance(event, Step) and event.phase == "denoise":
                seen.append(event.index)
                if event.index == stop:
                    break
        events.close()
        assert seen == list(range(max(1, stop - 1), stop + 1))
    made = list(engine().run([plan], checkpointer=Checkpointer(tmp_path / "state")))
    assert [event.index for event in made if isinstance(event, Step) and event.phase == "denoise"] == [total]
    assert len(calls) == once
    (frames,) = [event.frames for event in made if isinstance(event, Frames)]
    assert np.array_equal(frames, whole)


@pytest.mark.slow
@pytest.mark.parametrize("begins", ["image", "image+last_image", "text+conditions"])
@pytest.mark.parametrize("build", ENTRIES)
def test_images_guide_both_calls(build: str, begins: str, models: dict[str, Model], tmp_path: Path) -> None:
    (plan, options), steps = planned(build, tmp_path, begins), list[Step]()
    clip = film(plan, options, steps)
    denoised = [step.index for step in steps if step.phase == "denoise"]
    assert denoised == list(range(1, STEPS + ENTRIES[build][1] + 1))
    assert clip.frames.shape == (plan.num_frames, 64, 64, 3)


@pytest.mark.slow
def test_a_recipe_is_reproduced_and_names_the_upsampler(models: dict[str, Model], tmp_path: Path) -> None:
    clip = film(*planned("ltx2", tmp_path))
    path = clip.save(tmp_path / "film.mp4")
    assert clip.recipe is not None and any(name.startswith("latent_upsampler/") for name in clip.recipe.weights)
    verdict = reproduce(path)
    assert verdict.outcome == "identical", verdict.causes
    direct = film(*planned("ltx2", tmp_path, latent_upsample=None))
    # A film that is made without it has the recipe that it had before the upsampler was pulled.
    assert direct.recipe is not None
    assert not any(name.startswith("latent_upsampler/") for name in direct.recipe.weights)


def test_the_upsampler_counts_in_the_memory_check(models: dict[str, Model], tmp_path: Path) -> None:
    model, place = models["ltx2"], Placement()
    plain, _ = planned("ltx2", tmp_path, latent_upsample=None)
    upsampled, _ = planned("ltx2", tmp_path)
    part = upsampler_part(model, place)
    assert part is not None and part.loaded > 0
    more = needs(model, upsampled, model.path(), place).weights - needs(model, plain, model.path(), place).weights
    assert more == part.loaded


def test_a_missing_upsampler_and_another_network_are_refused_before_computing(
    models: dict[str, Model], tmp_path: Path
) -> None:
    model = models["ltx2"].at(shutil.copytree(models["ltx2"].path(), tmp_path / "copy"))
    plan, _ = planned("ltx2", tmp_path)
    folder = tmp_path / "copy" / "latent_upsampler"
    config = json.loads((folder / "config.json").read_text())
    for changes, message in (
        ({"temporal_upsample": True}, "is a network for more frames"),
        ({"_class_name": "LTXLatentUpsamplerModel"}, "it must double latents of LTX2Pipeline"),
    ):
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(WeightsError, match=message):
            next(Engine(model, Placement(), (), True).run([plan]))
    shutil.rmtree(folder)
    with pytest.raises(
        HubError, match="tiny-ltx2: its latent upsampler is not on this machine; run `flickbook models pull"
    ):
        next(Engine(model, Placement(), (), True).run([plan]))


def test_a_pipeline_that_cannot_denoise_given_latents_is_refused(models: dict[str, Model], tmp_path: Path) -> None:
    refine = {"num_inference_steps": 2, "denoise_strength": 0.5}
    settings = LatentUpsampler.model_validate({"refine": refine}, strict=False)
    catalogue.add(models["ltx2"].model_copy(update={"latent_upsampler": settings}))
    with pytest.raises(RequestError, match="LTX2Pipeline has no denoise_strength"):
        film(*planned("ltx2", tmp_path))
    assert find("tiny-ltx2").latent_upsampler == settings
