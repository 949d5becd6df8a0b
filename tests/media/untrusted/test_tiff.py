"""The tags of TIFF and EXIF: what would fill the memory is refused, whatever else the bytes are."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flickbook.errors import MediaError
from flickbook.media.read import read_picture
from flickbook.media.untrusted import tiff
from flickbook.media.untrusted.sniff import PICTURE_LIMITS, Limits

GREY = {256: 48, 257: 40, 258: 8, 259: 1, 262: 1, 273: 500, 277: 1, 278: 40, 279: 48 * 40}


def written(tags: dict[int, int], more: Sequence[tuple[int, int, int, int]] = (), order: str = "<") -> bytes:
    """A TIFF of one long a tag, and `more` entries of tag, type, number of values and place."""
    entries = sorted([(tag, 4, 1, value) for tag, value in tags.items()] + list(more))
    body = b"".join(struct.pack(f"{order}HHII", *each) for each in entries)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return (head + body + bytes(4)).ljust(500, b"\0") + bytes(range(48)) * 40


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_order_of_bytes(tmp_path: Path, order: str) -> None:
    (tmp_path / "a.tif").write_bytes(written(GREY, order=order))
    assert np.array_equal(read_picture(tmp_path / "a.tif")[7, :, 1], range(48))


@pytest.mark.parametrize(
    ("tags", "more", "reason"),
    [
        ({**GREY, 256: 30_000, 257: 30_000}, [], "900000000 pixels"),
        (GREY, [(320, 3, 60 << 20, 8)], "bytes of tags, more than"),
        ({k: v for k, v in GREY.items() if k not in (273, 279)}, [(273, 3, 1 << 19, 8)], "strips or tiles"),
        ({**GREY, 322: 1 << 16, 323: 1 << 16}, [], "4294967296 pixels a tile"),
        ({**GREY, 277: 60_000}, [], "60000 samples a pixel"),
        ({**GREY, 259: 34712}, [], "compression 34712"),
        (GREY, [(256, 4, 1, 9)], "damaged"),
        ({k: v for k, v in GREY.items() if k != 256}, [(256, 3, 9, 8)], "damaged"),
        (GREY, [(320, 3, 99, 2300)], "damaged"),
        ({}, [], "0x0"),
    ],
)
def test_what_a_directory_may_not_say(
    tmp_path: Path, tags: dict[int, int], more: list[tuple[int, int, int, int]], reason: str
) -> None:
    (tmp_path / "a.tif").write_bytes(written(tags, more))
    with pytest.raises(MediaError, match=reason):
        read_picture(tmp_path / "a.tif")


def test_tags_that_no_decoder_needs_are_stepped_over(tmp_path: Path) -> None:
    """A thousand profiles of 60 MB, all in the same bytes, and a directory of EXIF that names itself."""
    many = [(40_000 + each, 7, 60 << 20, 8) for each in range(1000)] + [(34665, 4, 1, 8), (330, 4, 1, 8)]
    data = bytearray(written({tag: value for tag, value in GREY.items() if tag != 273}, [*many, (273, 4, 1, 20_000)]))
    data = data.ljust(20_000, b"\0")
    data[20_000:] = bytes(range(48)) * 40
    (tmp_path / "a.tif").write_bytes(data)
    assert np.array_equal(read_picture(tmp_path / "a.tif")[7, :, 1], range(48))


@settings(max_examples=200)
@given(
    data=st.binary(max_size=200), head=st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"Exif\0\0II*\0"])
)
def test_any_exif_is_an_orientation(data: bytes, head: bytes) -> None:
    assert 1 <= tiff.orientation(head + data) <= 8


@settings(max_examples=300)
@given(edits=st.lists(st.tuples(st.integers(0, 140), st.binary(min_size=1, max_size=6)), max_size=8))
def test_any_directory_is_judged(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(written(GREY))
    for at, patch in edits:
        data[at : at + len(patch)] = patch
    try:
        found = tiff.judged("a.tif", bytes(data), PICTURE_LIMITS)
    except MediaError as error:
        assert "\n" not in str(error)
    else:
        assert 1 <= found.turned <= 8 and found.height >= 0 and found.width >= 0


def test_orientation_is_read_from_what_pillow_writes() -> None:
    for turned in range(1, 9):
        exif = Image.Exif()
        exif[274] = turned
        assert tiff.orientation(exif.tobytes()) == turned
    exif[274] = 9
    assert tiff.orientation(exif.tobytes()) == 1


def test_what_is_judged_is_what_was_given(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    stream = BytesIO()
    image.save(stream, "TIFF", compression="tiff_lzw", description="x" * 50)
    found = tiff.judged("a.tif", stream.getvalue(), Limits())
    assert (found.height, found.width, found.turned) == (20, 30, 1)
    with Image.open(found.file) as again:
        assert np.array_equal(again, image)
        assert 270 not in again.tag_v2  # the description
