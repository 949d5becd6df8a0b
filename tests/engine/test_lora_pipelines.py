"""LoRAs in diffusers' pipelines, tiny ones of the real classes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests import tiny
from tests.loras import Adapter, adapter, changed, deltas, worst, write
from torch import Tensor

from flickbook.engine.lora.apply import load_into
from flickbook.engine.pipelines.modular.pipeline import wrapped
from flickbook.errors import WeightsError


def denoiser(pipe: Any) -> tuple[str, Any]:
    part = next(part for part in ("unet", "transformer") if part in pipe.components)
    return part, pipe.components[part]


def attends(name: str) -> bool:
    return any(word in name for word in ("attn", "attention", "to_q", "to_k"))


def check(network: Any, expected: dict[str, Tensor]) -> None:
    """Every one of these layers answers as if the tensors stood in its weight."""
    for name, delta in expected.items():
        layer = network.get_submodule(name)
        inside = (2, layer.in_features) if delta.ndim == 2 else (2, layer.get_base_layer().in_channels, 5, 5)
        x = torch.randn(*inside, *([5] if delta.ndim == 5 else []))
        with torch.no_grad():
            other = copy.deepcopy(layer.get_base_layer())
            other.weight.data += delta
            assert worst(layer(x), other(x)) < 1e-5, name


def loaded(build: Callable[[], Any], tmp_path: Path) -> None:
    """Three LoRAs at once, one of each style, for all attention of a pipeline's network."""
    torch.manual_seed(0)
    pipe = build()
    part, network = denoiser(pipe)
    made = [adapter(network, attends) for _ in range(3)]
    assert made[0]
    styles = ("diffusers", "peft", "kohya")
    paths = [write(tmp_path / f"{s}.safetensors", m, s, part) for m, s in zip(made, styles, strict=True)]
    matches = load_into(pipe, list(zip(paths, (0.5, 1.0, -0.25), strict=True)))
    assert [(match.style, match.unmatched) for match in matches] == [(style, ()) for style in styles]
    sums = zip(*(deltas(m, w).items() for m, w in zip(made, (0.5, 1.0, -0.5), strict=True)), strict=True)
    expected = {first[0]: sum((delta for _, delta in each), torch.zeros(())) for each in sums for first in each[:1]}
    check(network, expected)


@pytest.mark.parametrize("build", [tiny.sd15, tiny.wan, tiny.hy15, tiny.latte], ids=lambda build: str(build.__name__))
def test_loras_change_the_layers_of_common_pipelines(build: Callable[[], Any], tmp_path: Path) -> None:
    loaded(build, tmp_path)


def h3() -> Any:
    return wrapped(tiny.h3().pipe)


def ltx25() -> Any:
    return wrapped(tiny.ltx25())


@pytest.mark.slow
@pytest.mark.parametrize("build", [*tiny.ALL, h3, ltx25], ids=lambda build: str(build.__name__))
def test_loras_change_the_layers_of_every_pipeline(build: Callable[[], Any], tmp_path: Path) -> None:
    loaded(build, tmp_path)


def both(path: Path, made: dict[str, tuple[Tensor, Tensor]], down: str = "lora_down", up: str = "lora_up") -> Path:
    """A file of pairs under whatever names."""
    ends = {f"{down}.weight": 0, f"{up}.weight": 1}
    save_file({f"{name}.{end}": pair[which] for name, pair in made.items() for end, which in ends.items()}, path)
    return path


