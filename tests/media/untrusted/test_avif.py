"""AVIF: boxes, items and streams are judged before a decoder, and Exif is given past it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.media.bombs import Item, avif, box, saved, sequence

from flickbook.errors import MediaError
from flickbook.media.animate import exif
from flickbook.media.read import read_picture
from flickbook.media.untrusted import avif as reader
from flickbook.media.untrusted.sniff import PICTURE_LIMITS, Limits

WHOLE = saved("AVIF", exif=exif("a comment"))
STREAM = sequence(64, 48)
GRID = struct.pack(">BBBBHH", 0, 0, 0, 1, 128, 48)


def judged(data: bytes, limits: Limits = PICTURE_LIMITS) -> reader.Picture:
    return reader.judged("a.avif", data, limits)


def test_what_an_encoder_wrote_passes() -> None:
    found = judged(WHOLE)
    assert found.exif == exif("a comment")
    assert found.file.getvalue() == WHOLE.replace(b"Exif", b"skip", 1)
    assert judged(saved("AVIF")).exif == b""


@pytest.mark.parametrize(
    ("items", "sizes", "reason"),
    [
        ([(b"av01", sequence(16_384, 16_384))], [(64, 48)], "268435456 pixels a frame"),
        ([(b"av01", STREAM)], [(65_535, 65_535)], "4294836225 pixels a frame"),
        ([(b"grid", struct.pack(">BBBBII", 0, 1, 0, 0, 60_000, 60_000))], [(64, 48)], "3600000000 pixels a frame"),
        ([(b"grid", GRID), *[(b"av01", STREAM)] * 256], [(64, 48)], "257 items"),
        ([(b"grid", GRID), *[(b"av01", sequence(4096, 4096))] * 5], [(64, 48)], "pixels of all tiles"),
        ([(b"av01", STREAM + b"\x1a\x00" * 9)], [(64, 48)], "9 layers"),
        ([(b"av01", [(0, 0, 200)] * 10)], [(64, 48)], "2000 bytes of items"),
        ([(b"av01", [(0, 99_999, 20)])], [(64, 48)], "cut short or damaged"),
        ([(b"av01", [(1, 0, 20)])], [(64, 48)], "cut short or damaged"),
        ([(b"av01", [(2, 0, 20)])], [(64, 48)], "cut short or damaged"),
        ([(b"grid", b"\0")], [(64, 48)], "cut short or damaged"),
    ],
)
def test_what_asks_for_much_or_lies(items: list[Item], sizes: list[tuple[int, int]], reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        judged(avif(items, sizes))


def test_what_names_another_file() -> None:
    """Neither an item's data reference nor the box for it may lead out of the file."""
    address = box(b"url ", bytes(4), b"file:///etc/passwd\0")
    held = box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), address))
    for data in (avif([(b"av01", STREAM)], [(64, 48)], held), avif([(b"av01", STREAM)], [(64, 48)], reference=1)):
        with pytest.raises(MediaError, match="its pixels are in another file"):
            judged(data)
    inside = box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), box(b"url ", b"\0\0\0\1")))
    judged(avif([(b"av01", STREAM)], [(64, 48)], inside))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (box(b"moov"), "holds a film beside its picture"),
        (box(b"idat", bytes(5 << 20)), "bytes of index"),
        (box(b"iref", bytes(200 << 10)), "bytes of lists"),
        (box(b"free") * 5000, "boxes, more than"),
    ],
)
def test_an_index_that_would_take_long(more: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        judged(avif([(b"av01", STREAM)], [(64, 48)], more))


def test_a_picture_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for end in range(0, len(WHOLE), 7):
        (tmp_path / "a.avif").write_bytes(WHOLE[:end])
        with pytest.raises(MediaError):
            read_picture(tmp_path / "a.avif")


@settings(max_examples=300)
@given(edits=st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=6)), min_size=1, max_size=5))
def test_any_bytes_are_judged(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(WHOLE)
    for at, patch in edits:
        data[at : at + len(patch)] = patch
    try:
        judged(bytes(data))
    except MediaError as error:
        assert "\n" not in str(error)


def test_exif_with_tags_of_gigabytes_is_not_shown_to_the_decoder(tmp_path: Path) -> None:
    tags = b"".join(struct.pack("<HHII", tag, 7, 40 << 20, 8) for tag in range(1000, 4000))
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 3000) + tags + bytes(4)
    (tmp_path / "a.avif").write_bytes(WHOLE)
    pixels = read_picture(tmp_path / "a.avif")
    length = len(WHOLE)
    at = WHOLE.index(b"iloc") + 4
    places = WHOLE[at:]
    assert places[:8] == b"\0\0\0\0\x44\0\0\2"
    offset = at + 8 + 14 + 6  # behind the first item's place, the second one's number, reference and count
    moved = WHOLE[:offset] + struct.pack(">II", length, 4 + len(block)) + WHOLE[offset + 8 :] + bytes(4) + block
    (tmp_path / "b.avif").write_bytes(moved)
    assert judged(moved).exif == block
    assert np.array_equal(read_picture(tmp_path / "b.avif"), pixels)


def test_a_turned_picture_keeps_its_comment(tmp_path: Path) -> None:
    block = Image.Exif()
    block[274], block[270] = 6, "mine"
    (tmp_path / "a.avif").write_bytes(saved("AVIF", exif=block))
    assert read_picture(tmp_path / "a.avif").shape == (64, 48, 3)
    assert b"mine" in judged((tmp_path / "a.avif").read_bytes()).exif
