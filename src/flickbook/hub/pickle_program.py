"""Interprets the pickle program of a PyTorch checkpoint without executing it.

A pickle is a program for a small stack machine, and Python's unpickler runs whatever it calls. This interpreter lets
the program build plain containers and tensors only. Nothing is imported or called; everything else is refused by
name.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flickbook.errors import shown

#: Storage class in torch -> dtype in safetensors, and bytes per element.
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
#: A checkpoint with thousands of tensors has a hundred thousand.
MAX_OPCODES = 1_000_000


@dataclass(frozen=True)
class Global:
    """A name that the program refers to. It is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """Raw bytes in the archive: `size` elements of `dtype` under `data/<key>`."""

    key: str
    dtype: str
    width: int  # bytes per element
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
        """The number of elements."""
        return math.prod(self.shape)


class ForbiddenError(Exception):
    """The program does something other than build a tensor."""


class Machine:
    """The part of pickle's stack machine that checkpoints need."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> object:
        """Runs a program and returns the object that it builds.

        Raises ForbiddenError for operations that no plain checkpoint needs; a damaged program may raise other
        errors.
        """
        for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
            if count > MAX_OPCODES:
                raise ForbiddenError(f"its program is longer than {MAX_OPCODES} opcodes")
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _VALUES:
                self.stack.append(argument)
            else:
                step = getattr(self, f"_{opcode.name.lower()}", None)
                if step is None:
                    raise ForbiddenError(f"its program uses the opcode {opcode.name}, which no plain checkpoint needs")
                step(argument)
        raise ValueError("no end")

    def _items(self) -> list[Any]:
        """Pops the items since the last mark."""
        at = self.marks.pop()
        if at > len(self.stack):
            raise ValueError("the stack is shorter than at its mark")
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def _mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

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
        self.stack.append(_mapping(zip(items[::2], items[1::2], strict=True)))

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
        self._of(dict).update(_mapping([(key, value)]))

    def _setitems(self, _: None) -> None:
        items = self._items()
        self._of(dict).update(_mapping(zip(items[::2], items[1::2], strict=True)))

    def _of(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"a {kind.__name__} was expected")
        return self.stack[-1]

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self.stack.append(Global(module, name))

    def _binpersid(self, _: None) -> None:
        """Pushes a storage: ("storage", torch.FloatStorage, key, device, elements)."""
        word, kind, key, _device, size = self.stack.pop()
        if not isinstance(word, str) or word != "storage" or not isinstance(kind, Global):
            raise ValueError("a reference that is no storage")
        if kind.module != "torch" or kind.name not in _STORAGES:
            raise ForbiddenError(f"its program asks for the storage {shown(kind)}")
        if not (isinstance(key, str) and key.isalnum() and type(size) is int and size >= 0):
            raise ValueError("a storage without key or size")
        self.stack.append(Storage(key, *_STORAGES[kind.name], size))

    def _reduce(self, _: None) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Global) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no name")
        rebuild = _REBUILDS.get(str(called))
        if rebuild is None:
            raise ForbiddenError(f"its program calls {shown(called)}, and nothing but tensors is rebuilt")
        self.stack.append(rebuild(*arguments))

    def _build(self, _: None) -> None:
        """Ignores the attributes of an ordered dictionary (`_metadata`), which do not affect its tensors."""
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


def _mapping(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[str | int, Any]:
    """A dictionary with string or integer keys: hashing a tuple that contains itself many times would never end."""
    found: dict[str | int, Any] = {}
    for key, value in pairs:
        if type(key) not in (str, int):
            raise ForbiddenError("its program builds a dictionary whose keys are neither texts nor numbers")
        found[key] = value
    return found


#: Functions that a program may call, and their replacements here.
_REBUILDS: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _mapping,
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
#: Opcodes that only push their argument: a number, string or bytes.
_VALUES = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
}
