"""Components that are not loaded as an index says, and what catalogue entries fix of a pipeline's call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.contract.cases import CASES
from tests.contract.matrix import film, request_of
from tests.loras import adapter, write
from tests.tiny.unet import sd_unet

from flickbook import catalogue
from flickbook.engine.engine import Engine
from flickbook.engine.family import Setup
from flickbook.engine.pipelines.family import PipelineFamily
from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.resolution import resolve
from flickbook.spec import Placement, Step

pytestmark = pytest.mark.slow


def loaded(build: str, directory: Path, **changes: Any) -> Any:
    """The pipeline of a tiny model that is saved in `directory`, loaded as the engine does."""
    model = next(each for each in CASES if each.build == build).model(directory).model_copy(update=changes)
    return PipelineFamily.load(Setup(model, directory, Placement())).pipe


def test_a_prompt_of_kandinsky_needs_no_processor_of_videos(tmp_path: Path) -> None:
    next(each for each in CASES if each.build == "k5").save(tmp_path)
    path = tmp_path / "model_index.json"
    index = json.loads(path.read_text())
    index["tokenizer"] = ["transformers", "Qwen2_5_VLProcessor"]
    path.write_text(json.dumps(index))
    assert type(loaded("k5", tmp_path).tokenizer).__name__.startswith("Qwen2Tokenizer")


def test_motif_video_gets_the_guidance_of_its_model_card(tmp_path: Path) -> None:
    import shutil

    next(each for each in CASES if each.build == "motif").save(tmp_path)
    shutil.rmtree(tmp_path / "guider")
    guider = loaded("motif", tmp_path).guider
    assert (type(guider).__name__, guider.guidance_scale) == ("AdaptiveProjectedGuidance", 8.0)
    assert guider.adaptive_projected_guidance_rescale == 12.0


def test_each_denoiser_of_wan_2_2_gets_its_own_lora(tmp_path: Path) -> None:
    case = next(each for each in CASES if each.build == "wan22_a14b")
    case.save(tmp_path)
    names = ("wan_high_noise_4step.safetensors", "wan_low_noise_4step.safetensors")
    plain = loaded("wan22_a14b", tmp_path)
    for name in names:
        write(tmp_path / name, adapter(plain.transformer, lambda layer: "attn1" in layer), "diffusers", "transformer")
    pipe = loaded("wan22_a14b", tmp_path, lora=tuple((name, 1.0) for name in names))
    active = [list(part.peft_config) for part in (pipe.transformer, pipe.transformer_2)]
    assert [len(each) for each in active] == [1, 1] and active[0] != active[1]


def test_published_noise_levels_decide_the_steps(data: Path, tmp_path: Path) -> None:
    """As LTX-2.3's, which are a list in `call`."""
    case = next(each for each in CASES if each.build == "ltx2")
    case.save(tmp_path / "model")
    sigmas = (1.0, 0.9, 0.5)
    model = case.model(tmp_path / "model").model_copy(update={"call": {"sigmas": sigmas}})
    catalogue.add(model)
    plan = resolve(request_of(case, model.name, "text", tmp_path, guidance_scale=1.0))
    engine = Engine(model, Placement())
    steps = [event for event in engine.run([plan]) if isinstance(event, Step) and event.phase == "denoise"]
    assert [step.index for step in steps] == [1, 2, 3]
    assert engine.loaded().noise_left(3) == pytest.approx([0.9, 0.5, 0.0])


def test_a_control_net_is_added_to_a_motion_module_on_its_base(data: Path, tmp_path: Path) -> None:
    """Three directories, as the published ones: each adds a network to the model that its entry names as its base."""
    from diffusers import StableDiffusionPipeline
    from tests.tiny import ad_control

    pipe = ad_control()
    parts = {name: pipe.components[name] for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    none = dict.fromkeys(("safety_checker", "feature_extractor"))
    base = StableDiffusionPipeline(**parts, **none, unet=sd_unet(), requires_safety_checker=False)
    base.save_pretrained(tmp_path / "base")
    pipe.motion_adapter.save_pretrained(tmp_path / "motion")
    pipe.controlnet.save_pretrained(tmp_path / "control")
    case = next(each for each in CASES if each.build == "ad_control")
    root = case.model(tmp_path / "base")
    catalogue.add(root.model_copy(update={"name": "root", "pipeline": "StableDiffusionPipeline"}))
    catalogue.add(root.at(tmp_path / "motion").model_copy(update={"name": "motion", "base": "root"}))
    model = root.at(tmp_path / "control").model_copy(
        update={"name": "control", "base": "motion", "pipeline": "AnimateDiffControlNetPipeline"}
    )
    catalogue.add(model)
    assert [each.name for each in catalogue.bases(model)] == ["motion", "root"]
    plan_request = request_of(case, "control", "text+control_video", tmp_path)
    clip = film(resolve(plan_request), plan_request)
    assert clip.recipe is not None
    names = set(clip.recipe.weights)
    assert {"diffusion_pytorch_model.safetensors", "motion/diffusion_pytorch_model.safetensors"} <= names
    assert "root/unet/diffusion_pytorch_model.safetensors" in names
    path = clip.save(tmp_path / "film.mp4")
    assert reproduce(path).identical_files
