"""Transformers in one file with their publishers' names: the film is that of the same weights in diffusers' layout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import save_file
from tests.contract.cases import CASES
from tests.contract.matrix import request_of
from tests.tiny.hunyuan import hy15

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.engine.films import films, forget, run_options_of
from flickbook.errors import WeightsError
from flickbook.resolution import resolve

CASE = next(case for case in CASES if case.build == "hy15")
#: Names in diffusers -> names in HunyuanVideo 1.5's published code.
NAMES = (
    (r"^time_embed\.timestep_embedder\.linear_1", "time_in.mlp.0"),
    (r"^time_embed\.timestep_embedder\.linear_2", "time_in.mlp.2"),
    (r"^context_embedder\.time_text_embed\.timestep_embedder\.linear_1", "txt_in.t_embedder.mlp.0"),
    (r"^context_embedder\.time_text_embed\.timestep_embedder\.linear_2", "txt_in.t_embedder.mlp.2"),
    (r"^context_embedder\.time_text_embed\.text_embedder", "txt_in.c_embedder"),
    (r"^context_embedder\.proj_in", "txt_in.input_embedder"),
    (r"^context_embedder\.token_refiner\.refiner_blocks", "txt_in.individual_token_refiner.blocks"),
    (r"(blocks\.\d+)\.attn\.to_out\.0\.(\w+)$(?<!img)", r"\1.self_attn_proj.\2"),
    (r"^context_embedder_2\.norm", "byt5_in.layernorm"),
    (r"^context_embedder_2\.linear_", "byt5_in.fc"),
    (r"^image_embedder\.norm_in", "vision_in.proj.0"),
    (r"^image_embedder\.linear_1", "vision_in.proj.1"),
    (r"^image_embedder\.linear_2", "vision_in.proj.3"),
    (r"^image_embedder\.norm_out", "vision_in.proj.4"),
    (r"^x_embedder", "img_in"),
    (r"^cond_type_embed", "cond_type_embedding"),
    (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
    (r"^proj_out", "final_layer.linear"),
)
BLOCK = (
    ("norm1_context.linear", "txt_mod.linear"),
    ("norm1.linear", "img_mod.linear"),
    ("attn.norm_added_q", "txt_attn_q_norm"),
    ("attn.norm_added_k", "txt_attn_k_norm"),
    ("attn.norm_q", "img_attn_q_norm"),
    ("attn.norm_k", "img_attn_k_norm"),
    *((f"attn.to_{each}.", f"img_attn_{each}.") for each in "qkv"),
    *((f"attn.add_{each}_proj", f"txt_attn_{each}") for each in "qkv"),
    ("attn.to_add_out", "txt_attn_proj"),
    ("attn.to_out.0", "img_attn_proj"),
    ("ff_context.net.0.proj", "txt_mlp.fc1"),
    ("ff_context.net.2", "txt_mlp.fc2"),
    ("ff.net.0.proj", "img_mlp.fc1"),
    ("ff.net.2", "img_mlp.fc2"),
)
REFINER = (
    ("attn.to_out.0", "self_attn_proj"),
    ("ff.net.0.proj", "mlp.fc1"),
    ("ff.net.2", "mlp.fc2"),
    ("norm_out.linear", "adaLN_modulation.1"),
)


def published(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a transformer as its publisher names and arranges them."""
    found = {name: part.clone() for name, part in network.state_dict().items()}
    for name in [each for each in found if re.search(r"refiner_blocks\.\d+\.attn\.to_q\.", each)]:
        three = [found.pop(name.replace("to_q", f"to_{letter}")) for letter in "qkv"]
        found[name.replace("attn.to_q", "self_attn_qkv")] = torch.cat(three)
    for name in [each for each in found if each.startswith("norm_out.")]:
        scale, shift = found[name].chunk(2)
        found[name] = torch.cat([shift, scale])
    return {named(name): part.contiguous() for name, part in found.items()}


def named(name: str) -> str:
    if name.startswith("transformer_blocks."):
        name, pairs = name.replace("transformer_blocks", "double_blocks"), BLOCK
    else:
        pairs = REFINER if "refiner_blocks" in name else ()
    for ours, theirs in pairs:
        if f".{ours}" in name:
            name = name.replace(ours, theirs)
            break
    for ours, theirs in NAMES:
        name = re.sub(ours, theirs, name)
    return name


@pytest.fixture
def base(tmp_path: Path, data: Path) -> Model:
    """The model whose transformer is replaced."""
    CASE.save(tmp_path / "base")
    model = CASE.model(tmp_path / "base")
    catalogue.add(model)
    return model


def film(model: Model, tmp_path: Path) -> np.ndarray:
    asked = request_of(CASE, model.name, "text", tmp_path)
    plan = resolve(asked)
    forget()
    return next(films([plan], run_options_of(plan, asked))).frames


def replaced(base: Model, tmp_path: Path, weights: dict[str, torch.Tensor]) -> Model:
    """A model with the base's other parts and these weights in a file."""
    place = tmp_path / "few-steps"
    place.mkdir()
    save_file(weights, place / "few.safetensors")
    changes = {"name": "few", "base": base.name, "directory": str(place), "pipeline": "HunyuanVideo15Pipeline"}
    model = base.model_copy(update={**changes, "files": ("few.safetensors",), "transformer": "few.safetensors"})
    catalogue.add(model)
    return model


@pytest.mark.slow
def test_the_film_is_that_of_the_same_weights_in_the_layout_of_diffusers(
    base: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a weight begins in its file decides the last bits of a product on some processors. Copies begin alike.
    read = safetensors.torch.load_file
    copied = lambda *args, **options: {name: part.clone() for name, part in read(*args, **options).items()}  # noqa: E731
    monkeypatch.setattr(safetensors.torch, "load_file", copied)
    torch.manual_seed(5)
    other = hy15().transformer
    shutil.copytree(base.path(), tmp_path / "whole")
    other.save_pretrained(tmp_path / "whole" / "transformer")
    whole = CASE.model(tmp_path / "whole").model_copy(update={"name": "whole"})
    catalogue.add(whole)
    made = film(replaced(base, tmp_path, published(other)), tmp_path)
    assert np.array_equal(made, film(whole, tmp_path))
    assert not np.array_equal(made, film(base, tmp_path))


def test_a_file_with_other_names_or_shapes_is_refused(base: Model, tmp_path: Path) -> None:
    weights = published(hy15().transformer)
    model = replaced(base, tmp_path, {**weights, "double_blocks.0.pickle": torch.zeros(1)})
    with pytest.raises(WeightsError, match="contains the unknown tensor double_blocks.0.pickle"):
        film(model, tmp_path)
    for wrong in (
        {name: part for name, part in weights.items() if name != "img_in.proj.bias"},
        {**weights, "img_in.proj.bias": torch.zeros(3)},
    ):
        save_file(wrong, tmp_path / "few-steps" / "few.safetensors")
        with pytest.raises(WeightsError, match="cannot be loaded"):
            film(model, tmp_path)
