"""Encoding of a film in a background thread, while its frames are still being made.

The packets are kept in memory. The file's header contains the recipe, which contains the hash of all frames, so the
file is written once all frames exist.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from fractions import Fraction
from queue import Queue
from typing import TYPE_CHECKING, Final

import numpy as np

from flickbook.media.encode import encoded
from flickbook.spec import Encoding

if TYPE_CHECKING:
    from flickbook.media.encode import Packets

#: Slices of frames that may wait for the encoder. A full queue blocks the producer.
_WAITING: Final = 2


class Ahead:
    """Encodes the frames of one film in its own thread, from the first `add` until `end`.

    Encoder errors are not raised here: there are then no packets, the film is encoded when it is saved, and the error
    is raised there.
    """

    def __init__(self, how: Encoding, shape: tuple[int, int, int, int], fps: Fraction) -> None:
        """`shape` is that of the whole film: (frames, height, width, 3)."""
        self._how, self._shape, self._fps = how, shape, fps
        self._slices: Queue[np.ndarray | None] = Queue(_WAITING)
        self._digest = hashlib.sha256(f"uint8 {','.join(map(str, shape))}\n".encode())
        self._made: Packets | None = None
        self._thread: threading.Thread | None = None

    def add(self, frames: np.ndarray) -> None:
        """Add the next frames (n, height, width, 3) uint8. They must not be modified afterwards."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._encode, name="encoder", daemon=True)
            self._thread.start()
        self._slices.put(frames)

    def end(self) -> None:
        """Signal that no more frames follow, because the film is complete or was abandoned."""
        if self._thread is not None and self._thread.is_alive():
            self._slices.put(None)

    def packets(self, how: Encoding, frames_sha256: str) -> Packets | None:
        """Wait for the encoder and return its packets; None unless they hold exactly these frames, encoded as `how`."""
        if self._thread is not None:
            self._thread.join()
        return self._made if (how, frames_sha256) == (self._how, self._digest.hexdigest()) else None

    def _encode(self) -> None:
        slices = self._coming()
        try:
            self._made = encoded(slices, self._shape[1], self._shape[2], self._fps, self._how)
        except Exception:  # any error: encoding is repeated on save, where it is reported
            for _ in slices:
                pass

    def _coming(self) -> Iterator[np.ndarray]:
        while (frames := self._slices.get()) is not None:
            for frame in frames:
                self._digest.update(np.ascontiguousarray(frame).data)
            yield frames
