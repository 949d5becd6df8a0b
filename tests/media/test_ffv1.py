"""FFV1's header: what it says is known before a decoder believes it, whatever the bytes are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.media.bombs import ffv1_header

from flickbook.errors import MediaError
from flickbook.media import ffv1
from flickbook.media.read import read_video

MOVES = ffv1.MOVES


@pytest.mark.parametrize("coder", ["0", "1", "2"])
@pytest.mark.parametrize(("slices", "width", "passes"), [(4, 64, True), (24, 1920, True), (1024, 640, False)])
def test_what_the_encoder_wrote_is_understood(coder: str, slices: int, width: int, passes: bool) -> None:
    context = av.VideoCodecContext.create("ffv1", "w")
    context.width, context.height, context.pix_fmt, context.framerate = width, 640, "bgr0", 8
    context.options = {"slices": str(slices), "coder": coder, "level": "3", "context": "1"}
    context.open()
    header = bytes(context.extradata or b"")
    assert len(header) > 30
    if passes:
        ffv1.check("a.mkv", header, width)
    else:
        with pytest.raises(MediaError, match=r"bytes for 1024 slices, more than the limit"):
            ffv1.check("a.mkv", header, width)


@given(across=st.integers(1, 64), down=st.integers(1, 64), steps=st.integers(1, 8), sets=st.integers(1, 8))
def test_slices_times_models_are_limited(across: int, down: int, steps: int, sets: int) -> None:
    header = ffv1_header(MOVES, across, down, steps, sets=sets)
    contexts = ((2 * steps - 1) ** 5 + 1) // 2
    taken = across * down * (96 * contexts + 72 * 64)
    if taken <= 256 << 20:
        ffv1.check("a.mkv", header, 64)
    else:
        with pytest.raises(MediaError, match=f"{taken} bytes for {across * down} slices"):
            ffv1.check("a.mkv", header, 64)


@pytest.mark.parametrize("version", [2, 4, 77])
def test_experiments_are_refused(version: int) -> None:
    with pytest.raises(MediaError, match="FFV1 header is damaged"):
        ffv1.check("a.mkv", ffv1_header(MOVES, 1, 1, 3, version=version), 64)


@given(header=st.binary(min_size=1, max_size=80))
def test_any_bytes_are_judged(header: bytes) -> None:
    try:
        ffv1.check("a.mkv", header, 64)
    except MediaError as error:
        assert "\n" not in str(error)


def test_a_film_of_one_slice_and_no_header_is_read(
    tmp_path: Path, encode: Callable[..., Path], steps: Callable[..., np.ndarray]
) -> None:
    encode(tmp_path / "a.mkv", steps(3), "ffv1", options={"level": "1"})
    assert len(read_video(tmp_path / "a.mkv")[0]) == 3
