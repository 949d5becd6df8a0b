"""A film that is encoded while its frames are still being made.

Its packets wait in memory: the file carries a recipe, which names the hash of all frames, so it is written, whole, when
they are there.
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

#: Slices of frames that wait for the encoder; where it is slower, the frames wait for it.
_WAITING: Final = 2


class Ahead:
    """Encodes the frames of one film in a thread of its own, from the first slice on until `end`.

    An encoder that fails says nothing here: then there are no packets, the frames are encoded when the film is saved,
    and that raises what there is to say.
    """

    def __init__(self, how: Encoding, shape: tuple[int, int, int, int], fps: Fraction) -> None:
        """Frames of `shape` (frames, height, width, 3) will come."""
        self._how, self._shape, self._fps = how, shape, fps
        self._slices: Queue[np.ndarray | None] = Queue(_WAITING)
        self._digest = hashlib.sha256(f"uint8 {','.join(map(str, shape))}\n".encode())
        self._made: Packets | None = None
        self._thread: threading.Thread | None = None

    def add(self, frames: np.ndarray) -> None:
        """The next frames (n, height, width, 3) uint8; they must not change any more."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._encode, name="encoder", daemon=True)
            self._thread.start()
        self._slices.put(frames)

    def end(self) -> None:
        """No more frames come, be it that the film is whole or given up."""
        if self._thread is not None and self._thread.is_alive():
            self._slices.put(None)

    def packets(self, how: Encoding, frames_sha256: str) -> Packets | None:
        """The packets of the film, waited for; None unless they are of just these frames, encoded as `how` says."""
        if self._thread is not None:
            self._thread.join()
        return self._made if (how, frames_sha256) == (self._how, self._digest.hexdigest()) else None

    def _encode(self) -> None:
        slices = self._coming()
        try:
            self._made = encoded(slices, self._shape[1], self._shape[2], self._fps, self._how)
        except Exception:  # of whatever class: it is tried again where somebody hears of it
            for _ in slices:
                pass

    def _coming(self) -> Iterator[np.ndarray]:
        while (frames := self._slices.get()) is not None:
            for frame in frames:
                self._digest.update(np.ascontiguousarray(frame).data)
            yield frames
