"""Single frames of a video: the middle one, the last one, or several on a contact sheet. Tasks of probe_child.py."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image

from flickbook.errors import MediaError
from flickbook.media.sheet import chosen, contact_sheet
from flickbook.media.untrusted.decode import film
from flickbook.media.untrusted.picture import picture, pixels
from flickbook.media.untrusted.sniff import opened
from flickbook.media.write import FilePath

#: Pixels of a thumbnail's longer side and of a frame on the sheet, and frames per sheet.
_SIDE: Final = 512
_CELL: Final = 192
_COLUMNS: Final = 8
_NO_FRAMES: Final = ("holds no frames", "make it again")


def thumbnail(path: FilePath) -> Iterator[bytes]:
    """Task: a WebP of the middle frame of a video, at most 512 pixels wide and high."""
    (frame,) = middle(path, _SIDE)
    yield _saved(Image.fromarray(frame), "WEBP", quality=85)


def middle(path: FilePath, side: int) -> Iterator[np.ndarray]:
    """Task: the middle frame of a video, or an image, (height, width, 3) uint8, at most `side` wide and high."""
    yield _frames(path, lambda count: [count // 2], side)[0]


def sheet(path: FilePath, label: str) -> Iterator[bytes]:
    """Task: a PNG of up to eight frames of a video, with `label` above them."""
    frames = _frames(path, lambda count: chosen(count, _COLUMNS), _CELL)
    yield _saved(contact_sheet([np.stack(frames)], [label], _COLUMNS, cell=_CELL), "PNG")


def last(path: FilePath) -> Iterator[bytes]:
    """Task: a PNG of the last frame of a video, or of an image, at full size."""
    if not _moves(path):
        frame = _still(path)
    else:
        with film(path) as source, closing(source.shown()) as frames:
            kept = deque(frames, maxlen=1)
        if not kept:
            raise MediaError(path, *_NO_FRAMES)
        frame = kept[0].pixels
    yield _saved(Image.fromarray(frame), "PNG")


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _moves(path: FilePath) -> bool:
    with opened(path, None, "either") as (_, form, _):
        return form.moves


def _still(path: FilePath) -> np.ndarray:
    with opened(path, None, "picture") as (file, form, judge), picture(path, file, form, judge) as image:
        return pixels(path, image)


def _frames(path: FilePath, choose: Callable[[int], list[int]], side: int) -> list[np.ndarray]:
    """Return frames of a video by their indices, at most `side` wide and high. The video is never held as a whole."""
    if not _moves(path):
        return [_small(_still(path), side)]
    with film(path) as source:
        count, _ = source.counted()
        chosen = choose(count)
        found: list[np.ndarray] = []
        with closing(source.shown()) as frames:
            for number, frame in enumerate(frames):
                if number in chosen:
                    found.append(_small(frame.pixels, side))
                if number >= chosen[-1]:
                    break
    if not found:
        raise MediaError(path, *_NO_FRAMES)
    return found


def _small(frame: Any, side: int) -> np.ndarray:
    height, width, _ = frame.shape
    scale = min(1.0, side / max(height, width))
    if scale == 1.0:
        return np.asarray(frame)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
