"""Reads a PyTorch checkpoint without executing it, and writes it as safetensors.

A `.ckpt`, `.bin` or `.pt` file is a zip archive: `data.pkl` is a program that rebuilds the dictionary (interpreted
by `pickle_program.py`), and `data/0`, `data/1`, … are the raw bytes of the tensors.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flickbook.errors import OutputError, WeightsError, shown
from flickbook.files import replace_whole
from flickbook.hub.pickle_program import ForbiddenError, Machine, Tensor

#: The program of a checkpoint with 1.4 billion parameters has 300 KB.
MAX_PROGRAM_BYTES = 8 << 20
#: Limits: nesting of dictionaries, axes of a tensor, and numbers, far above those of any real tensor.
_DEEPEST, _MOST_AXES, _LARGEST = 16, 16, 2**48
_WHERE = "get the checkpoint from its publisher again, or use a model published as safetensors"
#: Exceptions that a damaged archive or program may raise.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError),
    *(ValueError, LookupError, TypeError, AttributeError, OverflowError),
)


class Checkpoint:
    """An open checkpoint: `tensors` by key; their bytes are read on demand.

    Raises WeightsError for a file that is not such an archive, that is damaged, or whose program does anything
    except build tensors and plain containers.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._archive = zipfile.ZipFile(self.path)
        except _DAMAGE as error:
            raise self._refuse(f"not a PyTorch checkpoint, or damaged ({error})") from error
        try:
            self._root = self._find_root()
            value = Machine().run(self._member("data.pkl", MAX_PROGRAM_BYTES))
            self.tensors: dict[str, Tensor] = {}
            self._collect(value, "", set(), 0)
            if not self.tensors:
                raise self._refuse("holds no tensors")
            for name, tensor in self.tensors.items():
                self._check(name, tensor)
        except WeightsError:
            self.close()
            raise
        except ForbiddenError as error:
            self.close()
            raise self._refuse(str(error)) from None
        except _DAMAGE as error:
            self.close()
            raise self._refuse(f"not a PyTorch checkpoint, or damaged ({type(error).__name__}: {error})") from error

    def bytes_of(self, name: str) -> bytes:
        """The elements of a tensor in order, little-endian. Raises WeightsError if bytes are missing."""
        tensor = self.tensors[name]
        storage = tensor.storage
        try:
            raw = self._archive.read(f"{self._root}data/{storage.key}")
        except _DAMAGE as error:
            raise self._refuse(f"damaged ({error})") from error
        # The view below trusts these sizes and must not read beyond the data.
        if len(raw) != storage.size * storage.width:
            raise self._refuse(f"damaged: {len(raw)} bytes of tensor {shown(name)}, not {storage.size * storage.width}")
        # Any type of this width will do: bytes are copied, not computed with.
        flat = np.frombuffer(raw, f"V{storage.width}")
        strides = [stride * storage.width for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides).tobytes()

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse(self, reason: str) -> WeightsError:
        return WeightsError(self.path, reason, _WHERE)

    def _find_root(self) -> str:
        """The folder in the archive that contains data.pkl."""
        found = [name for name in self._archive.namelist() if name.endswith("data.pkl")]
        if len(found) != 1 or found[0].count("/") > 1:
            raise self._refuse("not a PyTorch checkpoint: no single data.pkl in it")
        self._root = found[0].removesuffix("data.pkl")
        if f"{self._root}byteorder" in self._archive.namelist() and self._member("byteorder", 16) != b"little":
            raise self._refuse("written on a big-endian machine")
        return self._root

    def _member(self, name: str, limit: int) -> bytes:
        """Reads a small file of the archive."""
        info = self._archive.getinfo(f"{self._root}{name}")
        # Other compression methods are unpacked without a size limit.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._refuse(f"its {name} is compressed in a way that no checkpoint is")
        if info.file_size > limit:
            raise self._refuse(f"its {name} is larger than {limit} bytes")
        with self._archive.open(info) as file:
            return file.read(limit + 1)[:limit]

    def _collect(self, value: object, prefix: str, seen: set[int], depth: int) -> None:
        """Collects tensors of nested dictionaries under dotted keys; of a top-level `state_dict`, only its tensors."""
        if isinstance(value, Tensor):
            self.tensors[prefix] = value
        if not isinstance(value, dict) or id(value) in seen:
            return
        if depth > _DEEPEST:
            raise self._refuse(f"its dictionaries are more than {_DEEPEST} deep")
        seen.add(id(value))
        inner = value.get("state_dict")
        if not prefix and isinstance(inner, dict):
            value = inner
        for key, each in value.items():
            if isinstance(key, str):
                self._collect(each, f"{prefix}.{key}" if prefix else key, seen, depth + 1)

    def _check(self, name: str, tensor: Tensor) -> None:
        """Refuses a tensor that exceeds its storage, and a storage whose size differs in the archive."""
        known, storage = shown(name), tensor.storage
        whole = (tensor.offset, storage.size, *tensor.shape, *tensor.strides)
        if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > _MOST_AXES:
            raise self._refuse(f"tensor {known} has an impossible shape")
        if not all(type(n) is int and 0 <= n < _LARGEST for n in whole):
            raise self._refuse(f"tensor {known} has an impossible shape")
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
        if tensor.elements and last >= storage.size or tensor.elements > storage.size:
            raise self._refuse(f"tensor {known} reaches beyond its bytes")
        try:
            info = self._archive.getinfo(f"{self._root}data/{storage.key}")
        except KeyError:
            raise self._refuse(f"the bytes of tensor {known} are missing") from None
        size = storage.size * storage.width
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != size or info.compress_size != size:
            raise self._refuse(f"the bytes of tensor {known} are not {storage.size} numbers")


