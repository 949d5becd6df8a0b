"""LoRAs in our own 3D U-Net, beside diffusers' network with the same products in its weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import tiny
from tests.loras import Adapter, adapter, changed, deltas, worst, write
from torch import Tensor, nn

from flickbook.catalogue import find
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig
from flickbook.engine.lora.apply import Match, inject
from flickbook.errors import WeightsError

STYLES = ("diffusers", "old diffusers", "peft", "kohya")


@pytest.fixture(scope="module")
def stock() -> Any:
    """diffusers' own 3D U-Net, tiny, with nothing left at zero."""
    torch.manual_seed(0)
    network = tiny.ms().unet.eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return network


@pytest.fixture(scope="module")
def builtin() -> TextToVideo:
    return TextToVideo.load(find("builtin").path())


@pytest.fixture
def networks(stock: Any, builtin: TextToVideo) -> TextToVideo:
    """The built-in model's networks around our U-Net with the weights of the stock one."""
    unet = UNet3D(UNet3DConfig.from_dict(dict(stock.config))).eval()
    unet.load_state_dict(stock.state_dict())
    return replace(
        builtin,
        unet=unet,
        reader=lambda: copy.deepcopy(builtin.text_encoder),
        autoencoder=copy.deepcopy(builtin.autoencoder),
    )


def states(networks: TextToVideo) -> dict[str, Tensor]:
    parts = (networks.unet, networks.text_encoder)
    return {f"{i}.{key}": value.clone() for i, part in enumerate(parts) for key, value in part.state_dict().items()}


def same(networks: TextToVideo, before: dict[str, Tensor]) -> bool:
    after = states(networks)
    return after.keys() == before.keys() and all(torch.equal(after[key], value) for key, value in before.items())


@torch.no_grad()
def answer(network: Any, context: Tensor) -> Tensor:
    x = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found: Any = network(x, torch.tensor([7, 7]), context)
    return found if isinstance(found, Tensor) else found.sample  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_a_merged_lora_equals_diffusers_with_merged_weights(
    stock: Any, networks: TextToVideo, tmp_path: Path, style: str
) -> None:
    """Every linear layer and every convolution, of several ranks; before and after packing."""
    torch.manual_seed(1)
    made, context = adapter(stock), torch.randn(2, 7, 4)
    path = write(tmp_path / "style.safetensors", made, style)
    (match,) = inject(networks, [(path, 0.5)])
    expected = answer(changed(stock, deltas(made, 1.0 if style == "kohya" else 0.5)), context)
    assert worst(answer(networks.unet, context), expected) < 1e-5
    networks.pack()
    assert worst(answer(networks.unet, context), expected) < 1e-5
    assert worst(expected, answer(stock, context)) > 0.1
    tensors = len(made) * (3 if style == "kohya" else 2)
    assert (match.matched, match.renamed) == (tensors, 0 if style == "diffusers" else tensors)
    assert (match.style, match.unmatched, match.rank) == (style.removeprefix("old "), (), 4)


def test_several_loras_add_up_and_keep_the_layers(stock: Any, networks: TextToVideo, tmp_path: Path) -> None:
    torch.manual_seed(1)
    made = [adapter(stock, lambda name: "attn" in name), adapter(stock, lambda name: "to_q" in name or "conv" in name)]
    paths = [write(tmp_path / f"{i}.safetensors", each, "peft") for i, each in enumerate(made)]
    keys = list(networks.unet.state_dict())
    inject(networks, [(paths[0], 0.5), (paths[1], -1.0)])
    assert list(networks.unet.state_dict()) == keys
    expected = changed(changed(stock, deltas(made[0], 0.5)), deltas(made[1], -1.0)).state_dict()
    assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in networks.unet.state_dict().items())


@pytest.mark.slow
def test_a_lora_of_weight_0_changes_nothing(stock: Any, networks: TextToVideo, tmp_path: Path) -> None:
    before = states(networks)
    inject(networks, [(write(tmp_path / "a.safetensors", adapter(stock), "peft"), 0.0)])
    assert same(networks, before)
    assert inject(networks, []) == [] and same(networks, before)


def test_a_lora_changes_the_text_encoder(networks: TextToVideo, tmp_path: Path) -> None:
    torch.manual_seed(1)
    made, unchanged = adapter(networks.text_encoder), networks.unet.state_dict()
    path = write(tmp_path / "words.safetensors", made, "kohya", "text_encoder")
    encoder = changed(networks.text_encoder, deltas(made, 2.0))
    other = replace(networks, reader=lambda: encoder)
    expected = other.embed(["a red circle"])
    (match,) = inject(networks, [(path, 1.0)])
    assert match.matched == 3 * len(made)
    assert worst(networks.embed(["a red circle"]), expected) < 1e-5
    assert all(torch.equal(value, unchanged[key]) for key, value in networks.unet.state_dict().items())


def test_a_linear_layer_stored_as_a_1x1_convolution_is_applied(
    stock: Any, networks: TextToVideo, tmp_path: Path
) -> None:
    """Stable Diffusion 1 projects with 1x1 convolutions where this network has linear layers."""
    made = adapter(stock, lambda name: name.endswith("proj_in"))
    wide: Adapter = {name: (down[..., None, None], up[..., None, None], s) for name, (down, up, s) in made.items()}
    inject(networks, [(write(tmp_path / "a.safetensors", wide, "peft"), 1.0)])
    expected = changed(stock, deltas(made)).state_dict()
    assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in networks.unet.state_dict().items())


