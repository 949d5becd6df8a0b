"""The networks of a model, by the headers of their files: what they take on disk and in memory. No torch.

Bytes are added up from the shapes in the safetensors headers; nothing of a file but its header is read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from flickbook.catalogue import Model
from flickbook.errors import WeightsError
from flickbook.hub.manifest import read_config
from flickbook.spec import Placement

Kind = Literal["words", "network", "decoder"]
KINDS: Final[tuple[Kind, ...]] = ("words", "network", "decoder")
Config = Mapping[str, Any]

BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
#: What safetensors calls a precision.
_CODES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_STORED = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_FLOATS = {"F64", "F32", "F16", "BF16"}
_FETCH = "fetch the model again"
#: safetensors itself refuses longer headers.
_HEADER_LIMIT = 100_000_000
_NETWORKS = ("unet", "transformer", "transformer_2", "motion_adapter")
_DECODERS = ("vae", "audio_vae", "vocoder")
#: Autoencoders that stay in float32 beside a network in half precision.
_FULL = ("AutoencoderKLWan",)
#: ModelScope's parameters by part (text encoder, U-Net, autoencoder), as shares: for models whose files are not here.
_SHARES: dict[Kind, float] = {"words": 0.186, "network": 0.769, "decoder": 0.045}
#: Bytes in memory from which on a text encoder passes.
_LARGE: Final = 256 * 2**20


@dataclass(frozen=True)
class Part:
    """One network of a model: bytes of its file, in memory, of its largest tensor in memory; and if it is cast."""

    kind: Kind
    stored: int
    loaded: int
    largest: int
    cast: bool


def parts(model: Model, directory: Path | None, placement: Placement) -> tuple[Part, ...]:
    """The networks of a model as a placement loads them: from the headers of its files, or where they are not here
    from the catalogue's count. Raises WeightsError for a file that is damaged."""
    # A motion adapter's base lies elsewhere; the catalogue counts both.
    folders = () if directory is None or model.base else _folders(directory)
    found = [_part(model, folder, placement) for folder in folders]
    if any(found):
        return tuple(part for part in found if part)
    count, item = model.parameters * 1e9, BYTES[placement.dtype]
    made = []
    for kind, share in _SHARES.items():
        each = item / 2 if placement.quantize and kind == "network" else item
        size = int(count * share * each)
        # Most are published in float16 or float32, and so are cast to anything else.
        made.append(Part(kind, int(count * share * 2), size, int(0.02 * size), cast=placement.dtype != "float16"))
    return tuple(made)


def passing(model: Model, directory: Path | None, placement: Placement, tuned: bool) -> int:
    """Bytes of a text encoder that is let go of once it has read, and loaded again for other words; 0 if it stays.

    That is a large one of our own on a processor, where a film takes minutes and to load it again a second. One that
    LoRAs changed (`tuned`) stays: its file knows nothing of them.
    """
    if model.family != "unet" or placement.device != "cpu" or tuned:
        return 0
    words = sum(part.loaded for part in parts(model, directory, placement) if part.kind == "words")
    return words if words >= _LARGE else 0


def _folders(directory: Path) -> Iterator[Path]:
    """The folders that model_index.json names, in the order in which they are loaded."""
    for name, value in read_config(directory / "model_index.json").items():
        if isinstance(value, list) and (directory / name).is_dir():
            yield directory / name


def _part(model: Model, folder: Path, placement: Placement) -> Part | None:
    kind: Kind = "network" if folder.name in _NETWORKS else "decoder" if folder.name in _DECODERS else "words"
    full = kind == "decoder" and optional(folder / "config.json").get("_class_name") in _FULL
    dtype = "float32" if full else placement.dtype
    stored = loaded = largest = 0
    cast = False
    for path in _files(model, folder):
        for kept, matrix, count, most in _summary(path, _stamp(path)):
            inside = _STORED.get(kept, 1)
            # Linear layers alone are kept in eight bits.
            small = placement.quantize and kind == "network" and matrix
            size = inside if kept not in _FLOATS else 1 if small else BYTES[dtype]
            cast = cast or (kept in _FLOATS and kept != _CODES[dtype])
            stored, loaded, largest = stored + count * inside, loaded + count * size, max(largest, most * size)
    return Part(kind, stored, loaded, largest, cast) if stored else None


def _files(model: Model, folder: Path) -> list[Path]:
    """The safetensors of one network, whole or in pieces, in the precision that would be loaded."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        match = re.search(r"\.(fp16|bf16|fp32)(?=[.-])", path.name)
        groups.setdefault(match[1] if match else "", []).append(path)
    order = [model.variant] if model.family != "unet" else []
    return next((groups[each] for each in (*order, "", "fp16", "bf16", "fp32") if each in groups), [])


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise WeightsError(path, error.strerror or "cannot be read", _FETCH) from None


@lru_cache(maxsize=256)
def _summary(path: Path, stamp: int) -> tuple[tuple[str, bool, int, int], ...]:
    """(precision, whether matrices, values in all such tensors, in the largest) of a file that changed at `stamp`.

    Raises WeightsError.
    """
    found: dict[tuple[str, bool], list[int]] = {}
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_HEADER_LIMIT, path.stat().st_size - 8):
                raise ValueError("its header is cut")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                found.setdefault((str(entry["dtype"]), len(entry["shape"]) == 2), []).append(math.prod(entry["shape"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WeightsError(path, f"damaged ({error})", _FETCH) from None
    return tuple((kept, matrix, sum(counts), max(counts)) for (kept, matrix), counts in found.items())


def optional(path: Path) -> Config:
    """A configuration, or an empty one where there is no file."""
    return read_config(path) if path.is_file() else {}
