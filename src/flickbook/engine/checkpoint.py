"""Checkpoints: the state of an interrupted run in one verified safetensors file.

The file holds the family's state (for the project's own U-Net: latents, step and solver history) and, in its metadata,
the keys of its Plans and the number of steps done. A SHA-256 covers every byte of the file. A file that is truncated,
damaged or of another run is ignored, and the film starts again. Nothing in the file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import logging
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
from flickbook.files import open_regular, replace_whole
from flickbook.spec import Placement, Plan

logger = logging.getLogger(__name__)

SCHEMA: Final = 1
#: Placeholder for the file's hash, which is stored in the file: the hash is computed with 64 zeros in its place.
_BLANK: Final = b"0" * 64
#: The most bytes of a header; the header of 64 films of a large model needs a hundredth of it.
_MOST_HEADER: Final = 2**20
#: The assumed cost of the first write, before one is measured: seconds, plus bytes per second. A state is about
#: `_TIMES` times as large as its latents.
_SETUP, _RATE, _TIMES = 0.01, 1e8, 4


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The progress of a batch, and the tensors that the rest of the run depends on.

    `plans` are the Plans' keys in order, `weights` is a SHA-256 over the weights' hashes, `placement` and `made`
    (libraries and kernels) describe where the steps ran. `index` of `total` steps are done.
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
        """The next phase: "denoise", or "decode" if all steps are done."""
        return "decode" if self.index >= self.total else "denoise"

    def write(self, path: Path) -> None:
        """Write the file `path` atomically; it is on disk when this returns. Raises OSError."""
        metadata = {
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
        data = memoryview(save(dict(self.tensors), metadata))
        at = bytes(data[: _end(data)]).index(_BLANK)
        digest = hashlib.sha256(data).hexdigest().encode()

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                for part in (data[:at], digest, data[at + len(_BLANK) :]):
                    file.write(part)

        replace_whole(path, write)

    @classmethod
    def read(cls, path: Path, plans: Sequence[Plan]) -> Self | None:
        """Read the state of exactly these `plans` from `path`; None if the file is missing or invalid."""
        try:
            return cls._read(path, tuple(plan.key() for plan in plans))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError, FlickbookError) as error:
            logger.debug("checkpoint %s is ignored: %s: %s", path, type(error).__name__, error)
            return None

    @classmethod
    def _read(cls, path: Path, plans: tuple[str, ...]) -> Self:
        with open_regular(path) as file:
            start = file.read(8)
            start += file.read(min(_MOST_HEADER, _end(start) - 8))
            metadata = json.loads(start[8:])["__metadata__"]
            # Checked before the rest is read: a foreign file may have any size.
            if metadata["schema"] != str(SCHEMA) or tuple(json.loads(metadata["plans"])) != plans:
                raise ValueError("belongs to other films or another version")
            data = start + file.read()
        header, digest = memoryview(data)[: len(start)], metadata["sha256"].encode("ascii")
        if len(digest) != len(_BLANK) or start.count(digest) != 1:
            raise ValueError("has no hash")
        found = hashlib.sha256(bytes(header).replace(digest, _BLANK))
        found.update(memoryview(data)[len(start) :])
        if found.hexdigest().encode() != digest:
            raise ValueError("damaged")
        return cls(
            plans,
            metadata["family"],
            metadata["weights"],
            int(metadata["index"]),
            int(metadata["total"]),
            Placement.from_json(metadata["placement"]),
            json.loads(metadata["made"]),
            # Copies, because tensors in the file's bytes are not aligned, and kernels may round differently there.
            {name: tensor.clone() for name, tensor in load(data).items()},
        )


class Checkpointer:
    """Saves the state of one run to disk, within a limited share of the run's time.

    The state is looked for in `path`, then in the files of `also`, and written to `path`. Writing takes at most `share`
    of the run's time; two states are written regardless: the denoised latents, and the last state before a stop.
    `notes` tell the user where the run resumed and what could not be saved; `spent` (seconds) and `writes` the cost.
    Nothing is written once `may` returns False: the job then belongs to another worker.
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
        #: The checkpoint that the run resumed from, without its tensors; None if it started from the beginning.
        self.resumed_from: Checkpoint | None = None
        self._looked: tuple[Sequence[Plan], Path, Checkpoint] | None = None
        self._family: Resumable | None = None
        self._latest: Denoised | None = None
        self._cost: float | None = None
        self._began = time.perf_counter()

    def look(self, plans: Sequence[Plan]) -> Checkpoint | None:
        """The checkpoint a run of `plans` would resume from, as far as can be known without loading the model."""
        if self._looked is None or self._looked[0] != plans:
            found = ((path, Checkpoint.read(path, plans)) for path in (self.path, *self.also))
            self._looked = next(((plans, path, each) for path, each in found if each is not None), None)
        return None if self._looked is None else self._looked[2]

    def begin(self, plans: Sequence[Plan], name: str, family: Family) -> Any | None:
        """The state that a run of `plans` resumes from, or None to start from the beginning. Called with the model
        loaded.

        `name` is the family's name. A state of other weights is ignored, and any state if the family cannot resume.
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
            logger.debug("checkpoint %s is ignored: made with other weights", path)
            return None
        try:
            state = family.unpack(plans, found.tensors)
        except (FlickbookError, RuntimeError, ValueError, TypeError, LookupError) as error:
            logger.debug("checkpoint %s is ignored: %s", path, error)
            return None
        # A state from another file, as a draft's, is not at `path` yet, so it has to be written.
        self._latest = state if path != self.path else None
        self.resumed_from = replace(found, tensors={})
        self.notes.append(f"resumed from step {found.index} of {found.total}{_elsewhere(found, self._made())}")
        return state

    def save(self, state: Denoised) -> None:
        """Called after every step: write the state if it is the last, or if the time budget allows."""
        if self._family is None:
            return
        self._latest = state
        cost = self._cost
        if cost is None:
            cost = _SETUP + _TIMES * getattr(state.latents, "nbytes", 0) / _RATE
        # Twice the cost: the last write has to fit into the budget too.
        if state.index >= state.total or self.spent + 2 * cost <= self.share * (time.perf_counter() - self._began):
            self.flush()

    def flush(self) -> None:
        """Write the latest state now, if it is unsaved. An error becomes a note, and the run continues."""
        state, family = self._latest, self._family
        if state is None or family is None or (self._may is not None and not self._may()):
            return
        began = time.perf_counter()
        try:
            keys, tensors = tuple(plan.key() for plan in self._plans), family.pack(state)
            how = (state.index, state.total, family.placement, self._made(), tensors)
            Checkpoint(keys, self._name, self._weights, *how).write(self.path)
            # Cleared only after the write: if it is interrupted, the next flush repeats it.
            self._latest, self.writes = None, self.writes + 1
        except (OSError, RuntimeError, MemoryError, ValueError, SafetensorError) as error:
            message = f"the checkpoint cannot be saved: {error}"
            if message not in self.notes:
                logger.warning("%s", message)
                self.notes.append(message)
        self._cost = time.perf_counter() - began
        self.spent += self._cost

    def forget(self) -> None:
        """Delete the file, because the film is finished or discarded. The files of `also` are kept."""
        self._latest = None
        self.path.unlink(missing_ok=True)

    def _made(self) -> dict[str, str]:
        """What affects the last bits of a step, in addition to the Plan and the weights."""
        assert self._family is not None
        where = self._family.placement
        return device.kernels(where.device) | self._versions | {"device": where.device, "precision": where.dtype}

    def _make_room(self) -> None:
        """Create the directory, and delete temporary files that killed writers left."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for each in self.path.parent.iterdir():
                if each.name.startswith(f".{self.path.name}."):
                    each.unlink(missing_ok=True)


def _end(start: bytes | memoryview) -> int:
    """The offset of the end of the header, from the first 8 bytes of a safetensors file."""
    return 8 + int.from_bytes(start[:8], "little")


def _elsewhere(found: Checkpoint, here: Mapping[str, str]) -> str:
    """For the note: how the environment of the earlier steps differs from this one; "" if it does not."""
    made = device.completed(found.made, found.family)
    other = [f"{name} {value}" for name, value in sorted(made.items()) if here.get(name, value) != value]
    return f", made with {', '.join(other)}" if other else ""
