"""The trees of blocks that make up the supported modular pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

_LEAF: Final = "flickbook_report"


def _library(module: str = "") -> Any:
    """A module of diffusers' modular pipelines, which have no types; imported late, because it takes seconds."""
    return import_module(f"diffusers.modular_pipelines{module}")


def _ltx25() -> Any:
    """LTX-2.5 with the convolutional decoder of its autoencoder.

    Its diffusion decoder needs a kernel that is downloaded as code, and without it more memory than any device has.
    """
    blocks = _library().LTX25AutoBlocks()
    blocks.sub_blocks["decode"] = _library(".ltx2.modular_blocks_ltx2").LTX2AutoDecoderStep()
    for unused in ("prompt_enhancer", "duration"):
        del blocks.sub_blocks[unused]
    return blocks


def _minimax_h3() -> Any:
    """MiniMax-H3 from words and from a first and last frame."""
    return _library().MiniMaxH3Blocks()


#: Modular pipelines that are run -> what builds their blocks.
BLOCKS: Final[dict[str, Callable[[], Any]]] = {
    "LTX25ModularPipeline": _ltx25,
    "MiniMaxH3ModularPipeline": _minimax_h3,
}


@contextmanager
def reporting(blocks: Any, report: Callable[[], None]) -> Iterator[None]:
    """Call `report` after each step of the loops in a tree of blocks. Modular pipelines have no step callback."""
    loops = list(_loops(blocks))
    for loop in loops:
        loop.set_progress_bar_config(disable=True)
        loop.sub_blocks.insert(_LEAF, _leaf(report), len(loop.sub_blocks))
    try:
        yield
    finally:
        for loop in loops:
            del loop.sub_blocks[_LEAF]


def _loops(blocks: Any) -> Iterator[Any]:
    if isinstance(blocks, _library().LoopSequentialPipelineBlocks):
        yield blocks
        return
    for each in blocks.sub_blocks.values():
        yield from _loops(each)


def _leaf(report: Callable[[], None]) -> Any:
    kind: Any = _library().ModularPipelineBlocks

    class Report(kind):  # type: ignore[misc]
        """Changes nothing; reports that all blocks of a step have run."""

        def __call__(self, components: Any, state: Any, **step: Any) -> tuple[Any, Any]:
            report()
            return components, state

    return Report()
