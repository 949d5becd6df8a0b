"""What is given up when memory runs out, one rung at a time, so that a film goes on instead of being lost.

Decoding: fewer frames at once, tiles, the processor. Denoising: the two halves of guidance one after the other,
networks that wait in the machine's memory, their layers too, the processor.
"""

from __future__ import annotations

from typing import Literal

from flickbook.engine.memory.device import on_processor
from flickbook.spec import Placement

Climbing = Literal["denoise", "decode"]
#: How the processor's allocator, Metal and CUDA's libraries say that there is no more memory.
_SAID = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
#: Frames decoded at once, from rung to rung.
_FRAMES = (16, 4, 1)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the processor."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def lower(placement: Placement, phase: Climbing, family: str = "unet") -> Placement | None:
    """The next rung down for a phase of a model of `family`; None below the last one."""
    own, alone = family == "unet", placement.device == "cpu"
    changes: dict[str, object]
    # A pipeline decodes a film in one go, and runs guidance as it likes.
    if phase == "decode" and own and placement.decode_frames > 1:
        changes = {"decode_frames": next(count for count in _FRAMES if count < placement.decode_frames)}
    elif phase == "decode" and not placement.tiling:
        changes = {"tiling": True}
    elif phase == "denoise" and own and not placement.slicing:
        changes = {"slicing": True}
    elif phase == "denoise" and not alone and placement.offload == "none":
        changes = {"offload": "model"}
    elif phase == "denoise" and not alone and not own and placement.offload == "model":
        changes = {"offload": "sequential"}
    elif not alone:
        dtype, quantize = placement.dtype, placement.quantize
        # What weights are kept in stays as it is, for they are there already.
        placement = on_processor(placement).model_copy(update={"quantize": quantize})
        changes = {"device": placement.device, "offload": placement.offload}
        changes |= {"dtype": placement.dtype} if placement.dtype != dtype else {}
    else:
        return None
    name = ", ".join(f"{field} {value}" if value is not True else field for field, value in changes.items() if value)
    return placement.model_copy(update={**changes, "rungs": (*placement.rungs, f"{phase}: {name}")})
