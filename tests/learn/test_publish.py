"""The published directory: ours to load, and stock diffusers' too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from flickbook.catalogue import find
from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.diffusion.text_to_video import FILES, TextToVideo
from flickbook.hub.manifest import verify
from flickbook.learn.config import from_dict
from flickbook.learn.evaluation.sources import coverage_of
from flickbook.learn.publish import publish
from flickbook.learn.train import Model

PROMPT = "a red circle moving left on a blue background"


def stock(directory: Path) -> Any:
    """diffusers' own pipeline of a directory."""
    from diffusers import TextToVideoSDPipeline

    library: Any = TextToVideoSDPipeline
    pipeline = library.from_pretrained(directory)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def written(values: dict[str, Any], tokenizer: Path, out: Path) -> tuple[Model, Autoencoder, dict[str, str]]:
    torch.manual_seed(3)
    config = from_dict(values)
    model, autoencoder = Model(config), Autoencoder(AutoencoderConfig.from_dict(config.autoencoder.network))
    return model, autoencoder, publish(model, autoencoder, tokenizer, config, out)


@pytest.mark.slow
def test_it_loads_as_it_was_written(values: dict[str, Any], tokenizer_path: Path, tmp_path: Path) -> None:
    model, autoencoder, manifest = written(values, tokenizer_path, tmp_path)
    assert set(manifest) == set(FILES.values())
    assert verify(tmp_path) == manifest
    networks = TextToVideo.load(tmp_path)
    pairs = [
        (networks.unet, model.unet),
        (networks.text_encoder, model.text_encoder),
        (networks.autoencoder, autoencoder),
    ]
    for found, sent in pairs:
        assert found.config == sent.config
        for name, value in sent.state_dict().items():
            assert torch.equal(found.state_dict()[name], value.half().float()), name
    assert networks.tokenizer.encode(PROMPT)[0] == values["text_encoder"]["bos_token_id"]
    assert networks.schedule.prediction_type == "v_prediction"
    assert float(networks.schedule.alphas_cumprod[-1]) == 0


@pytest.mark.slow
def test_stock_diffusers_loads_it_and_makes_the_same_film(published: Path) -> None:
    networks, pipeline = TextToVideo.load(published), stock(published)
    assert pipeline.tokenizer.model_max_length == 48
    latents = torch.randn(1, 8, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    size = {"num_frames": 4, "height": 32, "width": 32}
    call = {"num_inference_steps": 3, "guidance_scale": 3.0, "latents": latents.clone(), **size}
    expected = torch.from_numpy(pipeline(PROMPT, **call).frames[0])
    from flickbook.diffusion.sampler import SamplerState

    context, negative = networks.embed([PROMPT, ""]).chunk(2)
    begin = SamplerState.begin(latents, networks.schedule.timesteps(3))
    *_, end = networks.denoise(begin, context, negative, [3.0], "ddim")
    found = torch.cat(list(networks.decode(end.latents[0])))
    assert expected.shape == found.shape == (4, 32, 32, 3)
    assert float((found.float() - expected * 255).abs().max()) <= 2


def test_the_python_of_the_card_runs() -> None:
    card = (find("builtin").path() / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(
        program.replace("num_frames=16", "num_frames=2").replace("num_inference_steps=25", "num_inference_steps=2"),
        names,
    )
    assert names["film"].shape == (2, 128, 128, 3)


def test_frame_positions_are_ours_and_stock_diffusers_refuses_them(
    values: dict[str, Any], tokenizer_path: Path, tmp_path: Path
) -> None:
    values["unet"]["frame_positions"] = True
    written(values, tokenizer_path, tmp_path)
    assert TextToVideo.load(tmp_path).unet.config.frame_positions
    index = json.loads((tmp_path / "model_index.json").read_text(encoding="utf-8"))
    assert index["unet"] == ["flickbook", "FlickbookUNet3DModel"]
    with pytest.raises((AttributeError, ImportError, ValueError), match="flickbook|FlickbookUNet3DModel"):
        stock(tmp_path)


def test_publishing_again_gives_the_same_files(values: dict[str, Any], tokenizer_path: Path, tmp_path: Path) -> None:
    *_, first = written(values, tokenizer_path, tmp_path)
    before = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    *_, second = written(values, tokenizer_path, tmp_path)
    assert first == second
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_training_on_fewer_pairs_says_so(values: dict[str, Any], tokenizer_path: Path, tmp_path: Path) -> None:
    written(values, tokenizer_path, tmp_path / "all")
    written({**values, "coverage": 0.5}, tokenizer_path, tmp_path / "half")
    assert coverage_of(tmp_path / "all") == 1.0 and not (tmp_path / "all/training.json").exists()
    assert coverage_of(tmp_path / "half") == 0.5
