"""The segments of a JPEG: what only takes time is refused, what no decoder needs is left out."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flickbook.errors import MediaError
from flickbook.media.untrusted import jpeg


def saved(**options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


PLAIN = saved()


def segment(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data


def test_what_the_segments_say() -> None:
    assert jpeg.judged("a.jpg", PLAIN)[:4] == (40, 56, 3, 1)
    assert jpeg.judged("a.jpg", saved(progressive=True))[:4] == (40, 56, 3, 1)
    exif = Image.Exif()
    exif[274] = 6
    assert jpeg.judged("a.jpg", saved(exif=exif))[:4] == (40, 56, 3, 6)


def test_only_what_draws_is_kept() -> None:
    extra = segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 50 + segment(0xE2, b"MPF\0" + bytes(99)) + segment(0xFE, b"hi")
    found = jpeg.judged("a.jpg", PLAIN[:2] + extra + PLAIN[2:])
    assert found.data == jpeg.judged("a.jpg", PLAIN).data
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")  # says what the channels are
    assert adobe in jpeg.judged("a.jpg", PLAIN[:2] + adobe + PLAIN[2:]).data


def test_any_number_of_ones_may_stand_before_a_marker() -> None:
    assert jpeg.judged("a.jpg", PLAIN[:2] + b"\xff" * 20 + PLAIN[2:])[:2] == (40, 56)
    with pytest.raises(MediaError, match="damaged"):
        jpeg.judged("a.jpg", PLAIN[:2] + b"\xff" * 10_000_000 + PLAIN[2:])


def test_scans_are_counted() -> None:
    data = saved(progressive=True)
    end = data.rindex(b"\xff\xd9")
    last = data[data.rindex(b"\xff\xda") : end]
    with pytest.raises(MediaError, match="scans, more than the limit of 100"):
        jpeg.judged("a.jpg", data[:end] + last * 1000 + data[end:])


def test_a_second_size_is_damage() -> None:
    at = PLAIN.index(b"\xff\xc0")
    frame = PLAIN[at : at + 19]
    with pytest.raises(MediaError, match="damaged"):
        jpeg.judged("a.jpg", PLAIN[:at] + frame + PLAIN[at:])


def test_one_cut_anywhere_is_refused() -> None:
    for end in range(len(PLAIN) - 1):
        with pytest.raises(MediaError):
            jpeg.judged("a.jpg", PLAIN[:end])


@settings(max_examples=300)
@given(edits=st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=6)), max_size=8))
def test_any_bytes_are_judged(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(PLAIN)
    for at, patch in edits:
        data[at : at + len(patch)] = patch
    try:
        found = jpeg.judged("a.jpg", bytes(data))
    except MediaError as error:
        assert "\n" not in str(error)
    else:
        assert 1 <= found.turned <= 8 and found.height >= 0 and len(found.data) <= len(data)
