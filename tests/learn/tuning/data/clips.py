"""Small datasets, written on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flickbook.media.write import write, write_png


def video(path: Path, frames: int = 6, width: int = 64, height: int = 48, fps: float = 8) -> Path:
    """A video whose frames are each of one grey, 6 brighter than the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    greys = (10 + 6 * np.arange(frames)).astype(np.uint8)[:, None, None, None]
    write(path, np.ascontiguousarray(np.broadcast_to(greys, (frames, height, width, 3))), fps)
    return path


def picture(path: Path, width: int = 64, height: int = 48) -> Path:
    """A picture whose left half is black and whose right half is white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 255
    write_png(path, pixels)
    return path


def text(path: Path, content: str | bytes) -> Path:
    """A file of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path
