"""A film as one picture: a frame of it, or a sheet. Made when first asked for, and kept beside the film."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from flickbook.errors import JobNotFound, MediaError
from flickbook.files import replace_whole

#: Pixels of a thumbnail's longer side, of a sheet's frame, and its frames.
_SIDE: Final = 512
_CELL: Final = 192
_COLUMNS: Final = 8
#: Two films are decoded at once: more would slow down all that is asked meanwhile.
_POOL: Final = ThreadPoolExecutor(2, "stills")


async def thumbnail(film: Path) -> Path:
    """A WebP of the frame in the middle of a film. Raises JobNotFound where the film is gone."""
    return await _kept(film, f"{film.stem}-thumbnail.webp", _thumbnail)


async def sheet(film: Path, label: str) -> Path:
    """A PNG of up to eight frames of a film with a label above. Raises JobNotFound where the film is gone."""
    return await _kept(film, f"{film.stem}-sheet.png", lambda path, draft: _sheet(path, draft, label))


async def last(film: Path) -> Path:
    """A PNG of a film's last frame, as large as it is. Raises JobNotFound where the film is gone."""
    return await _kept(film, f"{film.stem}-last.png", lambda path, draft: last_frame(path).save(draft, "PNG"))


async def _kept(film: Path, name: str, draw: Callable[[Path, Path], object]) -> Path:
    found = film.with_name(name)
    if found.is_file():
        return found

    def make() -> None:
        if found.is_file():
            return  # another asked first
        replace_whole(found, lambda draft: draw(film, draft))

    try:
        await asyncio.get_running_loop().run_in_executor(_POOL, make)
    except (FileNotFoundError, MediaError):
        raise JobNotFound(film.parent.name) from None
    return found


def _thumbnail(film: Path, draft: Path) -> None:
    frame = _frames(film, lambda count: [count // 2], _SIDE)[0]
    Image.fromarray(frame).save(draft, "WEBP", quality=85)


def _sheet(film: Path, draft: Path, label: str) -> None:
    from flickbook.media.sheet import chosen, contact_sheet

    frames = _frames(film, lambda count: chosen(count, _COLUMNS), _CELL)
    contact_sheet([np.stack(frames)], [label], _COLUMNS, cell=_CELL).save(draft, "PNG")


def last_frame(path: Path) -> Image.Image:
    """The last frame of a film, or a picture itself. It blocks. Raises MediaError."""
    from flickbook.media.read import film, read_picture

    if not _moves(path):
        return Image.fromarray(read_picture(path))
    with film(path) as source, closing(source.shown()) as frames:
        kept = deque(frames, maxlen=1)
    if not kept:
        raise MediaError(path, "holds no frames", "name another film")
    return Image.fromarray(kept[0].pixels)


def _moves(path: Path) -> bool:
    from flickbook.media.sniff import opened

    with opened(path, None, "either") as (_, form, _):
        return form.moves


def _frames(path: Path, choose: Callable[[int], list[int]], side: int) -> list[np.ndarray]:
    """Frames of a film by their numbers, as large as `side`; the film is never held whole."""
    from flickbook.media.read import film, read_picture

    if not _moves(path):
        return [_small(read_picture(path), side)]
    with film(path) as source:
        count, _ = source.counted()
        wanted = choose(count)
        found: list[np.ndarray] = []
        with closing(source.shown()) as frames:
            for number, frame in enumerate(frames):
                if number in wanted:
                    found.append(_small(frame.pixels, side))
                if number >= wanted[-1]:
                    break
    if not found:
        raise MediaError(path, "holds no frames", "make it again")
    return found


def _small(frame: Any, side: int) -> np.ndarray:
    height, width, _ = frame.shape
    scale = min(1.0, side / max(height, width))
    if scale == 1.0:
        return np.asarray(frame)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
