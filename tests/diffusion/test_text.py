"""The text encoder against transformers' CLIPTextModel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from flickbook.diffusion.text import TextConfig, TextEncoder, text_keys
from flickbook.diffusion.weights import load_weights, save_weights
from flickbook.errors import WeightsError

#: The library's types do not fit its values.
LibraryModel: Any = CLIPTextModel
SHIPPED: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 48,
    "hidden_act": "gelu",
    "bos_token_id": 1022,
    "eos_token_id": 1023,
    "pad_token_id": 1023,
}
CLIP_H = SHIPPED | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 1,
    "num_attention_heads": 16,
    "max_position_embeddings": 77,
}


def shaken(values: dict[str, Any], seed: int = 0) -> Any:
    """The library's network with every weight moved: norms and biases start all alike, and would hide a swap."""
    torch.manual_seed(seed)
    model = LibraryModel(CLIPTextConfig(**values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) if parameter.ndim == 1 else 0.0)
    return model


@pytest.mark.parametrize(
    "values", [SHIPPED, SHIPPED | {"hidden_act": "quick_gelu"}, CLIP_H], ids=["shipped", "quick_gelu", "CLIP-H layer"]
)
def test_encodes_like_the_library(values: dict[str, Any], tmp_path: Path) -> None:
    theirs = shaken(values)
    theirs.save_pretrained(tmp_path)
    config = TextConfig.from_dict(json.loads((tmp_path / "config.json").read_text()))
    ours = load_weights(lambda: TextEncoder(config), tmp_path / "model.safetensors", rename=text_keys)
    for length in (values["max_position_embeddings"], 5):
        ids = torch.randint(0, 1000, (3, length))
        with torch.no_grad():
            found, expected = ours(ids), theirs(ids).last_hidden_state
        assert found.shape == (3, length, values["hidden_size"]) and found.isfinite().all()
        assert (found - expected).abs().max() / expected.abs().max() <= 1e-5


def test_a_token_does_not_see_those_after_it() -> None:
    torch.manual_seed(0)
    model = TextEncoder(TextConfig.from_dict(SHIPPED)).eval()
    ids = torch.randint(0, 1000, (1, 10))
    other = ids.clone()
    other[0, 6:] += 1
    with torch.no_grad():
        first, second = model(ids), model(other)
    assert torch.allclose(first[:, :6], second[:, :6], atol=1e-6)
    assert not torch.allclose(first[:, 6:], second[:, 6:], atol=1e-3)


def test_the_library_loads_our_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    ours = TextEncoder(TextConfig.from_dict(SHIPPED)).eval()
    save_weights(ours, tmp_path / "model.safetensors", torch.float32)
    (tmp_path / "config.json").write_text(json.dumps(ours.config.to_dict()))
    theirs, report = LibraryModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    ids = torch.randint(0, 1000, (2, 48))
    with torch.no_grad():
        found, expected = ours(ids), theirs.eval()(ids).last_hidden_state
    assert (found - expected).abs().max() / expected.abs().max() <= 1e-5


@pytest.mark.parametrize("prefix", ["text_model.", ""])
@pytest.mark.parametrize("positions", [True, False])
def test_published_layouts_load(prefix: str, positions: bool, tmp_path: Path) -> None:
    theirs = shaken(SHIPPED)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {prefix + key.removeprefix("text_model."): value for key, value in load_file(path).items()}
    if positions:
        state[f"{prefix}embeddings.position_ids"] = torch.arange(48)[None]
    save_file(state, path)
    ours = load_weights(lambda: TextEncoder(TextConfig.from_dict(SHIPPED)), path, rename=text_keys)
    found = ours.state_dict()
    assert len(found) == len(theirs.state_dict())
    assert all(torch.equal(found[f"text_model.{key}"], value) for key, value in theirs.state_dict().items())


def test_starts_with_the_librarys_spread() -> None:
    torch.manual_seed(0)
    ours = TextEncoder(TextConfig.from_dict(SHIPPED)).state_dict()
    for key, value in LibraryModel(CLIPTextConfig(**SHIPPED)).state_dict().items():
        spread = 0.0 if value.ndim == 1 else float(value.std())
        assert float(ours[f"text_model.{key}"].std()) == pytest.approx(spread, rel=0.05), key


@pytest.mark.parametrize(
    ("change", "named"),
    [({"hidden_act": "relu"}, "relu"), ({"num_attention_heads": 3}, "3 heads"), ({"model_type": "t5"}, "t5")],
)
def test_refuses_another_network(change: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=named):
        TextConfig.from_dict(SHIPPED | change)
