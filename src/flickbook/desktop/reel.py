"""Films as the window plays them: their frames small enough to be held, decoded away from the window's thread."""

from __future__ import annotations

import tempfile
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image

from flickbook.errors import MediaError
from flickbook.media.decode import film
from flickbook.media.read import read_picture
from flickbook.media.sniff import opened

#: Pixels of all frames that are held at once (3 bytes each), and the most of a side, which no stage exceeds.
_PIXELS: Final = 64 << 20
_SIDE: Final = 1280
_GONE: Final = ("holds no frames", "make it again")


@dataclass(frozen=True, eq=False)
class Reel:
    """Frames in RGB, all of one size, and frames a second."""

    frames: tuple[Image.Image, ...]
    fps: float

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.frames) / self.fps


def read(path: Path) -> Reel:
    """What the file at `path` shows; a picture is a reel of one frame. Raises MediaError."""
    if not _moves(path):
        return Reel((_fitted(read_picture(path), _SIDE),), 1.0)
    with film(path) as source:
        count, rate = source.counted()
        side = min(_SIDE, _affordable(source.width, source.height, max(1, count)))
        with closing(source.shown()) as shown:
            frames = tuple(_fitted(frame.pixels, side) for frame in shown)
    if not frames:
        raise MediaError(path, *_GONE)
    return Reel(frames, float(rate))


def of_bytes(data: bytes, suffix: str = ".webp") -> Reel:
    """What a file of these bytes shows. Raises MediaError."""
    with tempfile.TemporaryDirectory(prefix="flickbook-") as place:
        path = Path(place, f"preview{suffix}")
        path.write_bytes(data)
        return read(path)


def still(path: Path, side: int) -> Image.Image:
    """The frame in the middle of a film, or the picture, at most `side` pixels wide and high. Raises MediaError."""
    if not _moves(path):
        return _fitted(read_picture(path), side)
    with film(path) as source:
        middle = source.counted()[0] // 2
        with closing(source.shown()) as shown:
            last = deque(islice(shown, middle + 1), maxlen=1)
    if not last:
        raise MediaError(path, *_GONE)
    return _fitted(last[0].pixels, side)


def _moves(path: Path) -> bool:
    with opened(path, None, "either") as (_, form, _):
        return form.moves


def _affordable(width: int, height: int, count: int) -> int:
    """The longer side of frames of which so many can be held."""
    scale = (_PIXELS / (width * height * count)) ** 0.5
    return max(64, int(max(width, height) * scale))


def _fitted(frame: Any, side: int) -> Image.Image:
    """A frame (height, width, 3) as a picture at most `side` pixels wide and high."""
    image = Image.fromarray(frame)
    scale = min(1.0, side / max(image.size))
    if scale == 1.0:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)
