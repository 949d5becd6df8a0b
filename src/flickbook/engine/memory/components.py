"""The networks of a model: their size on disk and in memory, from file headers alone. Needs no torch.

Bytes are summed from the tensor shapes in the safetensors headers; the tensors themselves are not read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from flickbook.catalogue import Model
from flickbook.errors import WeightsError
from flickbook.hub.find import latent_upsampler
from flickbook.hub.layout import index_file
from flickbook.hub.manifest import read_config
from flickbook.spec import Placement

Kind = Literal["words", "network", "decoder"]
KINDS: Final[tuple[Kind, ...]] = ("words", "network", "decoder")
Config = Mapping[str, Any]

BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
#: The names of precisions in safetensors.
_CODES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_STORED = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_FLOATS = {"F64", "F32", "F16", "BF16"}
_FETCH = "download the model again"
#: safetensors refuses longer headers too.
_HEADER_LIMIT = 100_000_000
_NETWORKS = ("unet", "transformer", "transformer_2", "motion_adapter")
_DECODERS = ("vae", "audio_vae", "vocoder")
#: Autoencoders that stay in float32 when the other networks use half precision.
_FULL = ("AutoencoderKLWan",)
#: Shares of ModelScope's parameters by part (text encoder, U-Net, autoencoder), for models that are not downloaded.
_SHARES: dict[Kind, float] = {"words": 0.186, "network": 0.769, "decoder": 0.045}
#: A text encoder of at least this many bytes is unloaded after encoding.
_LARGE: Final = 256 * 2**20


@dataclass(frozen=True)
class Part:
    """One network of a model: bytes in its file, bytes in memory, bytes of its largest tensor in memory; whether it is
    cast to another precision."""

    kind: Kind
    stored: int
    loaded: int
    largest: int
    cast: bool


def parts(model: Model, directory: Path | None, placement: Placement) -> tuple[Part, ...]:
    """The networks of a model as a placement loads them, from file headers, or from the catalogue's parameter count if
    the files are not here. Raises WeightsError for a damaged file."""
    # The base model of a motion adapter is in another directory; the catalogue's count includes both.
    folders = () if directory is None or model.base else _folders(model, directory)
    found = [_part(model, folder, placement) for folder in folders]
    if any(found):
        return tuple(part for part in found if part)
    count, item = model.parameters * 1e9, BYTES[placement.dtype]
    made = []
    for kind, share in _SHARES.items():
        each = item / 2 if placement.quantize and kind == "network" else item
        size = int(count * share * each)
        # Most models are published in float16 or float32, so any other precision needs a cast.
        made.append(Part(kind, int(count * share * 2), size, int(0.02 * size), cast=placement.dtype != "float16"))
    return tuple(made)


def upsampler_part(model: Model, placement: Placement) -> Part | None:
    """The latent upsampler of a model; None if it is not on this machine. It runs between denoising and decoding.

    Raises WeightsError for a damaged file.
    """
    place = latent_upsampler(model)
    found = None if place is None else _part(model, place, placement)
    return None if found is None else replace(found, kind="decoder")


def unloaded_bytes(model: Model, directory: Path | None, placement: Placement, tuned: bool) -> int:
    """Bytes of a text encoder that is unloaded after encoding and reloaded for new prompts; 0 if it stays in memory.

    That applies to a large one of the U-Net family on a CPU, where a film takes minutes and reloading a second.
    One changed by LoRAs (`tuned`) stays, because its file does not contain them.
    """
    if model.family != "unet" or placement.device != "cpu" or tuned:
        return 0
    words = sum(part.loaded for part in parts(model, directory, placement) if part.kind == "words")
    return words if words >= _LARGE else 0


def _folders(model: Model, directory: Path) -> Iterator[Path]:
    """The folders listed in model_index.json, in loading order, without those that are not downloaded."""
    for name, value in read_config(index_file(directory)).items():
        wanted = not model.files or any(fnmatch(f"{name}/config.json", pattern) for pattern in model.files)
        if isinstance(value, list) and wanted and (directory / name).is_dir():
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
            # Only linear layers are quantized to eight bits.
            small = placement.quantize and kind == "network" and matrix
            size = inside if kept not in _FLOATS else 1 if small else BYTES[dtype]
            cast = cast or (kept in _FLOATS and kept != _CODES[dtype])
            stored, loaded, largest = stored + count * inside, loaded + count * size, max(largest, most * size)
    return Part(kind, stored, loaded, largest, cast) if stored else None


def _files(model: Model, folder: Path) -> list[Path]:
    """The safetensors files of one network, single or sharded, in the precision that would be loaded."""
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
    """For each precision and kind: (precision, whether matrices, total values, values of the largest tensor).

    `stamp` is the file's modification time, part of the cache's key. Raises WeightsError.
    """
    found: dict[tuple[str, bool], list[int]] = {}
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_HEADER_LIMIT, path.stat().st_size - 8):
                raise ValueError("its header is truncated")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                found.setdefault((str(entry["dtype"]), len(entry["shape"]) == 2), []).append(math.prod(entry["shape"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WeightsError(path, f"damaged ({error})", _FETCH) from None
    return tuple((kept, matrix, sum(counts), max(counts)) for (kept, matrix), counts in found.items())


def optional(path: Path) -> Config:
    """A JSON configuration, or an empty one if the file does not exist."""
    return read_config(path) if path.is_file() else {}
