"""What an interrupted run goes on from: one safetensors file, whole and verified, or nothing.

The file holds the family's state (for our own U-Net latents, step and solver history) and, in its metadata, which Plans
it is of and how far they are. Its SHA-256 covers every byte of it: a file that is torn, damaged or foreign is passed
over, and the film begins again. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from flickbook.engine.family import Denoised, Family, Resumable
from flickbook.engine.memory import device
from flickbook.errors import FlickbookError
from flickbook.files import replace_whole
from flickbook.spec import Placement, Plan

logger = logging.getLogger(__name__)

SCHEMA: Final = 1
#: The hash stands in the file that it covers; there it counts as so many zeros.
_BLANK: Final = b"0" * 64
#: Bytes; the header of 64 films of a large model is a hundredth of it.
_MOST_HEADER: Final = 2**20
#: What the first write is expected to take, for no other has been measured: seconds, and bytes a second. A state is
#: about so many times as large as its latents.
_SETUP, _RATE, _TIMES = 0.01, 1e8, 4


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """How far a batch is, and the tensors that the rest of it depends on.

    `plans` are the Plans' keys in their order, `weights` the SHA-256 of what the weights' hashes are, `placement` and
    `made` (libraries and kernels) where its steps were made. `index` of `total` steps are done.
    """

    plans: tuple[str, ...]
    family: str
    weights: str
    index: int
    total: int
    placement: Placement
    made: Mapping[str, str]
    tensors: Mapping[str, Tensor]

    @property
    def phase(self) -> str:
        """What comes next: "denoise", or "decode" where the latents are whole."""
        return "decode" if self.index >= self.total else "denoise"

    def write(self, path: Path) -> None:
        """Make it the file `path`, whole or not at all, on the disk when this returns. Raises OSError."""
        said = {
            "schema": str(SCHEMA),
            "plans": json.dumps(self.plans),
            "family": self.family,
            "weights": self.weights,
            "phase": self.phase,
            "index": str(self.index),
            "total": str(self.total),
            "placement": self.placement.to_json(),
            "made": json.dumps(self.made, sort_keys=True),
            "sha256": _BLANK.decode(),
        }
        data = memoryview(save(dict(self.tensors), said))
        at = bytes(data[: _end(data)]).index(_BLANK)
        digest = hashlib.sha256(data).hexdigest().encode()

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                for part in (data[:at], digest, data[at + len(_BLANK) :]):
                    file.write(part)

        replace_whole(path, write)

    @classmethod
    def read(cls, path: Path, plans: Sequence[Plan]) -> Self | None:
        """The state of exactly these `plans` in the file `path`; None where there is none that is whole."""
        try:
            return cls._read(path, tuple(plan.key() for plan in plans))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, FlickbookError) as error:
            logger.debug("%s is passed over: %s: %s", path, type(error).__name__, error)
            return None

    @classmethod
    def _read(cls, path: Path, plans: tuple[str, ...]) -> Self:
        # Without waiting: a FIFO is opened only once somebody writes to it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("not a regular file")
            start = file.read(8)
            start += file.read(min(_MOST_HEADER, _end(start) - 8))
            said = json.loads(start[8:])["__metadata__"]
            # Before the rest is read: what is not ours may be of any size.
            if said["schema"] != str(SCHEMA) or tuple(json.loads(said["plans"])) != plans:
                raise ValueError("of other films, or written otherwise")
            data = start + file.read()
        header, digest = memoryview(data)[: len(start)], said["sha256"].encode("ascii")
        if len(digest) != len(_BLANK) or start.count(digest) != 1:
            raise ValueError("has no hash")
        found = hashlib.sha256(bytes(header).replace(digest, _BLANK))
        found.update(memoryview(data)[len(start) :])
        if found.hexdigest().encode() != digest:
            raise ValueError("damaged")
        return cls(
            plans,
            said["family"],
            said["weights"],
            int(said["index"]),
            int(said["total"]),
            Placement.from_json(said["placement"]),
            json.loads(said["made"]),
            # Copies, because in the file's bytes they lie as they fall: kernels may round otherwise there.
            {name: tensor.clone() for name, tensor in load(data).items()},
        )


class Checkpointer:
    """Keeps the state of one run on the disk, in as little of the run's time as it is told.

    The state is looked for in the file `path`, then in those of `also`, and written to `path`. Writing takes at most
    `share` of the run's time, but for two states that are always written: the one of denoised latents, and the last one
    before a stop. `notes` tell people where the run went on and what could not be kept, `spent` (seconds) and `writes`
    what it took. Nothing is written once `may` says no: the run is somebody else's then.
    """

    def __init__(
        self,
        path: Path,
        share: float = 0.02,
        also: Sequence[Path] = (),
        may: Callable[[], bool] | None = None,
    ) -> None:
        self.path, self.share, self.also, self._may = path, share, tuple(also), may
        self.notes: list[str] = []
        self.spent, self.writes = 0.0, 0
        #: What the run went on from, without its tensors; None where it began at the beginning.
        self.went_on: Checkpoint | None = None
        self._looked: tuple[Sequence[Plan], Path, Checkpoint] | None = None
        self._family: Resumable | None = None
        self._latest: Denoised | None = None
        self._cost: float | None = None
        self._began = time.perf_counter()

    def look(self, plans: Sequence[Plan]) -> Checkpoint | None:
        """What a run of these `plans` would go on from, as far as that can be told without the model."""
        if self._looked is None or self._looked[0] != plans:
            found = ((path, Checkpoint.read(path, plans)) for path in (self.path, *self.also))
            self._looked = next(((plans, path, each) for path, each in found if each is not None), None)
        return None if self._looked is None else self._looked[2]

    def begin(self, plans: Sequence[Plan], name: str, family: Family) -> Any | None:
        """The state that a run of `plans` goes on from, None for the beginning; called once the model is loaded.

        `name` is the family's. A state of other weights is passed over, and all are if the family begins again.
        """
        if not isinstance(family, Resumable):
            return None
        self._began, self._family, self._name, self._plans = time.perf_counter(), family, name, tuple(plans)
        self._versions = device.versions()
        self._weights = hashlib.sha256(json.dumps(family.weights, sort_keys=True).encode()).hexdigest()
        self._make_room()
        found = self.look(plans)
        if found is None or self._looked is None:
            return None
        path, self._looked = self._looked[1], None
        if (found.family, found.weights) != (name, self._weights):
            logger.debug("%s is passed over: made by other weights", path)
            return None
        try:
            state = family.unpack(plans, found.tensors)
        except (FlickbookError, RuntimeError, ValueError, TypeError, LookupError) as error:
            logger.debug("%s is passed over: %s", path, error)
            return None
        # Of a draft the first write makes this run's own.
        self._latest = state if path != self.path else None
        self.went_on = replace(found, tensors={})
        self.notes.append(f"went on from step {found.index} of {found.total}{_elsewhere(found, self._made())}")
        return state

    def save(self, state: Denoised) -> None:
        """Told after every step: write the state if it is the last, or if there is time for it."""
        if self._family is None:
            return
        self._latest = state
        cost = self._cost
        if cost is None:
            cost = _SETUP + _TIMES * getattr(state.latents, "nbytes", 0) / _RATE
        # Twice: the last one has to be paid for too.
        if state.index >= state.total or self.spent + 2 * cost <= self.share * (time.perf_counter() - self._began):
            self.flush()

    def flush(self) -> None:
        """Write the latest state now, if it is not written. What goes wrong is noted; the run goes on without."""
        state, family = self._latest, self._family
        if state is None or family is None or (self._may is not None and not self._may()):
            return
        began = time.perf_counter()
        try:
            keys, tensors = tuple(plan.key() for plan in self._plans), family.pack(state)
            how = (state.index, state.total, family.placement, self._made(), tensors)
            Checkpoint(keys, self._name, self._weights, *how).write(self.path)
            # Only now: whoever interrupts a write flushes it once more.
            self._latest, self.writes = None, self.writes + 1
        except (OSError, RuntimeError, MemoryError, ValueError, SafetensorError) as error:
            told = f"the state of the film cannot be kept: {error}"
            if told not in self.notes:
                logger.warning("%s", told)
                self.notes.append(told)
        self._cost = time.perf_counter() - began
        self.spent += self._cost

    def forget(self) -> None:
        """Delete the file: the film is finished, or given up. Those of `also` stay."""
        self._latest = None
        self.path.unlink(missing_ok=True)

    def _made(self) -> dict[str, str]:
        """What decides the last bits of a step, beside the Plan and the weights."""
        assert self._family is not None
        where = self._family.placement
        return device.kernels(where.device) | self._versions | {"device": where.device, "precision": where.dtype}

    def _make_room(self) -> None:
        """The directory, without what writers left that were killed."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for each in self.path.parent.iterdir():
                if each.name.startswith(f".{self.path.name}."):
                    each.unlink(missing_ok=True)


def _end(start: bytes | memoryview) -> int:
    """Where the header of a safetensors file ends that starts like this."""
    return 8 + int.from_bytes(start[:8], "little")


def _elsewhere(found: Checkpoint, here: Mapping[str, str]) -> str:
    """What a note says of steps that were made otherwise than the rest will be."""
    other = [f"{name} {value}" for name, value in sorted(found.made.items()) if here.get(name, value) != value]
    return f", made with {', '.join(other)}" if other else ""
