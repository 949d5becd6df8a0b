"""Modular pipelines are loaded from a directory, and make films with sound like the other pipelines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.contract.cases import CASES
from tests.contract.matrix import request_of

from flickbook import catalogue
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.engine import Engine
from flickbook.engine.family import Setup
from flickbook.engine.pipelines.family import PipelineFamily
from flickbook.engine.pipelines.modular.pipeline import PictureProcessor
from flickbook.errors import WeightsError
from flickbook.media.sound.samples import Sound
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Step

H3 = next(case for case in CASES if case.build == "h3")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny MiniMax-H3 on the disk."""
    place = tmp_path_factory.mktemp("h3")
    H3.save(place)
    return place


def load(place: Path) -> PipelineFamily:
    return PipelineFamily.load(Setup(H3.model(place), place, Placement()))


def sound(plans: Sequence[Plan], checkpointer: Checkpointer | None = None, stop: int = 0) -> Sound | None:
    """The sound of a run, which is stopped after the step `stop`."""
    engine = Engine(catalogue.find(plans[0].model), Placement(batch=1))
    events = engine.run(plans, checkpointer=checkpointer)
    for event in events:
        if isinstance(event, Step) and event.phase == "denoise" and event.index == stop:
            events.close()
            return None
    return engine.sounds[0]


@pytest.mark.slow
def test_a_resumed_film_of_minimax_h3_has_the_same_sound(directory: Path, data: Path, tmp_path: Path) -> None:
    catalogue.add(H3.model(directory))
    plan = resolve(request_of(H3, "tiny-h3", "text", tmp_path))
    whole = sound([plan])
    assert whole is not None and whole.rate == 32000
    assert whole.samples.shape == (round(124 / 24 * 40) * 800, 2) and np.abs(whole.samples).max() > 0
    sound([plan], Checkpointer(tmp_path / "state"), stop=1)
    resumed = Checkpointer(tmp_path / "state")
    again = sound([plan], resumed)
    assert resumed.resumed_from is not None
    assert again is not None and np.array_equal(again.samples, whole.samples)


@pytest.mark.slow
def test_components_come_from_the_directory_and_code_of_others_is_refused(directory: Path) -> None:
    pipe = load(directory).pipe
    assert pipe.transformer is not None and pipe.transformer_ref is None
    path = directory / "modular_model_index.json"
    text = path.read_text(encoding="utf-8")
    index = json.loads(text)
    index["vae"][0] = "elsewhere"
    path.write_text(json.dumps(index), encoding="utf-8")
    try:
        with pytest.raises(WeightsError, match="loads the code of vae from elsewhere"):
            load(directory)
    finally:
        path.write_text(text, encoding="utf-8")


class Tokenizer:
    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [{"<|image_pad|>": 7, "<|video_pad|>": 8}[token] for token in tokens]


def test_parts_of_pictures_are_told_from_words() -> None:
    assert PictureProcessor(None, Tokenizer()).create_mm_token_type_ids([[1, 7, 7, 2], [8]]) == [[0, 1, 1, 0], [2]]


@pytest.mark.slow
def test_a_repository_with_both_indexes_is_loaded_and_one_without_a_component_is_refused(
    directory: Path, tmp_path: Path
) -> None:
    """MiniMax-H3 is published with a model_index.json whose entries have three values too."""
    place = shutil.copytree(directory, tmp_path / "both")
    shutil.copy(place / "modular_model_index.json", place / "model_index.json")
    assert load(place).pipe.vae is not None
    shutil.rmtree(place / "vae")
    with pytest.raises(WeightsError, match="vae: no such component"):
        load(place)


@pytest.mark.slow
def test_the_guidance_of_a_film_does_not_depend_on_the_film_before(data: Path, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.build == "ltx25")
    case.save(tmp_path / "model")
    model = case.model(tmp_path / "model")
    family = PipelineFamily.load(Setup(model, tmp_path / "model", Placement()))
    catalogue.add(model)
    seen = []
    for scale in (3.0, 1.0, 3.0):
        plan = resolve(request_of(case, model.name, "text", tmp_path, guidance_scale=scale))
        pipe = family.pipe_of(plan)
        seen.append([(each.guidance_scale, each.stg_scale) for each in (pipe.guider, pipe.audio_guider)])
    assert seen[0] == seen[2] and seen[0][1][0] > 1
    assert seen[1] == [(1.0, 0.0), (1.0, 0.0)]


@pytest.mark.slow
@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_networks_wait_on_the_host_with_offloading(directory: Path, offload: str) -> None:
    """On a machine without a GPU the device is the CPU too: that the networks run is what this shows."""
    pipe, call = load(directory).pipe, {"prompt": "a cat", "width": 32, "height": 32, "num_frames": 124}
    call |= {"num_inference_steps": 2, "output_type": "np"}
    torch.manual_seed(0)
    plain = pipe(**call, generator=torch.Generator().manual_seed(0)).frames
    getattr(pipe, f"enable_{offload}_cpu_offload")(device="cpu")
    offloaded = pipe(**call, generator=torch.Generator().manual_seed(0)).frames
    pipe.remove_all_hooks()
    assert np.array_equal(plain, offloaded)
