"""Fallbacks when memory runs out: each changes the Placement to save memory, so that the film continues.

For decoding: fewer frames at once, tiles, the CPU. For denoising: the two halves of guidance one after the other,
networks offloaded to the machine's memory, then single layers, the CPU.
"""

from __future__ import annotations

from typing import Literal

from flickbook.engine.memory.device import on_processor
from flickbook.spec import Placement

Climbing = Literal["denoise", "decode"]
#: Error texts for exhausted memory, of the CPU's allocator, Metal and the CUDA libraries.
_MESSAGES = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
#: Frames decoded at once, from fallback to fallback.
_FRAMES = (16, 4, 1)


def ran_out(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on a GPU or a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def lower(placement: Placement, phase: Climbing, family: str = "unet") -> Placement | None:
    """The placement after the next fallback for a phase of a model of `family`; None if none is left."""
    unet, on_cpu = family == "unet", placement.device == "cpu"
    changes: dict[str, object]
    # A diffusers pipeline decodes a film as a whole and runs guidance its own way.
    if phase == "decode" and unet and placement.decode_frames > 1:
        changes = {"decode_frames": next(count for count in _FRAMES if count < placement.decode_frames)}
    elif phase == "decode" and not placement.tiling:
        changes = {"tiling": True}
    elif phase == "denoise" and unet and not placement.slicing:
        changes = {"slicing": True}
    elif phase == "denoise" and not on_cpu and placement.offload == "none":
        changes = {"offload": "model"}
    elif phase == "denoise" and not on_cpu and not unet and placement.offload == "model":
        changes = {"offload": "sequential"}
    elif not on_cpu:
        dtype, quantize = placement.dtype, placement.quantize
        # The weights stay quantized as they are, because they are loaded already.
        placement = on_processor(placement).model_copy(update={"quantize": quantize})
        changes = {"device": placement.device, "offload": placement.offload}
        changes |= {"dtype": placement.dtype} if placement.dtype != dtype else {}
    else:
        return None
    name = ", ".join(f"{field} {value}" if value is not True else field for field, value in changes.items() if value)
    return placement.model_copy(update={**changes, "rungs": (*placement.rungs, f"{phase}: {name}")})
