"""diffusers' pipelines as a family: what is loaded, what is refused before anything of it is, and what films share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.contract.cases import CASES
from tests.contract.matrix import request_of
from tests.loras import adapter, write

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.pipelines.directory import class_of
from flickbook.errors import Cancelled, RequestError, WeightsError
from flickbook.hub.add import describe
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Step

SD15 = next(case for case in CASES if case.build == "sd15")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion."""
    directory = tmp_path_factory.mktemp("sd15")
    SD15.save(directory)
    return directory


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    import shutil

    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def plan(data: Path, tmp_path: Path, saved: Path) -> Callable[..., Plan]:
    """`plan(**changes)` of the tiny model, which is then on the list."""
    catalogue.add(SD15.model(saved))
    return lambda **changes: resolve(request_of(SD15, "tiny-sd15", "text", tmp_path, **changes))


def film(directory: Path, plan: Plan, **changes: Any) -> np.ndarray:
    """The frames of a plan, from a model that is loaded for it."""
    model: Model = SD15.model(directory).model_copy(update=changes)
    return np.concatenate([e.frames for e in Engine(model, Placement()).run([plan]) if isinstance(e, Frames)])


def test_an_image_equals_that_of_the_pipeline(plan: Callable[..., Plan], saved: Path) -> None:
    from diffusers import StableDiffusionPipeline

    made = film(saved, plan(prompt="a cat", negative_prompt="dog", guidance_scale=4.0, seed=3))
    pipe = StableDiffusionPipeline.from_pretrained(str(saved), safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    arguments = dict(width=64, height=64, num_inference_steps=3, guidance_scale=4.0, output_type="np")
    theirs = pipe("a cat", negative_prompt="dog", generator=torch.Generator().manual_seed(3), **arguments).images
    assert np.array_equal(made, (theirs * 255).round().astype(np.uint8))


@pytest.mark.slow
def test_every_scheduler_makes_a_different_image(plan: Callable[..., Plan], saved: Path) -> None:
    made = [film(saved, plan(scheduler=name)) for name in SD15.schedulers]
    distinct = len({frames.tobytes() for frames in made})
    assert distinct >= len(made) - 2, "native is this model's ddim, and Euler's step is DDIM's in other words"
    clipped = film(saved, plan(), scheduling={"clip_sample": True, "clip_sample_range": 0.1})
    assert not np.array_equal(clipped, made[0])


def test_films_of_a_batch_run_one_after_another(plan: Callable[..., Plan], saved: Path) -> None:
    plans = [plan(seed=3), plan(seed=4)]
    engine, steps, frames = Engine(SD15.model(saved), Placement(batch=2)), list[Step](), dict[int, np.ndarray]()
    for event in engine.run(plans):
        if isinstance(event, Frames):
            frames[event.film] = event.frames
        elif event.phase == "denoise":
            steps.append(event)
    assert [(step.index, step.total) for step in steps] == [(i, 6) for i in range(1, 7)]
    assert np.array_equal(frames[1], film(saved, plan(seed=4)))


def test_cancelling_leaves_no_thread(plan: Callable[..., Plan], saved: Path) -> None:
    import threading

    seen: list[str] = []
    with pytest.raises(Cancelled):
        for event in Engine(SD15.model(saved), Placement()).run([plan()], cancel=lambda: "denoise" in seen):
            if isinstance(event, Step):
                seen.append(event.phase)
    assert not [thread for thread in threading.enumerate() if thread.name == "pipeline"]


def spoil_index(directory: Path, **changes: object) -> None:
    path = directory / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "EvilPipeline"}, "names the unsupported pipeline EvilPipeline; choose a model of"),
        ({"_class_name": ["evil", "StableDiffusionPipeline"]}, "names the unsupported pipeline"),
        ({"_class_name": None}, "names the unsupported pipeline None"),
        ({"unet": ["evil", "Network"]}, "loads the code of unet from evil; only classes of diffusers"),
        ({"unet": ["os", "system"]}, "loads the code of unet from os"),
        ({"unet": ["../evil", "Network"]}, "loads the code of unet from ../evil"),
        ({"unet": []}, "loads the code of unet from nowhere"),
        ({"unet": ["diffusers", "DiffusionPipeline"]}, "loads the code of unet from diffusers"),
        ({"unet": ["diffusers", "NoSuchNetwork"]}, "cannot be loaded"),
    ],
)
def test_remote_and_foreign_code_is_never_run(
    copied: Path, plan: Callable[..., Plan], changes: dict[str, object], message: str
) -> None:
    if "evil" in str(changes):
        (copied / "unet/evil.py").write_text("open('/tmp/flickbook-was-here', 'w')\nclass Network: pass\n")
    spoil_index(copied, **changes)
    with pytest.raises(WeightsError) as refusal:
        film(copied, plan())
    assert message in str(refusal.value)
    assert not Path("/tmp/flickbook-was-here").exists()


