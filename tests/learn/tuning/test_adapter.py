"""The LoRA of a training: which layers get one, that it starts without effect, and what its two files hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from flickbook import catalogue
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.diffusion.unet3d import UNet3D
from flickbook.engine.lora.apply import inject
from flickbook.errors import RequestError
from flickbook.learn.tuning import adapter
from flickbook.learn.tuning.config import TuneConfig


def built_in() -> TextToVideo:
    return TextToVideo.load(catalogue.find("builtin").path())


def answer(unet: nn.Module, context: torch.Tensor) -> torch.Tensor:
    """What the network predicts for fixed noise."""
    assert isinstance(unet, UNet3D)
    x = torch.randn(1, unet.config.in_channels, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return unet(x, torch.tensor([500]), context)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_new_lora_changes_nothing_and_every_layer_can_change_the_result() -> None:
    networks = built_in()
    context = networks.embed(["a red circle"]).clone()
    before = answer(networks.unet, context)
    adapter.add(networks.unet, 2, "all")
    assert torch.allclose(answer(networks.unet, context), before, atol=1e-5)
    pairs = adapter.factors(networks.unet)
    assert pairs.keys() == set(adapter.layers_of(built_in().unet, "all"))
    for name in ("up_blocks.0.temp_convs.0.conv2.3", "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj"):
        up = pairs[name][1]
        nn.init.normal_(up)
        assert not torch.allclose(answer(networks.unet, context), before, atol=1e-3), name
        nn.init.zeros_(up)


@pytest.mark.slow
def test_a_trained_lora_and_its_files_give_the_same_film(tmp_path: Path) -> None:
    networks = built_in()
    context = networks.embed(["a red circle"]).clone()
    torch.manual_seed(0)
    adapter.add(networks.unet, 2, "all")
    for _, up in adapter.factors(networks.unet).values():
        nn.init.normal_(up, std=0.01)
    trained = answer(networks.unet, context)
    files = adapter.write({"unet": networks.unet}, tmp_path, "zigzag", {"base_model": "builtin"}, "")
    assert [path.name for path in files] == [adapter.NAME, "zigzag_kohya.safetensors"]
    for path in files:
        again = built_in()
        (match,) = inject(again, [(path, 1.0)])
        assert not match.unmatched
        assert answer(again.unet, context) == pytest.approx(trained, abs=1e-3)


def test_kohya_names_of_wan_are_those_of_its_original_code(tmp_path: Path) -> None:
    block = nn.ModuleDict({"attn1": nn.ModuleDict({"to_q": nn.Linear(4, 4)}), "ffn": nn.Linear(4, 4)})
    network = nn.ModuleDict({"blocks": nn.ModuleList([block])})
    adapter.add(network, 1, "attention")
    _, kohya = adapter.write({"transformer": network}, tmp_path, "x", {}, "WanPipeline")
    assert set(load_file(kohya)) == {
        f"lora_unet_blocks_0_self_attn_q.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha")
    }


def test_equal_loras_have_equal_files(tmp_path: Path) -> None:
    network = nn.ModuleDict({"a": nn.ModuleDict({"to_q": nn.Linear(4, 4)})})
    adapter.add(network, 1, "attention")
    metadata = {f"key {number}": "ü" for number in range(20)}
    found = []
    for number in range(3):
        place = tmp_path / str(number)
        place.mkdir()
        found += [path.read_bytes() for path in adapter.write({"unet": network}, place, "x", metadata, "")]
    assert len(set(found)) == 2
    with safe_open(tmp_path / "0" / adapter.NAME, "pt") as file:
        assert file.metadata()["key 3"] == "ü"


@pytest.mark.parametrize(
    ("field", "value"), [("rank", 0), ("lr", float("nan")), ("validation", 0.9), ("optimizer", "sgd")]
)
def test_a_setting_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"^{field}="):
        TuneConfig(**{field: value})  # type: ignore[arg-type]
