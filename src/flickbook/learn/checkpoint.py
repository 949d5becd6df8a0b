"""Training checkpoints: tensors as safetensors, the rest as JSON, complete or absent.

A checkpoint is `checkpoint-00001234.safetensors` and, written after it, `checkpoint-00001234.json`. Only a pair counts,
so a kill at any instant leaves the one before. The last two are kept.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flickbook.errors import WeightsError


def _durable(path: Path, temporary: Path) -> None:
    """Rename after the bytes are on the disk."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save(directory: Path, step: int, tensors: dict[str, Tensor], values: dict[str, Any], keep: int = 2) -> Path:
    """Write the pair for `step`, then delete all but the newest `keep` pairs. Returns the JSON file."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = directory / f"checkpoint-{step:08d}"
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(whole, stem.with_suffix(".tmp"))
    _durable(stem.with_suffix(".safetensors"), stem.with_suffix(".tmp"))
    stem.with_suffix(".tmp").write_text(json.dumps({"step": step, **values}, indent=1), encoding="utf-8")
    _durable(stem.with_suffix(".json"), stem.with_suffix(".tmp"))
    for old in sorted(directory.glob("checkpoint-*.json"))[:-keep]:
        old.unlink()
    kept = {path.stem for path in directory.glob("checkpoint-*.json")}
    for path in (*directory.glob("checkpoint-*.safetensors"), *directory.glob("checkpoint-*.tmp")):
        if path.stem not in kept:
            path.unlink()
    return stem.with_suffix(".json")


def latest(directory: Path) -> Path | None:
    """The JSON file of the newest complete checkpoint."""
    pairs = [p for p in sorted(directory.glob("checkpoint-*.json")) if p.with_suffix(".safetensors").exists()]
    return pairs[-1] if pairs else None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and values of a checkpoint, from its JSON file. Raises WeightsError if it is missing or damaged."""
    try:
        return load_file(path.with_suffix(".safetensors")), values(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def values(path: Path) -> dict[str, Any]:
    """The values of a checkpoint alone, from its JSON file. Raises WeightsError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(path, f"damaged ({error})", "delete this checkpoint, and the one before it is used")


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat tensors, `index/name`."""
    states = optimizer.state_dict()["state"].items()
    return {f"{i}/{name}": torch.as_tensor(value) for i, state in states for name, value in state.items()}


def load_moments(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Give an optimizer the state that `moments` took."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, moment = name.split("/")
        states.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
