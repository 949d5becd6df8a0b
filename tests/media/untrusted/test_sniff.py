"""The first bytes tell the format; a name tells nothing."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import MediaError
from flickbook.media.inspect import inspect
from flickbook.media.read import facts, read_frames, read_picture, read_video
from flickbook.media.untrusted import sniff

READERS = (read_picture, read_video, facts, inspect, lambda path: read_frames(path, 1, 8))

BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": sniff.PNG,
    b"\xff\xd8\xff\xe0": sniff.JPEG,
    b"GIF87a": sniff.GIF,
    b"GIF89a": sniff.GIF,
    b"BM": sniff.BMP,
    b"II*\0": sniff.TIFF,
    b"MM\0*": sniff.TIFF,
    b"RIFF\0\0\0\0WEBPVP8 ": sniff.WEBP,
    b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10": sniff.WEBP,
    b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x12": sniff.MOVING_WEBP,
    b"RIFF\0\0\0\0AVI LIST": sniff.AVI,
    b"\0\0\0\x20ftypisom": sniff.MP4,
    b"\0\0\0\x14ftypqt  ": sniff.MOV,
    b"\0\0\0\x08wide\0\0\0\0mdat": sniff.MOV,
    b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm": sniff.WEBM,
    b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska": sniff.MATROSKA,
    b"\0\0\0\x18ftypheic": None,
    b"\0\0\0\x18ftypavis\0\0\0\0avifavis": None,
    b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1A": sniff.AVIF,
    b"\0\0\0\x18ftypavif": sniff.AVIF,
    b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif": sniff.AVIF,
    b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic": None,
    b"\0\0\0\x14ftypmif1\0\0\0\0heicavif": None,
    b"RIFF\0\0\0\0WAVE": None,
    b"#EXTM3U\n": None,
    b"ffconcat version 1.0\n": None,
    b"PK\x03\x04": None,
    b"<svg": None,
    b"": None,
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_formats_are_detected_by_first_bytes(beginning: bytes) -> None:
    assert sniff.sniff(beginning) == BEGINNINGS[beginning]


@given(head=st.binary(max_size=64), beginning=st.sampled_from(sorted(BEGINNINGS)))
def test_any_first_bytes_are_detected_or_refused(head: bytes, beginning: bytes) -> None:
    assert sniff.sniff(head) is None or sniff.sniff(head).name
    assert sniff.sniff((beginning + head)[:64]) is not False


def test_every_format_names_its_reader() -> None:
    formats = [each for each in vars(sniff).values() if isinstance(each, sniff.Format)]
    assert len(formats) == 18
    for each in formats:
        if each not in (sniff.WAV, sniff.FLAC, sniff.OGG, sniff.MP3):
            assert each.pillow or (each.demuxer and each.codecs and each.moves)


SOUNDS = {
    b"RIFF\0\0\0\0WAVEfmt ": sniff.WAV,
    b"fLaC\0\0\0\x22": sniff.FLAC,
    b"OggS\0\x02": sniff.OGG,
    b"ID3\x04\0\0": sniff.MP3,
    b"\xff\xfb\x90\x64": sniff.MP3,
    b"\xff\xf3\x40\xc0": sniff.MP3,
    b"\0\0\0\x1cftypM4A ": sniff.MP4,
    b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm": sniff.WEBM,
    b"\xff\xd8\xff\xe0": None,
    b"\xff\xf1\x50\x80": None,
    b"GIF89a": None,
    b"#EXTM3U\n": None,
    b"": None,
}


@pytest.mark.parametrize("beginning", SOUNDS)
def test_sounds_are_detected_by_first_bytes(beginning: bytes) -> None:
    assert sniff.sniff_sound(beginning) == SOUNDS[beginning]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("kinds", "moves"),
    [
        ("IHDR IDAT IEND", False),
        ("IHDR acTL fcTL IDAT fcTL fdAT IEND", True),
        ("IHDR tEXt acTL IDAT IDAT fcTL fdAT IEND", True),
        ("IHDR acTL IDAT IEND", False),
        ("IHDR IDAT acTL fcTL fdAT IEND", False),
        ("IHDR fcTL IDAT IEND", False),
        ("IHDR acTL", False),
        ("", False),
    ],
)
def test_a_png_is_animated_only_if_actl_precedes_the_pixels(tmp_path: Path, kinds: str, moves: bool) -> None:
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind.encode(), bytes(9)) for kind in kinds.split())
    (tmp_path / "a.png").write_bytes(data)
    with sniff.opened(tmp_path / "a.png", None, "either") as (file, form, limits):
        assert form == (sniff.MOVING_PNG if moves else sniff.PNG)
        assert limits == (sniff.DEFAULT_LIMITS if moves else sniff.PICTURE_LIMITS)
        assert file.tell() == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.mp4").mkdir()
    cases = {
        tmp_path / "pipe.mp4": "not a regular file",
        tmp_path / "folder.mp4": "a directory, not a regular file",
        tmp_path / "dangling.mp4": "no such file",
        tmp_path / "missing.mp4": "no such file",
        tmp_path / "loop.mp4": "cannot be read",
        Path("/dev/zero"): "not a regular file",
    }
    for path, reason in cases.items():
        for read in READERS:
            with pytest.raises(MediaError, match=reason):
                read(path)


def test_a_refusal_is_one_line_with_value_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("Dear diary,\ntoday\n")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    for name, words in (
        ("empty.mp4", "empty, 0 bytes; fetch or export it again"),
        ("text.mp4", r"begins with b'Dear diary,\n', as no picture or film does that is read; convert it to PNG"),
        ("photo.heic", "a picture of kind heic, which is not read; save it as JPEG or PNG"),
    ):
        for read in READERS:
            with pytest.raises(MediaError) as refusal:
                read(tmp_path / name)
            assert "\n" not in str(refusal.value)
            assert words in str(refusal.value)
    with pytest.raises(MediaError, match="a film, not a picture; name a picture, or give it as the video"):
        read_picture(tmp_path / "film.mp4")


def test_the_suffix_is_ignored(
    tmp_path: Path, encode: Callable[..., Path], steps: Callable[..., Any], numbers: Callable[..., list[int]]
) -> None:
    encode(tmp_path / "a.webm", steps(4), "libvpx").rename(tmp_path / "a.jpg")
    assert numbers(read_video(tmp_path / "a.jpg")[0]) == [0, 1, 2, 3]
