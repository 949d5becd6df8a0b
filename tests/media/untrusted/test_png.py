"""The chunks of a PNG: times are exact, and what is cut short or lies is refused, whatever the bytes are."""

from __future__ import annotations

import struct
from fractions import Fraction
from io import BufferedReader
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.media.bombs import apng, chunk

from flickbook.errors import MediaError
from flickbook.media.untrusted import png

WHOLE = apng(4)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "a.png"


def opened(path: Path, data: bytes) -> BufferedReader:
    path.write_bytes(data)
    return open(path, "rb")


def with_times(times: list[tuple[int, int]]) -> bytes:
    data = apng(len(times))
    for seconds, parts in times:
        at = data.index(b"fcTL") + 24
        data = (
            data[: at - 20].replace(b"fcTL", b"done")
            + data[at - 20 : at]
            + struct.pack(">HH", seconds, parts)
            + data[at + 4 :]
        )
    return data.replace(b"done", b"fcTL")


@given(times=st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535)), min_size=1, max_size=6))
def test_apng_times_are_exact_or_within_a_microsecond(scratch: Path, times: list[tuple[int, int]]) -> None:
    with opened(scratch, with_times(times)) as file:
        durations, unit = png.times("a.png", file)
    assert len(durations) == len(times) and unit <= 10**9
    for found, (seconds, parts) in zip(durations, times, strict=True):
        expected = Fraction(seconds, parts or 100) if seconds else Fraction(1, 10)
        assert (
            Fraction(found, unit) == expected
            if unit != 10**6
            else abs(Fraction(found, unit) - expected) <= Fraction(1, 10**6)
        )


def test_a_truncated_png_is_refused(scratch: Path) -> None:
    for end in range(8, len(WHOLE)):
        with opened(scratch, WHOLE[:end]) as file, pytest.raises(MediaError):
            png.times("a.png", file)


@given(edits=st.lists(st.tuples(st.integers(8, len(WHOLE) - 1), st.binary(min_size=1, max_size=6)), max_size=5))
def test_any_bytes_pass_or_are_refused(scratch: Path, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(WHOLE)
    for at, patch in edits:
        data[at : at + len(patch)] = patch
    with opened(scratch, bytes(data)) as file:
        try:
            png.times("a.png", file)
        except MediaError as error:
            assert "\n" not in str(error)


def test_too_many_chunks_are_refused(scratch: Path) -> None:
    many = WHOLE[:33] + chunk(b"eeEe") * 270_000 + WHOLE[33:]
    with opened(scratch, many) as file, pytest.raises(MediaError, match="more chunks than the limit"):
        png.times("a.png", file)
