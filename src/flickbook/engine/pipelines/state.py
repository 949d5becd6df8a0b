"""The state of a pipeline between two steps, as plain tensors and JSON, without pickle."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from flickbook.engine.pipelines.result import Film
from flickbook.errors import WeightsError
from flickbook.media.sound.samples import Sound

#: The entries of a checkpoint that contain JSON, as bytes.
_JSON, _STAGE = "call", "stage"


@dataclass(frozen=True, eq=False)
class CallState:
    """Everything that the rest of a call depends on, after `index` of its steps.

    `tree` is JSON that refers to `tensors` by index.
    """

    index: int
    tree: Any
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, index: int, changing: Mapping[str, Any], fixed: Mapping[str, Any]) -> Self:
        """The state made of two dictionaries of plain values. Tensors of `changing` are copied, because later steps may
        write into them; those of `fixed` are not.

        Raises ValueError for a value that is not a tensor, an array, a number, a string, or a container of those.
        """
        tensors: list[Tensor] = []
        tree = _flat(changing, tensors)
        copies = [tensor.clone() for tensor in tensors]
        more = _flat(fixed, copies)
        return cls(index, {"dict": [*tree["dict"], *more["dict"]]}, tuple(copies))

    def extended(self, fields: Mapping[str, Any]) -> Self:
        """The same state with more plain values. Raises ValueError as `of` does."""
        tensors = list(self.tensors)
        more = _flat(fields, tensors)
        return type(self)(self.index, {"dict": [*self.tree["dict"], *more["dict"]]}, tuple(tensors))

    def values(self, device: torch.device) -> dict[str, Any]:
        """Restore the dictionary. Tensors that were on an accelerator are placed on `device`."""
        found: dict[str, Any] = _whole(self.tree, self.tensors, device)
        return found

    def to_tensors(self) -> dict[str, Tensor]:
        """A flat dictionary of CPU tensors that share no memory, for safetensors."""
        found = {_JSON: _text({"index": self.index, "tree": self.tree})}
        for place, tensor in enumerate(self.tensors):
            found[f"{_JSON}.{place}"] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The state that `to_tensors` returned. Raises KeyError or ValueError for malformed tensors."""
        fields = json.loads(bytes(tensors[_JSON].numpy()))
        count = sum(name.startswith(f"{_JSON}.") for name in tensors)
        return cls(int(fields["index"]), fields["tree"], tuple(tensors[f"{_JSON}.{place}"] for place in range(count)))


