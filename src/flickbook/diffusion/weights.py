"""Loads and saves weights: safetensors only, with every key checked.

Pickle is never read: a checkpoint in another format is refused by its name, before it is opened.

A few-step student stays near its teacher, so its file has the difference from the teacher's weights, which needs fewer
bits than the weights. In each row of a tensor (its first dimension) the differences are whole numbers of steps, from -7
to 7: four bits instead of the 16 of float16. The file holds two tensors for each weight NAME: NAME, uint8 (half of the
weight's values, rounded up), with one value in the upper and the next one in the lower half of each byte, both plus 8;
and NAME.step, float32 (rows,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flickbook.errors import WeightsError
from flickbook.files import replace_whole

_FETCH = "download the model again"
#: Values that are read through one mapping of a file: pages stay in memory until the mapping is closed.
_MAPPED: Final = 16 << 20
#: A difference: the largest number of steps, what is added to one to store it, and the suffix of the steps' names.
_LEVELS: Final = 7
_ZERO: Final = 8
_STEP: Final = ".step"

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
            _check(path, expected, shapes)
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


def _check(path: Path, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
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


class Difference:
    """A difference from a file. Raises WeightsError if the file is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = present(path)
        try:
            self._tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(path, f"damaged ({error})", "distill the student again") from error

    def check(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """Raise WeightsError if the difference is not one of a network with these keys and shapes."""
        shapes = {key: ((math.prod(shape) + 1) // 2,) for key, shape in expected.items()}
        shapes |= {key + _STEP: _rows(shape) for key, shape in expected.items()}
        _check(self.path, shapes, {key: tuple(value.shape) for key, value in self._tensors.items()})

    def added(self, key: str, weight: Tensor) -> Tensor:
        """The other network's `weight` of this key with the difference, float32, on the weight's device."""
        packed, step = (self._tensors[name].to(weight.device) for name in (key, key + _STEP))
        pairs = torch.stack([packed >> 4, packed & 15], dim=1)
        change = pairs.flatten()[: weight.numel()].view(weight.shape).float() - _ZERO
        return weight.float() + change * step.view(-1, *[1] * (weight.ndim - 1))


def save_difference(weights: Mapping[str, Tensor], base: Mapping[str, Tensor], path: Path) -> None:
    """Write the difference of `weights` from `base`, with the same keys and shapes, atomically."""
    tensors = dict[str, Tensor]()
    for key, value in weights.items():
        change = value.detach().cpu().float() - base[key].detach().cpu().float()
        rows = change.reshape(*_rows(tuple(change.shape)), -1)
        step = rows.abs().amax(1) / _LEVELS
        # A row without any difference has the step 0, which nothing can be divided by.
        whole = (rows / step.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round()
        pairs = F.pad(whole.flatten() + _ZERO, (0, whole.numel() % 2)).to(torch.uint8).view(-1, 2)
        tensors |= {key: pairs[:, 0] << 4 | pairs[:, 1], key + _STEP: step}
    replace_whole(path, lambda temporary: save_file(tensors, temporary))


def _rows(shape: tuple[int, ...]) -> tuple[int]:
    """The number of steps of a tensor: one for each row, and one for a vector."""
    return (shape[0] if len(shape) > 1 else 1,)
