"""Read a PyTorch checkpoint without executing it, and write it as safetensors.

A `.ckpt`, `.bin` or `.pt` file is a zip archive: `data.pkl` is a program for a small stack machine that rebuilds the
dictionary, and `data/0`, `data/1`, … are the tensors' raw bytes. Python's unpickler would run whatever that program
calls. Here its opcodes are walked by hand: it may build plain containers and tensors, and nothing is ever imported or
called. Whatever else it asks for is refused by name.
"""

from __future__ import annotations

import json
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from flickbook.errors import WeightsError

#: The program of a checkpoint of 1.4 billion parameters is 300 KB.
MAX_PROGRAM_BYTES = 64 << 20
_WHERE = "get the checkpoint from its publisher again, or use a model published as safetensors"

#: Storage class in torch -> its name in safetensors, and the bytes of an element.
_STORAGES = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
_MARK: Final = object()


@dataclass(frozen=True)
class Global:
    """A name that the program mentions. It is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """Raw bytes in the archive: `size` elements of `dtype` under `data/<key>`."""

    key: str
    dtype: str
    width: int  # bytes of an element
    size: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; `offset` and `strides` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


class Checkpoint:
    """An open checkpoint: `tensors` by key, their bytes read when asked for.

    Raises WeightsError for a file that is no such archive, that is damaged, or whose program does anything but build
    tensors and plain containers.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._archive = zipfile.ZipFile(self.path)
            self._root = self._find_root()
            program = self._archive.read(f"{self._root}data.pkl")
        except (zipfile.BadZipFile, OSError, KeyError, NotImplementedError, RuntimeError) as error:
            raise self._refuse(f"not a PyTorch checkpoint, or damaged ({error})") from error
        self.tensors = dict(self._flat(self._walk(program)))
        if not self.tensors:
            raise self._refuse("holds no tensors")
        for name, tensor in self.tensors.items():
            self._check(name, tensor)

    def bytes_of(self, name: str) -> bytes:
        """The tensor's numbers in order, little-endian."""
        tensor = self.tensors[name]
        raw = self._archive.read(f"{self._root}data/{tensor.storage.key}")
        # Any type of that width will do: bytes are moved, not computed with.
        flat = np.frombuffer(raw, f"V{tensor.storage.width}")
        strides = [stride * tensor.storage.width for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides).tobytes()

    def close(self) -> None:
        """Let go of the file."""
        self._archive.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse(self, reason: str) -> WeightsError:
        return WeightsError(self.path, reason, _WHERE)

    def _find_root(self) -> str:
        """The folder inside the archive that holds data.pkl."""
        found = [info for info in self._archive.infolist() if info.filename.endswith("data.pkl")]
        if len(found) != 1 or found[0].filename.count("/") > 1:
            raise self._refuse("no single data.pkl in it")
        if found[0].file_size > MAX_PROGRAM_BYTES:
            raise self._refuse(f"its data.pkl is larger than {MAX_PROGRAM_BYTES} bytes")
        root = found[0].filename.removesuffix("data.pkl")
        names = set(self._archive.namelist())
        if f"{root}byteorder" in names and self._archive.read(f"{root}byteorder") != b"little":
            raise self._refuse("written on a big-endian machine")
        return root

    def _walk(self, program: bytes) -> object:
        try:
            return _Machine().run(program)
        except _ForbiddenError as error:
            raise self._refuse(str(error)) from None
        except (ValueError, IndexError, KeyError, TypeError, RecursionError, AttributeError, OverflowError) as error:
            raise self._refuse(f"its program is damaged ({type(error).__name__}: {error})") from error

    def _flat(self, value: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Tensors of nested dictionaries under dotted keys; `state_dict`, where there is one, stands for the whole."""
        if isinstance(value, dict):
            inner = value.get("state_dict")
            if not prefix and isinstance(inner, dict):
                value = inner
            for key, each in value.items():
                if isinstance(key, str):
                    yield from self._flat(each, f"{prefix}.{key}" if prefix else key)
        elif isinstance(value, Tensor):
            yield prefix, value

    def _check(self, name: str, tensor: Tensor) -> None:
        """Refuse a tensor that reaches outside its storage, and a storage that the archive holds otherwise."""
        whole = (tensor.offset, *tensor.shape, *tensor.strides)
        if len(tensor.shape) != len(tensor.strides) or not all(type(n) is int and n >= 0 for n in whole):
            raise self._refuse(f"tensor {name} has an impossible shape")
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
        if tensor.elements and last >= tensor.storage.size or tensor.elements > tensor.storage.size:
            raise self._refuse(f"tensor {name} reaches beyond its bytes")
        try:
            info = self._archive.getinfo(f"{self._root}data/{tensor.storage.key}")
        except KeyError:
            raise self._refuse(f"the bytes of tensor {name} are missing") from None
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != tensor.storage.size * tensor.storage.width:
            raise self._refuse(f"the bytes of tensor {name} are not {tensor.storage.size} numbers")


class _ForbiddenError(Exception):
    """The program asks for something that is not building a tensor."""


class _Machine:
    """The part of pickle's stack machine that checkpoints need."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> object:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _VALUES:
                self.stack.append(argument)
            else:
                step = getattr(self, f"_{opcode.name.lower()}", None)
                if step is None:
                    raise _ForbiddenError(f"its program uses the opcode {opcode.name}, which no plain checkpoint needs")
                step(argument)
        raise ValueError("no end")

    def _items(self) -> list[Any]:
        """What was put on the stack since the last mark."""
        at = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _proto(self, version: int) -> None:
        if version > 5:
            raise ValueError(f"protocol {version}")

    def _frame(self, _: int) -> None:
        pass

    def _binput(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    _long_binput = _put = _binput

    def _memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _binget(self, place: int) -> None:
        self.stack.append(self.memo[place])

    _long_binget = _get = _binget

    def _tuple(self, _: None) -> None:
        self.stack.append(tuple(self._items()))

    def _list(self, _: None) -> None:
        self.stack.append(self._items())

    def _dict(self, _: None) -> None:
        items = self._items()
        self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _last(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _tuple1(self, _: None) -> None:
        self._last(1)

    def _tuple2(self, _: None) -> None:
        self._last(2)

    def _tuple3(self, _: None) -> None:
        self._last(3)

    def _append(self, _: None) -> None:
        item = self.stack.pop()
        self._of(list).append(item)

    def _appends(self, _: None) -> None:
        items = self._items()
        self._of(list).extend(items)

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._of(dict)[key] = value

    def _setitems(self, _: None) -> None:
        items = self._items()
        self._of(dict).update(zip(items[::2], items[1::2], strict=True))

    def _of(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"a {kind.__name__} was expected")
        return self.stack[-1]

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Global(str(module), str(name)))

    def _binpersid(self, _: None) -> None:
        """A storage: ("storage", torch.FloatStorage, key, device, elements)."""
        word, kind, key, _device, size = self.stack.pop()
        if word != "storage" or not isinstance(kind, Global) or kind.module != "torch" or kind.name not in _STORAGES:
            raise _ForbiddenError(f"its program asks for the storage {kind}")
        if not (isinstance(key, str) and key.isalnum() and type(size) is int and size >= 0):
            raise ValueError("a storage without key or size")
        self.stack.append(Storage(key, *_STORAGES[kind.name], size))

    def _reduce(self, _: None) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Global) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no name")
        rebuild = _REBUILDS.get(str(called))
        if rebuild is None:
            raise _ForbiddenError(f"its program calls {called}, and nothing but tensors is rebuilt")
        self.stack.append(rebuild(*arguments))

    def _build(self, _: None) -> None:
        """The attributes of an ordered dictionary (`_metadata`) say nothing about its tensors."""
        self.stack.pop()
        self._of(dict)


def _tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise TypeError("a tensor without storage or shape")
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: Tensor, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError("a parameter that is no tensor")
    return tensor


def _ordered(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    return dict(pairs)


#: Everything a program may call, and what stands for it here.
_REBUILDS: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _ordered,
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
#: Opcodes that only push the number, text or bytes behind them.
_VALUES = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
}


@dataclass(frozen=True)
class Piece:
    """What one tensor of the new file is made of: a tensor of the checkpoint, or some of its rows, in a new shape."""

    source: str
    rows: tuple[int, int] | None = None  # of its first axis, from and to; None is all
    shape: tuple[int, ...] | None = None  # None is the shape it has


def convert(checkpoint: Checkpoint, path: Path, pieces: Mapping[str, Piece | str] | None = None) -> Path:
    """Write tensors as safetensors, one after the other, so that memory holds one at a time; whole or not at all.

    `pieces` maps the keys of the new file to what they are made of (a text is the source's key); None takes everything
    as it is. Raises WeightsError naming a tensor that is missing, or whose shape does not fit.
    """
    chosen = {name: Piece(name) for name in checkpoint.tensors} if pieces is None else pieces
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts: list[tuple[str, int, int]] = []
    place = 0
    for name, piece in chosen.items():
        whole = Piece(piece) if isinstance(piece, str) else piece
        shape, first, count = _cut(checkpoint, whole)
        tensor = checkpoint.tensors[whole.source]
        end = place + count * tensor.storage.width
        header[name] = {"dtype": tensor.storage.dtype, "shape": list(shape), "data_offsets": [place, end]}
        parts.append((whole.source, first * tensor.storage.width, (first + count) * tensor.storage.width))
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for source, begin, stop in parts:
                file.write(checkpoint.bytes_of(source)[begin:stop])
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except zipfile.BadZipFile as error:  # a checksum that does not fit
        raise WeightsError(checkpoint.path, f"damaged ({error})", _WHERE) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _cut(checkpoint: Checkpoint, piece: Piece) -> tuple[tuple[int, ...], int, int]:
    """Shape of a piece, its first element in the source, and how many follow."""
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