@dataclass(frozen=True)
class Stage:
    """The state of a run after a step. `latents` is what `decode` gets in the end; `clean` computes the estimate of x0.

    `call` is what the rest of the call depends on, or the reason why it cannot be saved. `film` is the number of films
    of the batch that were finished before this call, `dtype` the precision of the run.
    """

    index: int
    total: int
    latents: Any = None
    #: The last latents of each finished film, for films that continue from them; None for a film without them.
    ends: Any = ()
    clean: Callable[[], Any] | None = None
    #: x_t after the step, in the layout of `x0`; None if the scheduler is not watched.
    noisy: Any = None
    call: CallState | str = ""
    film: int = 0
    dtype: str = ""
    #: Always False: a pipeline decodes in its call, so a call resumed after its last step still has to run to its end.
    done = False

    @property
    def x0(self) -> Any:
        """The estimate of the clean latents (films, ...), in the pipeline's own layout; None if unknown."""
        return self.clean() if self.clean is not None else None

    def to_tensors(self) -> dict[str, Tensor]:
        """A flat dictionary of CPU tensors that share no memory. Raises ValueError if the call cannot be resumed."""
        if not isinstance(self.call, CallState):
            raise ValueError(self.call)
        fields: dict[str, Any] = {"index": self.index, "total": self.total, "film": self.film, "dtype": self.dtype}
        fields |= {"diffusers": version("diffusers")}
        tensors = self.call.to_tensors()
        # All stages share the list, and it may have grown since this stage.
        for number, film in enumerate(self.latents[: self.film]):
            tensors[f"frames.{number}"] = torch.from_numpy(film.frames.copy())
            if film.sound is not None:
                tensors[f"sound.{number}"] = torch.from_numpy(film.sound.samples.copy())
                fields[f"rate.{number}"] = film.sound.rate
            if (end := self.ends[number]) is not None:
                tensors[f"end.{number}"] = torch.from_numpy(end.copy())
        tensors[_STAGE] = _text(fields)
        x0 = self.x0
        if x0 is not None:
            tensors["x0"] = x0.detach().cpu().clone(memory_format=torch.contiguous_format)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The stage that `to_tensors` returned.

        Raises WeightsError for another version of diffusers, KeyError or ValueError for malformed tensors.
        """
        fields = json.loads(bytes(tensors[_STAGE].numpy()))
        if fields["diffusers"] != version("diffusers"):
            raise WeightsError("checkpoint", f"was written with diffusers {fields['diffusers']}", "start the run again")
        films = [_film(tensors, fields, number) for number in range(fields["film"])]
        kept = [tensors.get(f"end.{number}") for number in range(fields["film"])]
        ends = [None if each is None else each.numpy() for each in kept]
        x0, call = tensors.get("x0"), CallState.from_tensors(tensors)
        clean = None if x0 is None else lambda: x0
        how = {"film": fields["film"], "dtype": fields["dtype"]}
        return cls(fields["index"], fields["total"], films, ends, clean=clean, call=call, **how)


def _film(tensors: Mapping[str, Tensor], fields: Mapping[str, Any], number: int) -> Film:
    """A finished film of a saved stage."""
    samples = tensors.get(f"sound.{number}")
    sound = None if samples is None else Sound(samples.numpy(), int(fields[f"rate.{number}"]))
    return Film(tensors[f"frames.{number}"].numpy(), sound)


def answer(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    """The output of a network or a scheduler: a named tuple, readable by name like the libraries' output classes."""
    return namedtuple("Answer", names)(*values)


def named(returned: Any) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The names and values of a network's or scheduler's output; the first value of a bare tuple is its `sample`."""
    if isinstance(returned, Mapping):
        return tuple(returned.keys()), tuple(returned.values())
    if hasattr(returned, "_fields"):
        return returned._fields, tuple(returned)
    values = returned if isinstance(returned, tuple) else (returned,)
    return ("sample", *(f"value_{place}" for place in range(1, len(values)))), values


def _text(value: Any) -> Tensor:
    """A value as a tensor of the bytes of its JSON."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _flat(value: Any, tensors: list[Tensor]) -> Any:
    """A value as JSON, with its tensors appended to `tensors`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        tensors.append(value.detach())
        # Kernels may round differently for another memory layout, so the layout is saved too.
        strides = None if value.is_contiguous() or 0 in value.stride() else list(value.stride())
        return {"tensor": len(tensors) - 1, "cpu": value.device.type == "cpu", "strides": strides}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        tensors.append(torch.from_numpy(np.array(value)))
        return {"array" if isinstance(value, np.ndarray) else "scalar": len(tensors) - 1}
    if isinstance(value, Mapping):
        return {"dict": [[_flat(name, tensors), _flat(each, tensors)] for name, each in value.items()]}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_flat(each, tensors) for each in value]}
    raise ValueError(f"a value of the class {type(value).__name__} cannot be saved")


def _whole(tree: Any, tensors: tuple[Tensor, ...], device: torch.device) -> Any:
    """The value that `_flat` converted to JSON."""
    if not isinstance(tree, dict):
        return tree
    kind, inside = next(iter(tree.items()))
    if kind == "tensor":
        tensor = tensors[inside].to("cpu" if tree["cpu"] else device)
        if tree["strides"] is None:
            return tensor.clone(memory_format=torch.contiguous_format)
        shaped = torch.empty_strided(tensor.shape, tree["strides"], dtype=tensor.dtype, device=tensor.device)
        return shaped.copy_(tensor)
    if kind in ("array", "scalar"):
        array = tensors[inside].cpu().numpy().copy()
        return array if kind == "array" else array[()]
    if kind == "dict":
        return {_whole(name, tensors, device): _whole(each, tensors, device) for name, each in inside}
    found = [_whole(each, tensors, device) for each in inside]
    return tuple(found) if kind == "tuple" else found
