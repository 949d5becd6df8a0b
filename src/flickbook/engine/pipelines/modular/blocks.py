"""Modular pipelines of diffusers with the interface of its other pipelines.

A modular pipeline is a tree of blocks. Its call takes the inputs of all blocks by name, and has no callback: a leaf
that is put at the end of each loop reports the steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import torch

from flickbook.engine.pipelines.directory import checked, index_of

#: Modular pipelines that are run -> their blocks.
BLOCKS: Final = {"LTX25ModularPipeline": "LTX25AutoBlocks"}

_LEAF: Final = "flickbook_report"


class Modular:
    """A modular pipeline: its components are attributes, its call returns `frames` and `audio`."""

    def __init__(self, pipe: Any) -> None:
        vars(self)["_pipe"] = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_pipe"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._pipe, name, value)

    def to(self, *arguments: Any) -> Modular:
        """Move all networks to a device or a precision."""
        self._pipe.to(*arguments)
        return self

    @property
    def config(self) -> dict[str, Any]:
        """Settings of the pipeline besides its components: there are none."""
        return {}

    def enable_model_cpu_offload(self, device: str) -> None:
        """Keep the networks in host memory, and their layers on the device only while they run."""
        from accelerate import cpu_offload

        for part in self._networks():
            cpu_offload(part, execution_device=torch.device(device))

    enable_sequential_cpu_offload = enable_model_cpu_offload

    def remove_all_hooks(self) -> None:
        """Undo the offloading."""
        from accelerate.hooks import remove_hook_from_module

        for part in self._networks():
            remove_hook_from_module(part, recurse=True)

    def _networks(self) -> list[torch.nn.Module]:
        return [part for part in self._pipe.components.values() if isinstance(part, torch.nn.Module)]

    @staticmethod
    def _unpack_latents(*arguments: Any) -> Any:
        from diffusers import LTX2Pipeline

        return LTX2Pipeline._unpack_latents(*arguments)

    @contextmanager
    def reporting(self, report: Callable[[], None]) -> Iterator[None]:
        """Call `report` after each step of a loop."""
        loops = list(_loops(self._pipe._blocks))
        for loop in loops:
            loop.set_progress_bar_config(disable=True)
            loop.sub_blocks.insert(_LEAF, _leaf(report), len(loop.sub_blocks))
        try:
            yield
        finally:
            for loop in loops:
                del loop.sub_blocks[_LEAF]

    def _run(self, arguments: dict[str, Any]) -> SimpleNamespace:
        found = self._pipe(**arguments, output=["videos", "audio"])
        return SimpleNamespace(frames=found["videos"], audio=found["audio"])


def _loops(blocks: Any) -> Iterator[Any]:
    from diffusers.modular_pipelines import LoopSequentialPipelineBlocks

    if isinstance(blocks, LoopSequentialPipelineBlocks):
        yield blocks
        return
    for each in blocks.sub_blocks.values():
        yield from _loops(each)


def _leaf(report: Callable[[], None]) -> Any:
    from diffusers.modular_pipelines import ModularPipelineBlocks

    class Report(ModularPipelineBlocks):
        """Changes nothing; reports that all blocks of a step have run."""

        def __call__(self, components: Any, state: Any, **step: Any) -> tuple[Any, Any]:
            report()
            return components, state

    return Report()


def load_modular(place: Path, name: str, how: dict[str, Any]) -> Any:
    """The modular pipeline of class `name` in a directory. Its components come from that directory only.

    Raises WeightsError for a damaged one.
    """
    import diffusers.modular_pipelines

    blocks: Any = getattr(diffusers.modular_pipelines, BLOCKS[name])()
    pipe = blocks.init_pipeline()
    parts = {part: found for part, kind in index_of(place).items() if (found := _part(place, part, kind, how))}
    pipe.update_components(**parts)
    return wrapped(pipe)


def wrapped(pipe: Any) -> Any:
    """A modular pipeline as a `Modular` of its class's name, whose call has the blocks' inputs as parameters."""

    def call(self: Modular, **arguments: Any) -> SimpleNamespace:
        return self._run(arguments)

    names = dict.fromkeys(["self", *(each.name for each in pipe.blocks.inputs if each.name)])
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind, default=None) for name in names]
    )
    return type(type(pipe).__name__, (Modular,), {"__call__": call})(pipe)


def _part(place: Path, name: str, kind: Any, how: dict[str, Any]) -> Any:
    """A component of an index; None for a setting, and for a component that the directory does not have."""
    if not isinstance(kind, list) or kind[0] is None or not (place / name).is_dir():
        return None
    library, title = kind[:2]
    home = library if library in ("diffusers", "transformers") else f"diffusers.pipelines.{library}"
    found = getattr(import_module(home), title)
    network = isinstance(found, type) and issubclass(found, torch.nn.Module)
    options = how if network else {"local_files_only": True}
    return checked(lambda: found.from_pretrained(str(place / name), **options), place / name)
