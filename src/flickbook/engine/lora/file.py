"""Reads LoRA files and validates them first: safetensors with a pair of matrices for each layer they change.

Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): W + scale * up @ down, with scale = alpha / rank. Shapes here:
down (rank, inside, *kernel), up (outside, rank, *ones); files store 1x1 convolutions and linear layers in either shape.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flickbook.engine.lora.layer_names import Pair, Style, read_pairs, style_of
from flickbook.errors import WeightsError, escaped, one_line
from flickbook.hub.manifest import read_config

SUFFIX = ".safetensors"
#: The most bytes of a header: usual LoRAs have less than 1 MB, or a few MB if the trainer stored its captions.
_MAX_HEADER = 16 << 20
_MAX_TENSORS = 20_000
_MAX_RANK = 4096
_MAX_BASE = 80
_FETCH = "download the file again"
_CONVERT = "convert it to safetensors; no other format is loaded"
#: Other formats that are found under the name of a LoRA, by their first bytes.
_OTHERS = {
    b"PK\x03\x04": ("a PyTorch checkpoint under another name", _CONVERT),
    b"\x80\x02": ("a pickle under another name", _CONVERT),
    b"\x80\x03": ("a pickle under another name", _CONVERT),
    b"\x80\x04": ("a pickle under another name", _CONVERT),
    b"\x80\x05": ("a pickle under another name", _CONVERT),
    b"version ": ("a Git LFS pointer, not the file itself", "download the file itself"),
    b"<": ("a web page", "download the file itself"),
}
#: Key endings of adapters that are not LoRAs.
_KINDS = {".hada_w1_a": "a LoHa", ".lokr_w1": "a LoKr", ".lokr_w1_a": "a LoKr", ".oft_blocks": "an OFT"}
#: Metadata keys in which trainers store the base model.
_BASES = ("ss_base_model_version", "modelspec.architecture", "base_model", "ss_sd_model_name")


@dataclass(frozen=True)
class LoraFile:
    """The contents of a LoRA file. Tensors are only read by `read`."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    pairs: tuple[Pair, ...]
    rest: tuple[str, ...]
    style: Style
    _settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> LoraFile:
        """Read a file's header. Raises WeightsError if it is not safetensors, is damaged, or contains no LoRA."""
        _check_bytes(path)
        with _explained(path), safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            if len(keys) > _MAX_TENSORS:
                raise WeightsError(path, f"holds {len(keys)} tensors, more than {_MAX_TENSORS}", "use another LoRA")
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
            metadata = dict(file.metadata() or {})
        pairs, rest = read_pairs(shapes)
        if not pairs:
            kind = next((name for key in rest for ending, name in _KINDS.items() if key.endswith(ending)), "no LoRA")
            reason = f"is {kind}: none of its {len(rest)} keys ends in lora_A, lora_down or lora.down"
            raise WeightsError(path, reason, "use a LoRA in the style of diffusers, PEFT or kohya")
        for pair in pairs:
            _check_pair(path, pair, shapes)
        return cls(path, shapes, metadata, pairs, rest, style_of(pairs), _trainer_settings(path, metadata))

    def rank_of(self, pair: Pair) -> int:
        """The rank of one layer."""
        return self.shapes[pair.up][1]

    @property
    def base_model(self) -> str:
        """The model that it was trained for, according to its trainer; "" if unknown."""
        found = [self.metadata.get(name, "") for name in _BASES]
        found.append(str(self._settings.get("base_model_name_or_path") or ""))
        return escaped(one_line(next((each for each in found if each.strip()), "")[:_MAX_BASE]))

    def read(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """The `down` and `up` tensors of these layers by key, in float32, with each scale multiplied into `up` and each
        `mid` into `down`. Raises WeightsError for values that are not finite."""
        tensors: dict[str, Tensor] = {}
        with _explained(self.path), safe_open(self.path, framework="pt") as file:
            for pair in pairs:
                down, up = file.get_tensor(pair.down).float(), file.get_tensor(pair.up).float()
                if pair.mid:  # a convolution as a product of three (Tucker decomposition)
                    mid = file.get_tensor(pair.mid).float()
                    down = torch.einsum("or...,ri->oi...", mid, down.flatten(1))
                alpha = file.get_tensor(pair.alpha).float().item() if pair.alpha else None
                tensors[pair.down], tensors[pair.up] = down, up * self._scale(pair, up.shape[1], alpha)
                if not all(tensors[key].isfinite().all() for key in (pair.down, pair.up)):
                    raise WeightsError(self.path, f"{pair.layer} contains numbers that are not finite", _FETCH)
        return tensors

    def _scale(self, pair: Pair, rank: int, alpha: float | None) -> float:
        """alpha / rank. Without an alpha in the file, the scale from the trainer's settings, or else 1."""
        if alpha is not None:
            return alpha / rank
        # diffusers prefixes the settings with the name of each network; PEFT stores those of one network unprefixed.
        network = pair.layer.partition(".")[0] + "."
        settings = {key.removeprefix(network): value for key, value in self._settings.items()}
        alpha = settings.get("lora_alpha")
        patterns = settings.get("alpha_pattern")
        for pattern, value in (patterns if isinstance(patterns, dict) else {}).items():
            # Compared as text: as a regular expression, a pattern from a file could run forever.
            if f".{pair.layer}".endswith(f".{pattern.lstrip('^')}"):
                alpha = value
        if not isinstance(alpha, int | float):
            return 1.0
        return alpha / (math.sqrt(rank) if settings.get("use_rslora") is True else rank)


def _check_bytes(path: Path) -> None:
    """Check the file's name, size and first bytes. Raises WeightsError for other formats and truncated files."""
    if path.suffix != SUFFIX:
        raise WeightsError(path, "not a .safetensors file", _CONVERT)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise WeightsError(path, "not a file", "name the file of a LoRA")
        with path.open("rb") as file:
            first = file.read(8)
    except OSError as error:
        raise WeightsError(path, error.strerror or "cannot be read", "check the path of the LoRA") from error
    for start, (kind, remedy) in _OTHERS.items():
        if first.startswith(start) and int.from_bytes(first, "little") > _MAX_HEADER:
            raise WeightsError(path, kind, remedy)
    header = int.from_bytes(first, "little")
    if len(first) < 8 or header > _MAX_HEADER:
        raise WeightsError(path, "not safetensors, or damaged", _FETCH)
    if 8 + header > size:
        raise WeightsError(path, "truncated within its header", _FETCH)


def _check_pair(path: Path, pair: Pair, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the matrices of a pair can be multiplied, before they are read. Raises WeightsError."""
    down, up = shapes[pair.down], shapes[pair.up]
    inner = shapes[pair.mid][:2] if pair.mid else ()
    fits = len(down) >= 2 and len(up) >= 2 and math.prod(up[2:]) == 1
    if fits and pair.mid:
        fits = inner == (up[1], down[0]) and math.prod(down[2:]) == 1
    elif fits:
        fits = down[0] == up[1]
    fits = fits and (not pair.alpha or math.prod(shapes[pair.alpha]) == 1)
    if not fits:
        reason = f"damaged: {pair.layer} has matrices of {list(down)} and {list(up)}"
        raise WeightsError(path, reason, _FETCH)
    if not 1 <= up[1] <= _MAX_RANK:
        raise WeightsError(path, f"{pair.layer} has rank {up[1]}, not 1 to {_MAX_RANK}", "use another LoRA")


def _trainer_settings(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The trainer's settings: diffusers stores them in the file's metadata, PEFT in a file next to it."""
    try:
        known = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        known = {}
    if isinstance(known, dict) and known:
        return known
    beside = path.with_name("adapter_config.json")
    return read_config(beside) if path.name == "adapter_model.safetensors" and beside.is_file() else {}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn exceptions of safetensors in the block into WeightsError."""
    try:
        yield
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(path, f"damaged ({str(error)[:200]})", _FETCH) from error
