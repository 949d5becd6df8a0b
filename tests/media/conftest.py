"""Films of any format, written on the spot."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

Encode = Callable[..., Path]
PIXELS = {"mjpeg": "yuvj420p", "gif": "gray"}


def _encode(path: Path, frames: np.ndarray, codec: str = "libx264", fps: int = 8, **given: Any) -> Path:
    """Write `frames` (n, h, w, 3) uint8 to `path`; the suffix says the format.

    `times` are the frames' times in 1/fps seconds, `turned` the degrees a player turns them against the clock, `codec
    options` are the encoder's and `muxer` the muxer's options.
    """
    form = {".mkv": "matroska"}.get(path.suffix, path.suffix[1:])
    with av.open(str(path), "w", format=form, options=given.get("muxer", {})) as container:
        stream = container.add_stream(codec, rate=fps, options=given.get("options", {}))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        if "turned" in given:
            stream.set_display_rotation(given["turned"])
        for at, frame in zip(given.get("times", range(len(frames))), frames, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=stream.pix_fmt)
            picture.pts, picture.time_base = at, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def encode() -> Encode:
    return _encode


def _steps(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that are each of one grey, 8 brighter than the one before, so that a frame tells its number."""
    assert count <= 28
    greys = (20 + 8 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    return np.ascontiguousarray(np.broadcast_to(greys, (count, height, width, 3)))


@pytest.fixture(scope="session")
def steps() -> Callable[..., np.ndarray]:
    return _steps


@pytest.fixture(scope="session")
def numbers() -> Callable[[np.ndarray], list[int]]:
    """The numbers of the frames of `steps` that a film shows."""
    return lambda frames: [int(round((grey - 20) / 8)) for grey in frames.mean(axis=(1, 2, 3))]