@dataclass(frozen=True)
class Piece:
    """The source of a tensor in the new file: a tensor of the checkpoint or some of its rows, optionally reshaped."""

    source: str
    rows: tuple[int, int] | None = None  # range of its first axis; None is all
    shape: tuple[int, ...] | None = None  # None keeps the shape


def convert(checkpoint: Checkpoint, path: Path, pieces: Mapping[str, Piece] | None = None) -> Path:
    """Writes tensors as safetensors one by one, so that only one is in memory. The file is replaced atomically.

    `pieces` maps the keys of the new file to their sources; None copies everything. Raises
    WeightsError for a missing tensor or one whose shape does not fit.
    """
    chosen = {name: Piece(name) for name in checkpoint.tensors} if pieces is None else pieces
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts: list[tuple[str, int, int]] = []
    place = 0
    for name, piece in chosen.items():
        shape, first, count = _cut(checkpoint, piece)
        tensor = checkpoint.tensors[piece.source]
        end = place + count * tensor.storage.width
        header[name] = {"dtype": tensor.storage.dtype, "shape": list(shape), "data_offsets": [place, end]}
        parts.append((piece.source, first * tensor.storage.width, (first + count) * tensor.storage.width))
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for source, begin, stop in parts:
                file.write(checkpoint.bytes_of(source)[begin:stop])

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, write)
    except OSError as error:
        raise OutputError(path, error.strerror or "cannot be written", "free some space, or write elsewhere") from error
    return path


def _cut(checkpoint: Checkpoint, piece: Piece) -> tuple[tuple[int, ...], int, int]:
    """Shape of a piece, its first element in the source, and the number of elements."""
    tensor = checkpoint.tensors.get(piece.source)
    if tensor is None:
        raise WeightsError(checkpoint.path, f"misses {piece.source}", _WHERE)
    shape, first = tensor.shape, 0
    if piece.rows is not None:
        begin, end = piece.rows
        if not shape or end > shape[0]:
            raise WeightsError(checkpoint.path, f"{piece.source} has no rows {begin} to {end}", _WHERE)
        first, shape = begin * math.prod(shape[1:]), (end - begin, *shape[1:])
    count = math.prod(shape)
    if piece.shape is not None and math.prod(piece.shape) != count:
        raise WeightsError(checkpoint.path, f"{piece.source} is {list(shape)}, not {list(piece.shape)}", _WHERE)
    return piece.shape or shape, first, count
