"""Reading: what was written comes back, and what is hostile, damaged or foreign is refused with one clear line."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.media.bombs import png as bomb

from flickbook.errors import MediaError, RequestError
from flickbook.formats import CODECS, FORMS, LOSSLESS, encoding
from flickbook.media.encode import check_encoder
from flickbook.media.inspect import inspect, read_comment, read_recipe
from flickbook.media.read import facts, read_any, read_frames, read_picture, read_video, stream_frames
from flickbook.media.untrusted.sniff import Limits
from flickbook.media.write import write, write_png
from flickbook.spec import Encoding


def film(frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    t, y, x = np.ogrid[:frames, :height, :width]
    return (
        np.stack([x * 4 + 0 * (t + y), y * 5 + t + 0 * x, t * 20 + 0 * (x + y)], axis=-1).clip(0, 255).astype(np.uint8)
    )


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("read") / "film.mp4"
    write(path, film(), 8, '{"a":1}')
    return path.read_bytes()


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("read") / "still.png"
    write_png(path, film()[0], '{"a":1}')
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.mark.parametrize("fps", [8.0, 7.5, 23.976, 0.5])
def test_a_film_is_read_back(tmp_path: Path, fps: float) -> None:
    write(tmp_path / "film.mp4", film(), fps)
    frames, rate = read_video(tmp_path / "film.mp4")
    assert (frames.shape, frames.dtype, rate) == (film().shape, np.uint8, pytest.approx(fps))
    assert np.abs(frames.astype(int) - film()).mean() < 3


def test_files_that_are_not_films_are_refused(tmp_path: Path) -> None:
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\nfile:///etc/hostname\n")
    (tmp_path / "drawing.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "picture.mp4").write_bytes(b"GIF89a" + bytes(40))
    (tmp_path / "empty.mp4").write_bytes(b"")
    for path in [*tmp_path.iterdir(), tmp_path / "missing.mp4", tmp_path, "a\0b.mp4"]:
        for read in (read_video, read_picture, read_comment, inspect):
            with pytest.raises(MediaError):
                read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.mp4")
    with pytest.raises(MediaError, match="not a regular file"):
        inspect(tmp_path / "film.mp4")


def test_films_and_images_are_not_interchangeable(tmp_path: Path, mp4: bytes, png: bytes) -> None:
    (tmp_path / "named.png").write_bytes(mp4)
    (tmp_path / "named.mp4").write_bytes(png)
    assert inspect(tmp_path / "named.png")["container"] == "mp4"
    with pytest.raises(MediaError, match="a film, not a picture"):
        read_picture(tmp_path / "named.png")
    with pytest.raises(MediaError, match="a picture, not a film"):
        read_video(tmp_path / "named.mp4")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(file_bytes=100), "bytes, more than"),
        (Limits(pixels=32 * 48 - 1), "1536 pixels a frame"),
        (Limits(frames=5), "6 frames"),
        (Limits(decoded_bytes=6 * 32 * 48 * 3 - 1), "once decoded"),
    ],
)
def test_every_limit_is_enforced(tmp_path: Path, mp4: bytes, limits: Limits, reason: str) -> None:
    (tmp_path / "film.mp4").write_bytes(mp4)
    for read in (read_video, read_comment, inspect):
        with pytest.raises(MediaError, match=reason):
            read(tmp_path / "film.mp4", limits)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(60_000, 60_000))
    for read in (read_picture, read_comment, inspect):
        with pytest.raises(MediaError, match="3600000000 pixels a frame"):
            read(tmp_path / "bomb.png")


def test_a_stream_larger_than_its_header_is_refused(tmp_path: Path, mp4: bytes) -> None:
    write(tmp_path / "large.mp4", film(6, 256, 256), 8)
    large = (tmp_path / "large.mp4").read_bytes()
    # The sample description (box avc1) says the size again, 32 bytes into it; the bitstream still says 256 by 256.
    at = large.index(b"avc1", large.index(b"stsd")) - 4 + 32
    assert large[at : at + 4] == struct.pack(">HH", 256, 256)
    (tmp_path / "liar.mp4").write_bytes(large[:at] + struct.pack(">HH", 16, 16) + large[at + 4 :])
    with pytest.raises(MediaError, match="cannot be read"):  # by the codec, before it sets memory aside for a frame
        read_video(tmp_path / "liar.mp4")


def test_an_index_of_a_billion_frames_is_refused_unread(tmp_path: Path, mp4: bytes) -> None:
    at = mp4.index(b"stsz") + 8
    # All samples of one size: then the count alone stands in the file, and the demuxer would make room for each.
    forged = mp4[:at] + struct.pack(">II", 1, 1_000_000_000) + mp4[at + 8 :]
    (tmp_path / "film.mp4").write_bytes(forged)
    for read in (read_video, read_comment, inspect):
        with pytest.raises(MediaError, match="index is too large"):
            read(tmp_path / "film.mp4")
    (tmp_path / "film.mp4").write_bytes(mp4 + struct.pack(">I", 8) * 2 * 5000)
    with pytest.raises(MediaError, match="index is too large"):
        inspect(tmp_path / "film.mp4")


def test_a_truncated_film_is_refused(tmp_path: Path, mp4: bytes, png: bytes) -> None:
    for share in range(20):
        (tmp_path / "film.mp4").write_bytes(mp4[: len(mp4) * share // 20])
        (tmp_path / "still.png").write_bytes(png[: len(png) * share // 20])
        for read in (read_video, inspect):
            with pytest.raises(MediaError):
                read(tmp_path / "film.mp4")
        try:
            pixels = read_picture(tmp_path / "still.png")
        except MediaError:
            continue
        assert share > 15 and np.array_equal(pixels, film()[0]), "only the end mark may be missing"


def damaged(data: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    changed = bytearray(data)
    for at, patch in edits:
        at %= len(data)
        changed[at : at + len(patch)] = patch
    return bytes(changed)


EDITS = st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=200)
@given(edits=EDITS)
def test_a_damaged_film_is_read_or_refused(scratch: Path, mp4: bytes, edits: list[tuple[int, bytes]]) -> None:
    path = scratch / "damaged.mp4"
    path.write_bytes(damaged(mp4, edits))
    for read in (read_video, read_comment, read_recipe, inspect):
        try:
            read(path, Limits(file_bytes=1 << 20, frames=100, pixels=1 << 20, decoded_bytes=1 << 24))
        except MediaError as error:
            assert "\n" not in str(error)


@pytest.mark.slow
@settings(max_examples=200)
@given(edits=EDITS, repair=st.booleans())
def test_a_damaged_image_is_read_or_refused(
    scratch: Path, png: bytes, edits: list[tuple[int, bytes]], repair: bool
) -> None:
    path = scratch / "damaged.png"
    path.write_bytes(sums_repaired(damaged(png, edits)) if repair else damaged(png, edits))
    for read in (read_picture, read_comment, read_recipe, inspect):
        try:
            read(path, Limits(file_bytes=1 << 20, pixels=1 << 20))
        except MediaError as error:
            assert "\n" not in str(error)


def sums_repaired(data: bytes) -> bytes:
    """A damaged PNG with its checksums made right, so that the damage reaches what lies behind them."""
    out, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        out[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def encodings() -> list[Encoding]:
    """Every way to write that needs no hardware."""
    found = []
    for container, form in FORMS.items():
        for name in form.codecs:
            codec = CODECS[name]
            ways = [(LOSSLESS, codec.lossless)] if codec.lossless and codec.pixel_formats else []
            ways += [(None, each) for each in codec.pixel_formats or (codec.lossless,)]
            found += [] if codec.hardware else [encoding(container, name, *way) for way in ways]
    return found


def written(folder: Path, frames: np.ndarray, how: Encoding, fps: float = 24) -> Path:
    """A film of `frames`, or a picture of the first. Skips what this FFmpeg cannot write."""
    form = FORMS[how.container]
    path = folder / ("shot-%03d.png" if how.container == "frames" else f"film{form.suffixes[0]}")
    try:
        check_encoder(how, *frames.shape[1:3])
    except RequestError as error:
        pytest.skip(str(error))
    write(path, frames if form.films else frames[:1], fps, encoding=how)
    return path


@pytest.mark.parametrize("how", encodings(), ids=lambda how: f"{how.container}-{how.codec}-{how.pixel_format}")
def test_every_writable_format_can_be_read(tmp_path: Path, how: Encoding) -> None:
    path = written(tmp_path, film(), how)
    frames, rate = read_any(path)
    expected = film() if FORMS[how.container].films else film()[:1]
    assert frames.shape == expected.shape and frames.dtype == np.uint8
    moves = FORMS[how.container].films and how.container != "frames"
    assert rate == (pytest.approx(24, rel=1e-4) if moves else 1.0)
    error = np.abs(frames.astype(int) - expected)
    assert error.max() == 0 if how.quality == LOSSLESS else error.mean() < 7
    if moves:
        assert facts(path) == (6, 48, 32, rate)
        assert np.array_equal(read_video(path)[0], frames)
    elif how.container != "frames":
        assert np.array_equal(read_picture(path), frames[0])


@pytest.mark.parametrize("how", [each for each in encodings() if "10" in each.pixel_format], ids=str)
def test_ten_bit_films_are_read_as_8_bits(tmp_path: Path, how: Encoding) -> None:
    colours = np.random.default_rng(3).integers(0, 256, (8, 1, 1, 3), dtype=np.uint8)
    frames = np.ascontiguousarray(np.broadcast_to(colours, (8, 64, 64, 3)))
    path = written(tmp_path, frames, encoding(how.container, how.codec, 100, how.pixel_format))
    assert np.abs(read_any(path)[0].astype(int) - frames).max() <= 3


def test_numbered_frames_are_read_in_order_up_to_the_first_gap(tmp_path: Path) -> None:
    write(tmp_path / "shot-%04d.png", film(12), 8)
    frames, rate = read_any(tmp_path / "shot-%04d.png")
    assert np.array_equal(frames, film(12)) and rate == 1.0
    (tmp_path / "shot-0004.png").unlink()
    assert np.array_equal(read_any(tmp_path / "shot-%04d.png")[0], film(12)[:3])
    (tmp_path / "shot-0001.png").unlink()
    with pytest.raises(MediaError, match="first frame shot-0001.png is missing"):
        read_any(tmp_path / "shot-%04d.png")


def test_numbered_frames_have_the_limits_of_a_film(tmp_path: Path) -> None:
    write(tmp_path / "shot-%d.png", film(3), 8)
    write_png(tmp_path / "shot-3.png", film(3, 16, 16)[0], overwrite=True)
    with pytest.raises(MediaError, match="frame 3 does not fit"):
        read_any(tmp_path / "shot-%d.png")
    for number in range(4, 4098):
        (tmp_path / f"shot-{number}.png").hardlink_to(tmp_path / "shot-1.png")
    with pytest.raises(MediaError, match="4097 frames, more than the limit of 4096"):
        read_any(tmp_path / "shot-%d.png")
    (tmp_path / "shot-1.png").write_bytes(b"#EXTM3U\n/etc/passwd\n")
    with pytest.raises(MediaError, match="begins with"):
        read_any(tmp_path / "shot-%d.png")


def test_streamed_frames_are_those_of_the_whole_video_from_a_number_on(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", film(12), 8)
    every = read_frames(tmp_path / "film.mp4", 40, 20)
    assert len(every) == 30
    found = list(stream_frames(tmp_path / "film.mp4", 7, 20, first=11))
    assert np.array_equal(np.stack(found), every[11:18])
    assert len(list(stream_frames(tmp_path / "film.mp4", 7, 20, first=28))) == 2
    with pytest.raises(MediaError, match="no frames"):
        list(stream_frames(tmp_path / "film.mp4", 7, 20, first=30))
    with pytest.raises(RequestError, match="first=-1"):
        next(stream_frames(tmp_path / "film.mp4", 7, 20, first=-1))
