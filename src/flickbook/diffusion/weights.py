"""Weights from disk and to it: safetensors only, checked key by key.

No pickle is ever read: a checkpoint in another format is refused by its name before it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flickbook.errors import WeightsError
from flickbook.files import replace_whole

_FETCH = "fetch the model again"

Module = TypeVar("Module", bound=nn.Module)
#: Turns the keys of a file into the keys of the network; a key that is left out is not loaded.
Rename = Callable[[Iterable[str]], Mapping[str, str]]


def same_keys(keys: Iterable[str]) -> dict[str, str]:
    """The keys of the file are those of the network."""
    return {key: key for key in keys}


def _some(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def load_weights(
    build: Callable[[], Module],
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    rename: Rename = same_keys,
) -> Module:
    """`build()` with the weights of a safetensors file, in `dtype` on `device`.

    The network is built without memory (on the meta device) and takes the file's tensors one by one, so the peak is
    one copy of the weights. Raises WeightsError, naming up to three keys, if a key is missing, unexpected, or of
    another shape, and if the file is not safetensors or is damaged.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(path, "not a .safetensors file, and no other format is loaded", "convert it to safetensors")
    if not path.is_file():
        raise WeightsError(path, "no such file", _FETCH)
    with torch.device("meta"):
        module = build()
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            sources = {ours: theirs for theirs, ours in rename(file.keys()).items()}
            shapes = {key: tuple(file.get_slice(source).get_shape()) for key, source in sources.items()}
            _check(path, wanted, shapes)
            state = {key: _cast(file.get_tensor(source), dtype) for key, source in sources.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(path, f"damaged ({error})", _FETCH) from error
    module.load_state_dict(state, strict=True, assign=True)
    return module


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _check(path: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file whose keys or shapes are not the network's, before any of its data is read."""
    missing, unexpected = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    both = wanted.keys() & found.keys()
    other = [f"{key} {list(found[key])} not {list(wanted[key])}" for key in both if found[key] != wanted[key]]
    reasons = [(missing, "misses"), (unexpected, "has unexpected"), (other, "has another shape in")]
    faults = [f"{verb} {_some(keys)}" for keys, verb in reasons if keys]
    if faults:
        raise WeightsError(path, "; ".join(faults), "use the config.json that belongs to these weights")


def save_weights(module: nn.Module, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the state dict as safetensors, floats in `dtype`; the file appears whole or not at all."""
    path = Path(path)
    state = {key: _cast(value.detach(), dtype).cpu().contiguous() for key, value in module.state_dict().items()}
    # Releases of transformers before 5 refuse a file that does not name its framework.
    replace_whole(path, lambda temporary: save_file(state, temporary, metadata={"format": "pt"}))