def test_a_directory_with_code_is_refused(copied: Path) -> None:
    (copied / "vae/diffusers.py").write_text("")
    with pytest.raises(WeightsError, match="diffusers.py: is code in the weights directory"):
        class_of(copied)
    (copied / "vae/diffusers.py").unlink()
    path = copied / "text_encoder/config.json"
    config = json.loads(path.read_text())
    for evil in ({"auto_map": {"AutoModel": "evil--Model"}}, {"attn_implementation": "someone/kernel"}):
        path.write_text(json.dumps({**config, **evil}))
        with pytest.raises(WeightsError, match="names custom code"):
            class_of(copied)


@pytest.mark.slow
def test_out_of_memory_while_decoding_switches_to_tiles(
    plan: Callable[..., Plan], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import AutoencoderKL

    whole, decode = film(saved, plan()), AutoencoderKL.decode

    def starved(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, *args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "decode", starved)
    engine, phases, frames = Engine(SD15.model(saved), Placement()), list[str](), list[np.ndarray]()
    for event in engine.run([plan()]):
        phases.append(event.phase) if isinstance(event, Step) else frames.append(event.frames)
    assert phases.count("denoise") == 3, "what was denoised is decoded, and not made again"
    assert np.abs(frames[0].astype(int) - whole).mean() < 8, "tiles of so small a picture fade over much of it"
    assert engine.placement.tiling and engine.placement.rungs == ("decode: tiling",)
    assert "out of memory; continued with decode: tiling" in engine.notes("a cat")


def test_damaged_weights_are_named(copied: Path, plan: Callable[..., Plan]) -> None:
    path = copied / "unet/diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\x80\x04}q\x00." + whole[6:], b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError):
            film(copied, plan())


def test_a_pickle_checkpoint_is_not_read_for_missing_safetensors(copied: Path, plan: Callable[..., Plan]) -> None:
    path = copied / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be loaded"):
        film(copied, plan())


def test_an_unsupported_input_is_refused_with_its_field(
    data: Path, tmp_path: Path, plan: Callable[..., Plan], saved: Path
) -> None:
    with pytest.raises(RequestError, match="video=.*takes none"):
        film(saved, plan().model_copy(update={"video": "a" * 64, "strength": 0.5}))


def test_a_late_pipeline_error_is_explained(plan: Callable[..., Plan], saved: Path) -> None:
    with pytest.raises(WeightsError, match="tiny-sd15: its pipeline failed .*divisible by 8"):
        film(saved, plan().model_copy(update={"width": 60}))


def test_nan_frames_are_refused(copied: Path, plan: Callable[..., Plan]) -> None:
    path = copied / "vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["decoder.conv_out.bias"].fill_(float("nan"))
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="not an image"):
        film(copied, plan())


@pytest.mark.slow
def test_a_motion_adapter_animates_its_base_model(
    data: Path, tmp_path: Path, saved: Path, plan: Callable[..., Plan]
) -> None:
    """Two directories: the adapter's own, and that of the model it adds to."""
    from tests.tiny import ad

    torch.manual_seed(0)
    ad().motion_adapter.save_pretrained(tmp_path / "adapter")
    case = replace(SD15, frames=4)
    model = case.model(tmp_path / "adapter").model_copy(update={"pipeline": "AnimateDiffPipeline", "base": "tiny-sd15"})
    engine = Engine(model, Placement())
    made = resolve(request_of(SD15, "tiny-sd15", "text", tmp_path, num_frames=4))
    frames = np.concatenate([event.frames for event in engine.run([made]) if isinstance(event, Frames)])
    assert frames.shape == (4, 64, 64, 3)
    assert {"diffusion_pytorch_model.safetensors", "tiny-sd15/unet/diffusion_pytorch_model.safetensors"} <= set(
        engine.weights
    )


@pytest.mark.slow
def test_a_lora_alone_adds_to_its_base_model(
    data: Path, tmp_path: Path, saved: Path, plan: Callable[..., Plan]
) -> None:
    from diffusers import StableDiffusionPipeline

    file = "few_steps.safetensors"
    (tmp_path / "lora").mkdir()
    made = adapter(StableDiffusionPipeline.from_pretrained(saved).unet)
    write(tmp_path / "lora" / file, made, "peft")
    changes = {"base": "tiny-sd15", "files": (file,), "lora": ((file, 1.0),)}
    with_lora = film(tmp_path / "lora", plan(), **changes)
    assert with_lora.shape == film(saved, plan()).shape and not np.array_equal(with_lora, film(saved, plan()))
    (tmp_path / "lora" / file).unlink()
    with pytest.raises(WeightsError, match=file):
        film(tmp_path / "lora", plan(), **changes)


def test_a_directory_of_a_supported_pipeline_class_can_be_added(data: Path, saved: Path) -> None:
    assert class_of(saved) == "StableDiffusionPipeline"
    mine = describe("mine", str(saved))
    assert mine.family == "pipeline" and mine.pipeline == "StableDiffusionPipeline" and mine.path() == saved
