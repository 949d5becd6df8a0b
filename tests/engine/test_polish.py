"""What is done to frames once they are made: the wishes, their order, their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.engine.polish import libraries_of, parse_polish, polished, scored, size_after, weights_of
from flickbook.errors import FlickbookError, RequestError, WeightsError
from flickbook.files import sha256
from flickbook.spec import Network, Polish, Step


@pytest.fixture
def frames() -> np.ndarray:
    """12 frames of a square that moves two pixels a frame."""
    film = np.full((12, 48, 64, 3), 40, np.uint8)
    for number, frame in enumerate(film):
        frame[16:32, 8 + 2 * number : 24 + 2 * number] = (220, 60, 60)
    return film


def test_no_options_change_nothing(frames: np.ndarray) -> None:
    polish, networks = parse_polish(12, 8.0, {})
    assert polish == Polish() and polish.nothing() and networks == {}
    made, fps, _ = polished(frames, 8.0, polish)
    assert made is frames and fps == 8.0


def test_text_options_are_converted_to_numbers() -> None:
    polish, _ = parse_polish(
        16,
        8.0,
        {"trim": "0.5:1.5", "interpolate": "3x", "upscale": 2, "steady": 0.5, "loop": "blend", "speed": 2, "text": "a"},
    )
    assert (polish.trim, polish.interpolate, polish.upscale, polish.steady) == ((4, 12), 3, 2, 0.5)
    assert (polish.loop, polish.speed, polish.text, polish.upscaler) == ("blend", 2.0, "a", None)


def test_operations_run_in_the_order_of_the_fields(frames: np.ndarray) -> None:
    polish_options: Any = {
        "trim": "2:10f",
        "interpolate": 2,
        "upscale": 2,
        "loop": "pingpong",
        "speed": 0.5,
        "text": "hi",
    }
    polish, networks = parse_polish(12, 8.0, polish_options)
    steps: list[Step] = []
    made, fps, _ = polished(frames, 8.0, polish, networks, steps.append)
    # 8 frames, then 15 with those between, then there and back without either end twice.
    assert made.shape[1:] == (96, 128, 3) and fps == 8.0
    assert len(made) == 28
    assert [step.index for step in steps] == [1, 2, 3, 4, 5, 6] and {step.phase for step in steps} == {"polish"}
    most, height, width, rate = size_after(polish, 12, 48, 64, 8.0)
    assert len(made) <= most and (height, width, rate) == (96, 128, 8.0)
    assert np.array_equal(frames, np.copy(frames)), "what was given stays as it was"


@pytest.mark.parametrize(
    ("polish_options", "field"),
    [
        ({"interpolate": 1}, "interpolate"),
        ({"interpolate": "9x"}, "interpolate"),
        ({"upscale": "1.5x"}, "upscale"),
        ({"steady": 1.5}, "steady"),
        ({"loop": "round"}, "loop"),
        ({"speed": 0}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"rate": 1000}, "rate"),
        ({"interpolator": "x"}, "interpolator"),
        ({"text": "x" * 501}, "text"),
        ({"trim": "3"}, "trim"),
    ],
)
def test_options_out_of_range_are_refused(polish_options: Any, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_polish(16, 8.0, polish_options)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("polish", "frames", "field"),
    [
        (Polish(interpolate=2), 1, "interpolate"),
        (Polish(steady=1.0), 1, "steady"),
        (Polish(loop="blend"), 1, "loop"),
        (Polish(trim=(3, 4), loop="blend"), 16, "loop"),
        (Polish(upscale=4, interpolate=8), 4000, "upscale"),
    ],
)
def test_impossible_operations_are_refused_beforehand(polish: Polish, frames: int, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        size_after(polish, frames, 512, 512, 8.0)
    assert caught.value.field == field


def test_networks_are_identified_by_their_hash(tmp_path: Path, frames: np.ndarray) -> None:
    file = tmp_path / "esrgan.safetensors"
    file.write_bytes(b"no network")
    polish, networks = parse_polish(12, 8.0, {"upscale": 2, "upscaler": str(file)})
    assert polish.upscaler == Network(name="esrgan", sha256=sha256(file))
    assert weights_of(polish) == {"upscaler/esrgan": sha256(file)}
    with pytest.raises(WeightsError):
        polished(frames, 8.0, polish, networks)
    file.write_bytes(b"another")
    with pytest.raises(WeightsError, match=f"instead of {polish.upscaler.sha256}"):
        polished(frames, 8.0, polish, networks)
    with pytest.raises(RequestError, match="is not on this machine"):
        polished(frames, 8.0, polish, {})
    with pytest.raises(WeightsError, match="No such file"):
        parse_polish(12, 8.0, {"upscale": 2, "upscaler": str(tmp_path / "nothing")})


def test_the_versions_name_the_optical_flow_library() -> None:
    assert libraries_of(Polish(interpolate=2)) == ("opencv-python-headless",)
    assert libraries_of(Polish(upscale=2)) == ()


WORDS = st.none() | st.text(max_size=8) | st.integers(-3, 12).map(lambda n: f"{n}x")
NUMBERS = st.none() | st.floats()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "trim": WORDS,
            "interpolate": WORDS,
            "upscale": WORDS,
            "loop": WORDS,
            "steady": NUMBERS,
            "speed": NUMBERS,
            "rate": NUMBERS,
        },
    ),
    st.integers(1, 64),
)
def test_any_options_are_a_polish_or_refused(polish_options: Any, num_frames: int) -> None:
    try:
        polish, _ = parse_polish(num_frames, 8.0, polish_options)
        size_after(polish, num_frames, 16, 16, 8.0)
    except FlickbookError:
        return
    assert Polish.from_json(polish.to_json()) == polish


def test_a_loop_drops_the_held_last_frame_of_interpolation(frames: np.ndarray) -> None:
    made, *_ = polished(frames, 8.0, Polish(interpolate=3, loop="pingpong"))
    assert min(np.abs(np.diff(made.astype(int), axis=0)).max(axis=(1, 2, 3))) > 0
    plain, *_ = polished(frames, 8.0, Polish(interpolate=3))
    assert np.array_equal(plain[-1], plain[-3])
    assert scored(plain, 24.0, Polish(interpolate=3))[0]["not_frozen"] == 1
    assert scored(plain, 24.0, Polish())[0]["not_frozen"] < 1
