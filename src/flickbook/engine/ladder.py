"""What is given up when memory runs out, one rung at a time, so that a film goes on instead of being lost.

Decoding: fewer frames at once, tiles, the processor. Denoising: the two halves of guidance one after the other,
networks that wait in the machine's memory, their layers too, the processor.
"""

from __future__ import annotations

from typing import Literal

from flickbook.spec import Placement

Climbing = Literal["denoise", "decode"]
#: Frames decoded at once, from rung to rung.
_FRAMES = (16, 4, 1)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the processor."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def lower(placement: Placement, phase: Climbing) -> Placement | None:
    """The next rung down for a phase; None below the last one."""
    alone = placement.device == "cpu"
    changes: dict[str, object]
    if phase == "decode" and placement.decode_frames > 1:
        changes = {"decode_frames": next(count for count in _FRAMES if count < placement.decode_frames)}
    elif phase == "decode" and not placement.tiling:
        changes = {"tiling": True}
    elif phase == "denoise" and not placement.slicing:
        changes = {"slicing": True}
    elif phase == "denoise" and not alone and placement.offload != "sequential":
        changes = {"offload": "model" if placement.offload == "none" else "sequential"}
    elif not alone:
        # Of half precisions only bfloat16 has kernels on every processor.
        changes = {"device": "cpu", "offload": "none", "quantize": ""}
        changes |= {"dtype": "bfloat16"} if placement.dtype == "float16" else {}
    else:
        return None
    name = ", ".join(f"{field} {value}" if value is not True else field for field, value in changes.items() if value)
    return placement.model_copy(update={**changes, "rungs": (*placement.rungs, f"{phase}: {name}")})