def pair(out: int, inside: int, rank: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(rank, inside) * 0.2, torch.randn(out, rank) * 0.2


def product(made: tuple[Tensor, Tensor]) -> Tensor:
    return made[1] @ made[0]


def test_loras_change_both_text_encoders_of_sdxl(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipe = tiny.sdxl()
    state, expected = {}, []
    for part, prefix in (("text_encoder", "lora_te1"), ("text_encoder_2", "lora_te2")):
        network = getattr(pipe, part)
        made = adapter(network, lambda name: "layers" in name)
        for name, (down, up, _) in made.items():
            flat = f"{prefix}_text_model_{name.removeprefix('text_model.').replace('.', '_')}"
            state |= {
                f"{flat}.lora_down.weight": down,
                f"{flat}.lora_up.weight": up,
                f"{flat}.alpha": torch.tensor(1.0),
            }
        expected.append((network, {name: delta / made[name][0].shape[0] for name, delta in deltas(made).items()}))
    save_file(state, tmp_path / "words.safetensors")
    (match,) = load_into(pipe, [(tmp_path / "words.safetensors", 1.0)])
    assert (match.matched, match.renamed, match.unmatched) == (len(state), len(state), ())
    for network, name in expected:
        check(network, name)


def test_block_names_of_the_original_sdxl_code_are_converted(tmp_path: Path) -> None:
    """sd-scripts numbers them anew; the pipeline knows how, and what it drops is reported."""
    torch.manual_seed(0)
    pipe = tiny.sdxl()
    places = {
        "input_blocks_3_1": "down_blocks.1.attentions.0",
        "middle_block_1": "mid_block.attentions.0",
        "output_blocks_0_1": "up_blocks.0.attentions.0",
    }
    layer = "transformer_blocks.0.attn1.to_k"
    made = {theirs: pair(8, 8) for theirs in places}
    flat = layer.replace(".", "_")
    path = both(tmp_path / "ink.safetensors", {f"lora_unet_{name}_{flat}": each for name, each in made.items()})
    (match,) = load_into(pipe, [(path, 1.0)])
    assert (match.matched, match.renamed, match.unmatched) == (6, 6, ())
    check(pipe.unet, {f"{places[name]}.{layer}": product(each) for name, each in made.items()})


def test_joined_matrices_of_the_original_flux_code_are_split(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipe = tiny.flux()
    made, strange = pair(96, 32), pair(5, 7)
    names = {"lora_unet_double_blocks_0_img_attn_qkv": made, "lora_te1_text_model_nowhere": strange}
    (match,) = load_into(pipe, [(both(tmp_path / "ink.safetensors", names), 1.0)])
    assert match.matched == match.renamed == 2
    assert [key.partition(".")[0] for key in match.unmatched] == ["lora_te1_text_model_nowhere"] * 2
    parts = zip(("to_q", "to_k", "to_v"), product(made).chunk(3), strict=True)
    check(pipe.transformer, {f"transformer_blocks.0.attn.{name}": delta for name, delta in parts})


@pytest.mark.parametrize("alpha", [None, 4.0])
def test_names_of_the_original_wan_code_are_converted(tmp_path: Path, alpha: float | None) -> None:
    torch.manual_seed(0)
    pipe = tiny.wan()
    made = {"blocks.0.self_attn.q": pair(24, 24), "blocks.1.ffn.0": pair(32, 24), "text_embedding.0": pair(24, 32)}
    path = both(tmp_path / "ink.safetensors", {f"diffusion_model.{name}": each for name, each in made.items()})
    if alpha is not None:
        from safetensors.torch import load_file

        state = load_file(path)
        save_file({**state, "diffusion_model.blocks.0.self_attn.q.alpha": torch.tensor(alpha)}, path)
    (match,) = load_into(pipe, [(path, 1.0)])
    assert match.matched == match.renamed == (6 if alpha is None else 7) and match.unmatched == ()
    ours = ("blocks.0.attn1.to_q", "blocks.1.ffn.net.0.proj", "condition_embedder.text_embedder.linear_1")
    expected = dict(zip(ours, map(product, made.values()), strict=True))
    expected[ours[0]] *= 1.0 if alpha is None else alpha / 2
    check(pipe.transformer, expected)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("ink", {"transformer", "transformer_2"}),
        ("ink-HighNoise", {"transformer"}),
        ("ink_low_noise", {"transformer_2"}),
    ],
)
def test_loras_reach_the_denoisers_named_by_their_file(tmp_path: Path, name: str, taken: set[str]) -> None:
    torch.manual_seed(0)
    pipe = tiny.wan22_a14b()
    made = adapter(pipe.transformer, lambda name: "to_q" in name)
    load_into(pipe, [(write(tmp_path / f"{name}.safetensors", made, "kohya"), 0.5)])
    for part in ("transformer", "transformer_2"):
        network = getattr(pipe, part)
        layer = network.get_submodule(next(iter(made)))
        assert hasattr(layer, "base_layer") == (part in taken)
        if part in taken:
            check(network, deltas(made))


def test_a_loaded_lora_equals_merged_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipe = tiny.sd15()
    made = adapter(pipe.unet)
    path = write(tmp_path / "ink.safetensors", made, "kohya")
    merged = copy.copy(pipe)
    merged.unet = changed(pipe.unet, deltas(made, 0.5))
    pipe.set_progress_bar_config(disable=True)

    def picture(pipe: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        how = {"num_inference_steps": 1, "height": 16, "width": 16, "output_type": "pt", "generator": generator}
        return pipe("a cat", **how).images  # type: ignore[no-any-return]

    plain = picture(pipe)
    load_into(pipe, [(path, 0.25)])
    assert worst(picture(pipe), picture(merged)) < 1e-4 < worst(plain, picture(merged))


@pytest.mark.parametrize("build", [tiny.sd15, tiny.svd, tiny.wan22_a14b], ids=lambda build: str(build.__name__))
def test_a_refused_lora_leaves_the_network_unchanged(build: Callable[[], Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipe = build()
    part, network = denoiser(pipe)
    keys = list(network.state_dict())
    made = adapter(network, attends)
    good = write(tmp_path / "good.safetensors", made, "peft")
    strange: Adapter = {"blocks.9.nowhere": (torch.ones(2, 4), torch.ones(4, 2), 1.0)}
    for number, bad in enumerate((strange, {next(iter(made)): (torch.ones(2, 999), torch.ones(4, 2), 1.0)})):
        path = write(tmp_path / f"bad{number}.safetensors", bad, "kohya")
        with pytest.raises(WeightsError, match="made for another model"):
            load_into(pipe, [(good, 1.0), (path, 1.0)])
        assert list(network.state_dict()) == keys and not hasattr(network, "peft_config")


@pytest.mark.parametrize("build", [tiny.sd15, tiny.svd], ids=lambda build: str(build.__name__))
def test_a_library_error_leaves_the_network_unchanged(
    build: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    pipe = build()
    keys, made = list(pipe.unet.state_dict()), adapter(pipe.unet, lambda name: name.endswith("attn1.to_q"))

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("not\ntoday")

    monkeypatch.setattr("peft.set_peft_model_state_dict", refuse)
    with pytest.raises(WeightsError, match=r"cannot be added to \w+Pipeline \(not today\)"):
        load_into(pipe, [(write(tmp_path / "good.safetensors", made, "peft"), 1.0)])
    assert list(pipe.unet.state_dict()) == keys


def test_loading_a_lora_keeps_the_weights_of_earlier_ones(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipe = tiny.sd15()
    first, second = (adapter(pipe.unet, lambda name: "attn2.to_k" in name) for _ in range(2))
    load_into(pipe, [(write(tmp_path / "a.safetensors", first, "diffusers"), 0.5)])
    load_into(pipe, [(write(tmp_path / "b.safetensors", second, "diffusers"), -2.0)])
    added = deltas(second, -2.0)
    check(pipe.unet, {name: delta + added[name] for name, delta in deltas(first, 0.5).items()})
    assert len(pipe.get_active_adapters()) == 2


@pytest.mark.parametrize("weights", [(0.5,), (0.5, -1.0)], ids=["one", "two"])
def test_a_refused_lora_leaves_the_active_ones_active_with_their_weights(
    weights: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two, the library itself would reactivate only the first one."""
    torch.manual_seed(0)
    pipe = tiny.sd15()
    *before, refused = (adapter(pipe.unet, lambda name: "attn2.to_k" in name) for _ in range(len(weights) + 1))
    paths = [write(tmp_path / f"{number}.safetensors", each, "diffusers") for number, each in enumerate(before)]
    load_into(pipe, list(zip(paths, weights, strict=True)))

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("not today")

    with monkeypatch.context() as patch, pytest.raises(WeightsError, match="not today"):
        patch.setattr("peft.set_peft_model_state_dict", refuse)
        load_into(pipe, [(write(tmp_path / "refused.safetensors", refused, "diffusers"), -2.0)])
    assert len(pipe.get_active_adapters()) == len(weights)
    parts = [deltas(made, weight) for made, weight in zip(before, weights, strict=True)]
    check(pipe.unet, {name: sum((part[name] for part in parts), torch.zeros(())) for name in parts[0]})


def test_no_loras_change_nothing() -> None:
    assert load_into(tiny.sd15(), []) == []
