"""A transformer that is published as one file, with the names of its publisher's code instead of those of diffusers.

The names of HunyuanVideo 1.5 are those of its published code (Wu et al. 2025, arXiv 2511.18870); LightX2V's few-step
weights have them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from flickbook.engine.pipelines.directory import checked, index_of
from flickbook.errors import WeightsError
from flickbook.hub.manifest import read_config

_REFINER: Final = "context_embedder.token_refiner.refiner_blocks"
_TEXT: Final = "context_embedder.time_text_embed"
#: Names in the publisher's code -> names in diffusers. The first expression that matches the beginning is used.
_HUNYUAN: Final = tuple(
    (re.compile(rf"{there}(?=\.(weight|bias)$)"), here)
    for there, here in {
        r"time_in\.mlp\.0": "time_embed.timestep_embedder.linear_1",
        r"time_in\.mlp\.2": "time_embed.timestep_embedder.linear_2",
        r"txt_in\.t_embedder\.mlp\.0": rf"{_TEXT}.timestep_embedder.linear_1",
        r"txt_in\.t_embedder\.mlp\.2": rf"{_TEXT}.timestep_embedder.linear_2",
        r"txt_in\.c_embedder\.(linear_[12])": rf"{_TEXT}.text_embedder.\1",
        r"txt_in\.input_embedder": "context_embedder.proj_in",
        r"txt_in\.individual_token_refiner\.blocks\.(\d+)\.(norm[12])": rf"{_REFINER}.\1.\2",
        r"txt_in\.individual_token_refiner\.blocks\.(\d+)\.self_attn_qkv": rf"{_REFINER}.\1.attn.to_qkv",
        r"txt_in\.individual_token_refiner\.blocks\.(\d+)\.self_attn_proj": rf"{_REFINER}.\1.attn.to_out.0",
        r"txt_in\.individual_token_refiner\.blocks\.(\d+)\.mlp\.fc1": rf"{_REFINER}.\1.ff.net.0.proj",
        r"txt_in\.individual_token_refiner\.blocks\.(\d+)\.mlp\.fc2": rf"{_REFINER}.\1.ff.net.2",
        r"txt_in\.individual_token_refiner\.blocks\.(\d+)\.adaLN_modulation\.1": rf"{_REFINER}.\1.norm_out.linear",
        r"byt5_in\.layernorm": "context_embedder_2.norm",
        r"byt5_in\.fc([123])": r"context_embedder_2.linear_\1",
        r"vision_in\.proj\.0": "image_embedder.norm_in",
        r"vision_in\.proj\.1": "image_embedder.linear_1",
        r"vision_in\.proj\.3": "image_embedder.linear_2",
        r"vision_in\.proj\.4": "image_embedder.norm_out",
        r"img_in\.proj": "x_embedder.proj",
        r"cond_type_embedding": "cond_type_embed",
        r"double_blocks\.(\d+)\.img_mod\.linear": r"transformer_blocks.\1.norm1.linear",
        r"double_blocks\.(\d+)\.txt_mod\.linear": r"transformer_blocks.\1.norm1_context.linear",
        r"double_blocks\.(\d+)\.img_attn_([qkv])": r"transformer_blocks.\1.attn.to_\2",
        r"double_blocks\.(\d+)\.txt_attn_([qkv])": r"transformer_blocks.\1.attn.add_\2_proj",
        r"double_blocks\.(\d+)\.img_attn_([qk])_norm": r"transformer_blocks.\1.attn.norm_\2",
        r"double_blocks\.(\d+)\.txt_attn_([qk])_norm": r"transformer_blocks.\1.attn.norm_added_\2",
        r"double_blocks\.(\d+)\.img_attn_proj": r"transformer_blocks.\1.attn.to_out.0",
        r"double_blocks\.(\d+)\.txt_attn_proj": r"transformer_blocks.\1.attn.to_add_out",
        r"double_blocks\.(\d+)\.img_mlp\.fc1": r"transformer_blocks.\1.ff.net.0.proj",
        r"double_blocks\.(\d+)\.img_mlp\.fc2": r"transformer_blocks.\1.ff.net.2",
        r"double_blocks\.(\d+)\.txt_mlp\.fc1": r"transformer_blocks.\1.ff_context.net.0.proj",
        r"double_blocks\.(\d+)\.txt_mlp\.fc2": r"transformer_blocks.\1.ff_context.net.2",
        r"final_layer\.adaLN_modulation\.1": "norm_out.linear",
        r"final_layer\.linear": "proj_out",
    }.items()
)
#: The classes that are loaded from such a file, and their names.
_NAMES: Final = {"HunyuanVideo15Transformer3DModel": _HUNYUAN}


def transformer(path: Path, base: Path, how: Mapping[str, Any]) -> Any:
    """The transformer in the file at `path`, with the configuration of the one in the pipeline at `base`.

    `how` has the `torch_dtype`. Raises WeightsError for a class that is not known here, for names and shapes that are
    not those of its publisher, and for a damaged file.
    """
    import diffusers
    from accelerate import init_empty_weights
    from safetensors.torch import load_file

    kind = str((index_of(base).get("transformer") or ["", ""])[1])
    if kind not in _NAMES:
        raise WeightsError(path, f"is a transformer of the class {kind}", f"known are {', '.join(_NAMES)}")
    config = read_config(base / "transformer" / "config.json")
    with init_empty_weights():
        network = getattr(diffusers, kind).from_config(config)
    stored = checked(lambda: load_file(str(path)), path)
    renamed = {name: part.to(how["torch_dtype"]) for name, part in _renamed(stored, _NAMES[kind], path)}
    checked(lambda: network.load_state_dict(renamed, assign=True), path)
    return network.eval()


def _renamed(stored: dict[str, torch.Tensor], names: Any, path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file by their names in diffusers. Empties `stored`. Raises WeightsError for an unknown name."""
    for there in list(stored):
        tensor = stored.pop(there)
        found = next((pattern.sub(here, there) for pattern, here in names if pattern.match(there)), None)
        if found is None:
            raise WeightsError(path, f"contains the unknown tensor {there[:80]}", "pull the model again")
        if ".attn.to_qkv." in found:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                yield found.replace("to_qkv", f"to_{letter}"), part
        elif found.startswith("norm_out."):
            shift, scale = tensor.chunk(2)  # diffusers has the scale first
            yield found, torch.cat([scale, shift])
        else:
            yield found, tensor
