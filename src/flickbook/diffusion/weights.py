"""Loads and saves weights: safetensors only, with every key checked.

Pickle is never read: a checkpoint in another format is refused by its name, before it is opened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flickbook.errors import WeightsError
from flickbook.files import replace_whole

if TYPE_CHECKING:
    from flickbook.diffusion.difference import Difference

_FETCH = "download the model again"
#: Values that are read through one mapping of a file: pages stay in memory until the mapping is closed.
_MAPPED: Final = 16 << 20

Module = TypeVar("Module", bound=nn.Module)
#: Turns the keys of a file into the keys of the network; omitted keys are not loaded.
Rename = Callable[[Iterable[str]], Mapping[str, str]]


def same_keys(keys: Iterable[str]) -> dict[str, str]:
    """Use the file's keys as the network's keys."""
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
    difference: Difference | None = None,
) -> Module:
    """Build a network and load its weights from a safetensors file, in `dtype` on `device`.

    The network is built without memory (on the meta device), and the file is mapped into it. For another precision
    tensors are converted one by one and the file's pages released, so the peak is one copy of the weights. A
    `difference` is added before the conversion. Raises WeightsError, with up to three keys, if a key is missing,
    unexpected, or of another shape, and if a file is not safetensors or is damaged.
    """
    path = present(path)
    with torch.device("meta"), _Undrawn():
        module = build()
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            sources = {ours: theirs for theirs, ours in rename(file.keys()).items()}
            shapes = {key: tuple(file.get_slice(source).get_shape()) for key, source in sources.items()}
            check(path, expected, shapes)
        if difference is not None:
            difference.check(expected)
        added = difference.added if difference is not None else lambda _, weight: weight
        state: dict[str, Tensor] = {}
        for part in _parts(shapes):
            with safe_open(path, framework="pt", device=str(device)) as file:
                state |= {key: _cast(added(key, file.get_tensor(sources[key])), dtype) for key in part}
    except (SafetensorError, OSError) as error:
        raise WeightsError(path, f"damaged ({error})", _FETCH) from error
    module.load_state_dict(state, strict=True, assign=True)
    return module


def present(path: str | Path) -> Path:
    """`path`, if it is an existing safetensors file. Raises WeightsError."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(path, "not a .safetensors file, and no other format is loaded", "convert it to safetensors")
    if not path.is_file():
        raise WeightsError(path, "no such file", _FETCH)
    return path


class _Undrawn(TorchFunctionMode):
    """Skips random initialisation for weights that come from a file: it would take longer than reading the file."""

    _DRAW: Final = frozenset({nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_})

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `function`; for initialisers, return the tensor unchanged."""
        named = kwargs or {}
        return named["tensor"] if function in self._DRAW else function(*args, **named)


def _parts(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[list[str]]:
    """Split keys, in order, into parts of at most `_MAPPED` values or one tensor."""
    part, count = list[str](), 0
    for key, shape in shapes.items():
        if part and count + math.prod(shape) > _MAPPED:
            yield part
            part, count = [], 0
        part.append(key)
        count += math.prod(shape)
    yield part


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def check(path: Path, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Check a file's keys and shapes against the network's, before any data is read. Raises WeightsError."""
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    both = expected.keys() & found.keys()
    other = [f"{key} {list(found[key])} not {list(expected[key])}" for key in both if found[key] != expected[key]]
    reasons = [(missing, "misses"), (unexpected, "has unexpected"), (other, "has another shape in")]
    faults = [f"{verb} {_some(keys)}" for keys, verb in reasons if keys]
    if faults:
        raise WeightsError(path, "; ".join(faults), "use the config.json that belongs to these weights")


def save_weights(module: nn.Module, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the state dict as safetensors, floats in `dtype`, atomically."""
    path = Path(path)
    state = {key: _cast(value.detach(), dtype).cpu().contiguous() for key, value in module.state_dict().items()}
    # Releases of transformers before 5 refuse a file without the framework in its metadata.
    replace_whole(path, lambda temporary: save_file(state, temporary, metadata={"format": "pt"}))
