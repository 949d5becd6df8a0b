"""The boxes of films: what is cut short, or would fill the memory, goes no further, whatever the bytes are."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flickbook.errors import MediaError
from flickbook.media.untrusted import boxes, sniff

FORMATS = {
    "a.mp4": (sniff.MP4, "libx264"),
    "a.webm": (sniff.WEBM, "libvpx"),
    "a.avi": (sniff.AVI, "mpeg4"),
    "a.gif": (sniff.GIF, "gif"),
    "a.webp": (sniff.MOVING_WEBP, ""),
}


@pytest.fixture(scope="module")
def films(
    tmp_path_factory: pytest.TempPathFactory, encode: Callable[..., Path], steps: Callable[..., np.ndarray]
) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("boxes")
    for name, (_, codec) in FORMATS.items():
        if codec:
            encode(folder / name, steps(6, 16, 16), codec)
    several = [Image.fromarray(frame) for frame in steps(6, 16, 16)]
    several[0].save(folder / "a.webp", save_all=True, append_images=several[1:], duration=40)
    return {name: (folder / name).read_bytes() for name in FORMATS}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def check(path: Path, data: bytes, form: sniff.Format) -> None:
    path.write_bytes(data)
    with open(path, "rb") as file:
        boxes.check(path, file, form)
        assert file.tell() == 0


@pytest.mark.parametrize("name", FORMATS)
def test_whole_films_pass_and_truncated_ones_are_refused(films: dict[str, bytes], scratch: Path, name: str) -> None:
    form, data = FORMATS[name][0], films[name]
    check(scratch / name, data, form)
    for end in range(0, len(data), max(1, len(data) // 60)):
        with pytest.raises(MediaError):
            check(scratch / name, data[:end], form)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60)
@given(edits=st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6))
def test_any_bytes_pass_or_are_refused(
    films: dict[str, bytes], scratch: Path, name: str, edits: list[tuple[int, bytes]]
) -> None:
    data = bytearray(films[name])
    for at, patch in edits:
        at %= len(data)
        data[at : at + len(patch)] = patch
    try:
        check(scratch / name, bytes(data), FORMATS[name][0])
    except MediaError as error:
        assert "\n" not in str(error)


def vint(number: int) -> bytes:
    return (number | 1 << 56).to_bytes(8, "big")


def element(kind: str, data: bytes) -> bytes:
    return bytes.fromhex(kind) + vint(len(data)) + data


HEAD = element("1A45DFA3", element("4282", b"webm"))


@pytest.mark.parametrize(
    "parts",
    [
        element("1654AE6B", b"\xae\x80" * (1 << 19)),  # a million tracks
        element("1941A469", b"\x61\xa7\x80" * 300_000) * 6,  # attachments, in several parts
        element("1C53BB6B", bytes(5 << 20)),  # cues
        element("1F43B675", b"") * 500_001,  # half a million clusters
    ],
)
def test_a_huge_matroska_index_is_refused(scratch: Path, parts: bytes) -> None:
    with pytest.raises(MediaError, match="too large"):
        check(scratch / "a.webm", HEAD + element("18538067", parts), sniff.WEBM)


def test_a_segment_of_unknown_length_is_walked(scratch: Path) -> None:
    unknown = b"\x01" + b"\xff" * 7
    cluster = bytes.fromhex("1F43B675") + unknown + element("E7", b"\0") + element("A3", bytes(40))
    data = HEAD + bytes.fromhex("18538067") + unknown + cluster * 3
    check(scratch / "a.webm", data, sniff.WEBM)
    for cut in (1, 20, 45):
        with pytest.raises(MediaError):
            check(scratch / "a.webm", data[:-cut], sniff.WEBM)
    with pytest.raises(MediaError):  # only segments and clusters may leave it open
        check(scratch / "a.webm", HEAD + bytes.fromhex("1654AE6B") + unknown + bytes(40), sniff.WEBM)


def test_a_second_segment_is_walked(films: dict[str, bytes], scratch: Path) -> None:
    check(scratch / "a.webm", films["a.webm"] + b"what somebody appended", sniff.WEBM)
    many = element("18538067", element("1654AE6B", b"\xae\x80" * (1 << 19)))
    for behind in (many, HEAD + many):
        with pytest.raises(MediaError, match="too large"):
            check(scratch / "a.webm", films["a.webm"] + behind, sniff.WEBM)


def test_a_huge_avi_index_is_refused(scratch: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data

    for part in (chunk(b"idx1", bytes(17 << 20)), chunk(b"LIST", b"hdrl" + bytes(2 << 20)), chunk(b"JUNK", b"") * 5000):
        with pytest.raises(MediaError, match="too large"):
            check(scratch / "a.avi", chunk(b"RIFF", b"AVI " + part), sniff.AVI)


def test_trailing_data_of_an_avi_is_bounded(films: dict[str, bytes], scratch: Path) -> None:
    check(scratch / "a.avi", films["a.avi"] + bytes(8 * 4096), sniff.AVI)
    with pytest.raises(MediaError, match="damaged"):
        check(scratch / "a.avi", films["a.avi"] + bytes(8 * 4097), sniff.AVI)


def test_edit_lists_that_repeat_samples_are_refused(films: dict[str, bytes], scratch: Path) -> None:
    entries = struct.pack(">IiI", 1000, 0, 65536) * 800_000
    edits = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, 800_000) + entries
    holder = struct.pack(">I4s", 8 + len(edits), b"edts") + edits
    with pytest.raises(MediaError, match="index is too large"):
        check(scratch / "a.mp4", films["a.mp4"] + holder, sniff.MP4)


def test_a_gif_of_a_million_comments_is_refused(films: dict[str, bytes], scratch: Path) -> None:
    data = films["a.gif"]
    colours = 3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0
    at = 13 + colours
    with pytest.raises(MediaError, match="too large"):
        check(scratch / "a.gif", data[:at] + b"\x21\xfe\x01a\0" * 600_000 + data[at:], sniff.GIF)


def test_a_film_without_an_index_is_refused(scratch: Path) -> None:
    with pytest.raises(MediaError, match="no index"):
        check(scratch / "a.mp4", struct.pack(">I8s", 12, b"ftypisom") + struct.pack(">I4s", 8, b"mdat"), sniff.MP4)


def test_durations_of_an_animated_webp_are_read(films: dict[str, bytes], scratch: Path) -> None:
    (scratch / "a.webp").write_bytes(films["a.webp"])
    with open(scratch / "a.webp", "rb") as file:
        assert boxes.webp_durations("a.webp", file) == [40] * 6
