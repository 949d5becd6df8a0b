"""Decoded films for playback: frames are scaled down to fit into memory, and decoded outside Tk's thread."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from flickbook.media.read import array, read_picture
from flickbook.media.untrusted import probe
from flickbook.media.untrusted.sniff import Limits, opened

#: Maximum pixels of all frames in memory (3 bytes each), and of a side, which no screen area exceeds.
_PIXELS: Final = 64 << 20
_SIDE: Final = 1280
#: Frames are scaled down on arrival, so a film may have more of them than elsewhere.
_LIMITS: Final = Limits(frames=1 << 18, decoded_bytes=1 << 50)


@dataclass(frozen=True, eq=False)
class FrameBuffer:
    """RGB frames of equal size, and the frame rate."""

    frames: tuple[Image.Image, ...]
    fps: float

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.frames) / self.fps


def read(path: Path) -> FrameBuffer:
    """Decodes the file at `path`; a picture becomes one frame. Raises MediaError."""
    if not _moves(path):
        return FrameBuffer((_fitted(read_picture(path), _SIDE),), 1.0)
    frames: list[Image.Image] = []
    with closing(probe.stream("video", path, limits=asdict(_LIMITS))) as messages:
        header = next(messages).value
        for message in messages:
            if not message.answer:
                height, width, _ = message.value["shape"]
                frames.append(_fitted(array(message), min(_SIDE, _affordable(width, height, header["most"]))))
    return FrameBuffer(tuple(frames), header["rate"])


def of_bytes(data: bytes) -> FrameBuffer:
    """Decodes a file in memory. Raises MediaError."""
    with tempfile.TemporaryDirectory(prefix="flickbook-") as place:
        path = Path(place, "preview.webp")
        path.write_bytes(data)
        return read(path)


def still(path: Path, side: int) -> Image.Image:
    """The middle frame of a film, or the picture, at most `side` pixels wide and high. Raises MediaError."""
    return _fitted(array(probe.ask("middle", path, probe.DECODE, side=side)), side)


def _moves(path: Path) -> bool:
    with opened(path, None, "either") as (_, form, _):
        return form.moves


def _affordable(width: int, height: int, count: int) -> int:
    """The maximum longer side of `count` frames that fit into memory."""
    scale = (_PIXELS / (width * height * count)) ** 0.5
    return max(64, int(max(width, height) * scale))


def _fitted(frame: Any, side: int) -> Image.Image:
    """Converts a frame (height, width, 3) to an image at most `side` pixels wide and high."""
    image = Image.fromarray(frame)
    scale = min(1.0, side / max(image.size))
    if scale == 1.0:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)