def test_the_report_lists_unmatched_keys(stock: Any, networks: TextToVideo, tmp_path: Path) -> None:
    made = adapter(stock, lambda name: name.endswith("attn1.to_q"))
    strange: Adapter = {f"nowhere.{i}": (torch.ones(9, 2), torch.ones(2, 9), 1.0) for i in range(3)}
    path = write(tmp_path / "ink.safetensors", {**strange, **made}, "peft", ss_base_model_version="sd_v1")
    (match,) = inject(networks, [(path, 1.0)])
    assert match.matched == 2 * len(made) and len(match.unmatched) == 6 and match.rank == 4
    text = str(match)
    assert text.startswith(
        f"ink.safetensors: {match.matched} of {match.matched + 6} keys matched, {match.matched} of them"
    )
    assert "renamed (peft), rank 4, made for sd_v1; no matching layer for: base_model.model.nowhere.0.lora_A" in text
    assert text.endswith(" and 3 more") and "\n" not in text


def test_the_report_of_a_full_match_is_one_line() -> None:
    match = Match("ink.safetensors", "kohya", 12, 12, (), 8, "")
    assert str(match) == "ink.safetensors: 12 of 12 keys matched, 12 of them renamed (kohya), rank 8"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (
            {"input_blocks.3.1.to_q": (2, 4, 4)},
            "made for another model (sd_v1): none of its 1 layers exists in this model, such as",
        ),
        (
            {"down_blocks.0.attentions.0.proj_in": (2, 8, 320)},
            "attentions.0.proj_in is [8, 8] in this model and [8, 320] in the file",
        ),
        ({"conv_in": (2, 8, 4)}, "conv_in is [8, 4, 3, 3] in this model and [8, 4] in the file"),
    ],
)
def test_a_lora_of_another_model_changes_nothing(
    stock: Any, networks: TextToVideo, tmp_path: Path, other: dict[str, tuple[int, int, int]], reason: str
) -> None:
    good = write(tmp_path / "good.safetensors", adapter(stock), "peft")
    strange: Adapter = {
        name: (torch.ones(rank, inside), torch.ones(out, rank), 1.0) for name, (rank, out, inside) in other.items()
    }
    bad = write(tmp_path / "bad.safetensors", strange, "kohya", ss_base_model_version="sd_v1")
    before = states(networks)
    with pytest.raises(WeightsError) as caught:
        inject(networks, [(good, 1.0), (bad, 1.0)])
    assert reason in str(caught.value) and caught.value.path == str(bad)
    assert same(networks, before)


@pytest.mark.parametrize("length", [100, -1])
def test_a_damaged_file_changes_nothing(stock: Any, networks: TextToVideo, tmp_path: Path, length: int) -> None:
    good = write(tmp_path / "good.safetensors", adapter(stock), "peft")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(good.read_bytes()[:length])
    before = states(networks)
    with pytest.raises(WeightsError):
        inject(networks, [(good, 1.0), (bad, 1.0)])
    assert same(networks, before)


def test_a_larger_kernel_does_not_fit_a_linear_layer(stock: Any, networks: TextToVideo, tmp_path: Path) -> None:
    """A 1x1 convolution may stand for a linear layer; one of 3x3 with the same channels is another model's."""
    name = next(
        name for name, layer in stock.named_modules() if name.endswith("proj_in") and isinstance(layer, nn.Linear)
    )
    out, inside = stock.get_submodule(name).weight.shape
    made: Adapter = {name: (torch.ones(2, inside, 3, 3), torch.ones(out, 2, 1, 1), 1.0)}
    before = states(networks)
    with pytest.raises(WeightsError, match=r"is \[\d+, \d+\] in this model and \[\d+, \d+, 3, 3\] in the file"):
        inject(networks, [(write(tmp_path / "a.safetensors", made, "kohya"), 1.0)])
    assert same(networks, before)


def test_only_one_of_two_pairs_for_a_layer_is_applied(stock: Any, networks: TextToVideo, tmp_path: Path) -> None:
    name = next(iter(adapter(stock)))
    twice: dict[str, Tensor] = {}
    for style in ("peft", "kohya"):
        path = write(tmp_path / f"{style}.safetensors", {name: adapter(stock)[name]}, style)
        twice |= load_file(path)
    save_file(twice, tmp_path / "twice.safetensors")
    (match,) = inject(networks, [(tmp_path / "twice.safetensors", 1.0)])
    # Keys, not layers: a pair has two, and the one that found its place taken has its alpha as well.
    assert match.matched == 2 and len(match.unmatched) == 3


def test_nothing_of_peft_stays_in_our_networks(stock: Any, networks: TextToVideo, tmp_path: Path) -> None:
    inject(networks, [(write(tmp_path / "a.safetensors", adapter(stock), "peft"), 1.0)])
    assert not hasattr(networks.unet, "peft_config")
    assert not any("lora" in name for name, _ in networks.unet.named_modules())
