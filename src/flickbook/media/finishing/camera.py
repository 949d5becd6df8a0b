"""Camera moves over finished frames: a view that is smaller than the frames moves across them."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from flickbook.errors import RequestError
from flickbook.media.write import check_frames

#: The share of the frame's width and height that the view shows where it moves.
VIEW: Final = 0.8
#: Where the centre of the view is at the start and at the end: across and down, -1 to 1 of the room that it has; and
#: the size of the view as a share of the frame.
_MOVES: Final[dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]]] = {
    "pan-left": ((1, 0, VIEW), (-1, 0, VIEW)),
    "pan-right": ((-1, 0, VIEW), (1, 0, VIEW)),
    "tilt-up": ((0, 1, VIEW), (0, -1, VIEW)),
    "tilt-down": ((0, -1, VIEW), (0, 1, VIEW)),
    "zoom-in": ((0, 0, 1.0), (0, 0, VIEW)),
    "zoom-out": ((0, 0, VIEW), (0, 0, 1.0)),
}


def camera(frames: np.ndarray, move: str) -> np.ndarray:
    """Move the view over frames (n, h, w, 3) uint8 from the first to the last; returns a new array of that shape.

    The view shows 0.8 of the width and height, and is enlarged to the frame (Lanczos). It begins and ends slowly
    (3t² - 2t³). Raises RequestError for an unknown move.
    """
    if move not in _MOVES:
        raise RequestError("camera", move, "unknown", f"choose {', '.join(_MOVES)}")
    check_frames(frames)
    count, height, width, _ = frames.shape
    begin, end = (np.array(each, dtype=np.float64) for each in _MOVES[move])
    moved = np.empty_like(frames)
    for number, frame in enumerate(frames):
        t = number / max(1, count - 1)
        across, down, size = begin + (end - begin) * (t * t * (3 - 2 * t))
        left, top = (1 + across) / 2 * width * (1 - size), (1 + down) / 2 * height * (1 - size)
        # Rounding may put an edge slightly outside the frame.
        box = (left, top, min(float(width), left + width * size), min(float(height), top + height * size))
        picture = Image.fromarray(np.ascontiguousarray(frame))
        moved[number] = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS, box=box))
    return moved
