"""The parts of the built-in model together, against stock diffusers loading the same directory."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flickbook.catalogue import find
from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.text_to_video import FILES, TextToVideo, noise
from flickbook.errors import WeightsError

BUILTIN = find("builtin").path()
PROMPT = "a red circle moving left on a blue background"


@pytest.fixture(scope="module")
def networks() -> TextToVideo:
    return TextToVideo.load(BUILTIN)


@pytest.fixture(scope="module")
def warm() -> Any:
    """bench/warm.py, which stands beside the package and not in it."""
    spec = importlib.util.spec_from_file_location("warm", Path(__file__).parents[2] / "bench" / "warm.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def comparable(warm: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model as stock diffusers can load it."""
    directory: Path = warm.comparable(tmp_path_factory.mktemp("comparable"))
    return directory


def latents_after(networks: TextToVideo, prompts: list[str], scales: list[float], seeds: list[int]) -> Tensor:
    """Latents of films of 4 frames after 3 steps."""
    context, negative = networks.embed(prompts), networks.embed([""] * len(prompts))
    begin = SamplerState.begin(noise(seeds, (8, 4, 8, 8)), networks.schedule.timesteps(3))
    *_, end = networks.denoise(begin, context, negative, scales, "ddim")
    return end.latents


def test_noise_belongs_to_the_film() -> None:
    together = noise([3, 4, 3], (8, 2, 4, 4))
    assert together.shape == (3, 8, 2, 4, 4)
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])
    assert torch.equal(together[1], torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(4)))


def test_shapes(networks: TextToVideo) -> None:
    assert networks.latent_shape(16, 128, 128) == (8, 16, 8, 8)
    assert networks.latent_shape(1, 64, 96) == (8, 1, 4, 6)
    assert networks.embed([PROMPT, ""]).shape == (2, 48, networks.unet.config.cross_attention_dim)
    (frames,) = networks.decode(noise([0], (8, 2, 8, 8))[0])
    assert frames.shape == (2, 128, 128, 3) and frames.dtype == torch.uint8


def test_it_is_small_enough_to_ship(networks: TextToVideo) -> None:
    parts = (networks.unet, networks.text_encoder, networks.autoencoder)
    assert sum(value.numel() for part in parts for value in part.parameters()) <= 15_000_000
    assert sum(path.stat().st_size for path in BUILTIN.rglob("*") if path.is_file()) <= 30_000_000


def test_guidance_is_each_films_own(networks: TextToVideo) -> None:
    mixed = latents_after(networks, [PROMPT, PROMPT], [3.0, 1.0], [7, 7])
    guided, plain = (latents_after(networks, [PROMPT], [scale], [7]) for scale in (3.0, 1.0))
    assert torch.allclose(mixed[:1], guided, atol=1e-3) and torch.allclose(mixed[1:], plain, atol=1e-3)
    assert not torch.allclose(guided, plain, atol=1e-2)


def test_a_run_that_is_stopped_and_restored_ends_in_the_same_bits(networks: TextToVideo) -> None:
    context, negative = networks.embed([PROMPT]), networks.embed([""])
    for solver in ("ddim", "dpm++", "unipc"):
        begin = SamplerState.begin(noise([7], (8, 2, 8, 8)), networks.schedule.timesteps(4))
        states = list(networks.denoise(begin, context, negative, [3.0], solver))
        restored = SamplerState.from_tensors(states[1].to_tensors())
        *_, end = networks.denoise(restored, context, negative, [3.0], solver)
        assert torch.equal(end.latents, states[-1].latents)


def test_frames_decoded_by_parts_are_the_same(networks: TextToVideo) -> None:
    latents = noise([1], (8, 5, 8, 8))[0]
    parts = list(networks.decode(latents, at_once=2))
    assert [len(part) for part in parts] == [2, 2, 1]
    whole = torch.cat(list(networks.decode(latents, at_once=5)))
    assert int((torch.cat(parts).int() - whole.int()).abs().max()) <= 1


def film(networks: TextToVideo, latents: Tensor, steps: int) -> Tensor:
    context, negative = networks.embed([PROMPT, ""]).chunk(2)
    begin = SamplerState.begin(latents, networks.schedule.timesteps(steps))
    *_, end = networks.denoise(begin, context, negative, [3.0], "ddim")
    return torch.cat(list(networks.decode(end.latents[0]))).float()


@pytest.mark.slow
def test_a_film_equals_stock_diffusers(comparable: Path, warm: Any) -> None:
    """Four steps and sixteen frames of the same latents: every pixel within 2 of 255."""
    networks, pipeline = TextToVideo.load(comparable), warm.stock_pipeline(comparable)
    latents = noise([7], networks.latent_shape(16, 128, 128))
    size = {"num_frames": 16, "height": 128, "width": 128, "num_inference_steps": 4}
    expected = pipeline(PROMPT, guidance_scale=3.0, latents=latents.clone(), **size).frames[0]
    found = film(networks, latents, 4)
    assert found.shape == expected.shape == (16, 128, 128, 3)
    assert float((found - torch.from_numpy(expected) * 255).abs().max()) <= 2
    assert float(found.std()) > 1


@pytest.mark.slow
@pytest.mark.model
def test_a_whole_film_equals_stock_diffusers(comparable: Path, warm: Any) -> None:
    """The film that the benchmark times, 25 steps."""
    networks, pipeline = TextToVideo.load(comparable), warm.stock_pipeline(comparable)
    latents = noise([warm.SEED], networks.latent_shape(16, 128, 128))
    expected = torch.from_numpy(warm.stock_film(pipeline, latents)) * 255
    assert float((warm.our_film(networks, latents).float() - expected).abs().max()) <= 2


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUILTIN, tmp_path / "model"))


@pytest.mark.parametrize(
    "name", [*FILES.values(), *(f"{part}/config.json" for part in FILES), "scheduler/scheduler_config.json"]
)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(WeightsError, match=name):
        TextToVideo.load(copy)


def test_a_missing_tokenizer_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(WeightsError, match="tokenizer"):
        TextToVideo.load(copy)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("unet", {"act_fn": "gelu"}),
        ("unet", {"block_out_channels": [64, 192]}),
        ("vae", {"latent_channels": 4}),
        ("text_encoder", {"hidden_act": "relu"}),
    ],
)
def test_a_configuration_of_another_network_is_refused(copy: Path, part: str, change: dict[str, Any]) -> None:
    path = copy / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(WeightsError, match=part):
        TextToVideo.load(copy)
