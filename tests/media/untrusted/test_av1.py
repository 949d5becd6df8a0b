"""The units of AV1: sizes and frames are those that encoders wrote, and any bytes are judged."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.media.bombs import sequence

from flickbook.media.untrusted import av1


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_a_film_tells_its_frames(tmp_path: Path, encode: Callable[..., Path], steps: Callable[..., np.ndarray]) -> None:
    found = [av1.judged(each) for each in packets(encode(tmp_path / "a.mkv", steps(12), "libsvtav1"))]
    assert len(found) == 12 and 12 <= sum(each.frames for each in found) <= 24
    # Each frame may say its own size, of at most as many bits.
    assert found[0].pixels == 64 * 64


@pytest.mark.parametrize(("width", "height"), [(64, 48), (1, 1), (333, 1001)])
def test_a_picture_tells_its_size(width: int, height: int) -> None:
    stream = BytesIO()
    Image.new("RGB", (width, height)).save(stream, "AVIF", speed=10)
    data = stream.getvalue()
    assert av1.judged(data[data.index(b"mdat") + 4 :]) == (1, width * height)


@given(width=st.integers(1, 65536), height=st.integers(1, 65536))
def test_every_size(width: int, height: int) -> None:
    assert av1.judged(sequence(width, height)) == (0, width * height)
    assert av1.judged(sequence(9, 9) + sequence(width, height) + sequence(1, 1)).pixels == max(81, width * height)


@given(data=st.binary(max_size=200), begins=st.booleans())
def test_any_bytes_are_judged(data: bytes, begins: bool) -> None:
    try:
        found = av1.judged(sequence(64, 48) + data if begins else data)
    except ValueError:
        return
    assert found.frames >= 0 and found.pixels >= 0


def test_what_is_cut_short_is_none() -> None:
    whole = sequence(64, 48)
    for end in range(1, len(whole)):
        with pytest.raises(ValueError):
            av1.judged(whole[:end])
    with pytest.raises(ValueError, match="too many"):
        av1.judged(b"\x12\x00" * 70_000)  # time marks
