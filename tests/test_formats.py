"""Formats: the suffix chooses, what is unset is filled in, and what does not fit is refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import OutputError, RequestError
from flickbook.formats import (
    CODECS,
    FILMS,
    FORMS,
    STILLS,
    SUFFIXES,
    container_of,
    encoding,
    frame_paths,
    is_frames,
    quality_of,
)
from flickbook.spec import Container, Encoding

CONTAINERS: tuple[Container, ...] = get_args(Container)


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("film.mp4", "mp4"),
        ("a/b.c/FILM.WebM", "webm"),
        ("film.mkv", "mkv"),
        ("film.gif", "gif"),
        ("film.webp", "webp"),
        ("film.apng", "apng"),
        ("shot-%04d.png", "frames"),
        ("%d.PNG", "frames"),
        ("still.png", "png"),
        ("100%.png", "png"),
        ("%04d/still.png", "png"),
        ("still.jpg", "jpg"),
        ("still.JPEG", "jpg"),
        ("still.avif", "avif"),
    ],
)
def test_the_suffix_chooses_the_container(name: str, container: str) -> None:
    assert container_of(name) == container_of(Path(name)) == container
    assert is_frames(name) == (container == "frames")


@pytest.mark.parametrize("name", ["film.mov", "film", ".mp4", "film.mp4.json", "film.", "", "a.png/film"])
def test_another_suffix_is_refused_with_all_that_work(name: str) -> None:
    with pytest.raises(OutputError) as refused:
        container_of(name)
    assert all(suffix in str(refused.value) for suffix in SUFFIXES)


@pytest.mark.parametrize("name", ["shot-%04d.jpg", "shot-%d-%d.png", "shot-%04d.mp4"])
def test_numbered_frames_are_png_with_one_number(name: str) -> None:
    with pytest.raises(OutputError, match=r"shot-%04d\.png"):
        container_of(name)
    assert not is_frames(name)


@given(
    before=st.text(st.sampled_from("ab %.-d0"), max_size=6).filter(lambda text: not text.endswith("%")),
    digits=st.integers(0, 9),
    count=st.integers(1, 120),
)
def test_numbered_frames_have_names_of_their_own_in_order(before: str, digits: int, count: int) -> None:
    pattern = f"out/{before}%{f'0{digits}' if digits else ''}d.png"
    if not is_frames(pattern):
        return
    paths = frame_paths(pattern, count)
    assert len(set(paths)) == count and {path.parent for path in paths} == {Path("out")}
    assert [int(path.stem[len(before) :]) for path in paths] == list(range(1, count + 1))
    assert all(len(path.stem) - len(before) >= digits for path in paths)


def test_what_is_unset_is_filled_in() -> None:
    usual = {container: encoding(container) for container in CONTAINERS}
    assert usual["mp4"] == Encoding(container="mp4", codec="h264", quality=69, pixel_format="yuv420p")
    assert CODECS["h264"].number(69) == 16, "what films were before there was a choice"
    assert {name: each.codec for name, each in usual.items()} == {
        "mp4": "h264",
        "webm": "vp9",
        "mkv": "ffv1",
        "gif": "gif",
        "webp": "webp",
        "apng": "apng",
        "frames": "png",
        "png": "png",
        "jpg": "jpeg",
        "avif": "avif",
    }
    assert encoding("mp4", "", None, "") == usual["mp4"]
    for container, how in usual.items():
        assert encoding(container, how.codec, how.quality, how.pixel_format) == how


@pytest.mark.parametrize(
    ("container", "codec", "pixel_format"),
    [("mp4", "h264", "rgb24"), ("mkv", "h265", "gbrp"), ("webm", "vp9", "gbrp"), ("webp", "webp", "rgb24")],
)
def test_lossless_has_a_pixel_format_of_its_own(container: Container, codec: str, pixel_format: str) -> None:
    assert encoding(container, codec, "lossless").pixel_format == pixel_format
    with pytest.raises(RequestError, match=f"^pixel_format=yuv420p: .*lossless.*{pixel_format}"):
        encoding(container, codec, "lossless", "yuv420p")


def test_ten_bits_fit_what_can_have_them() -> None:
    for container, codec in (("mp4", "h264"), ("mp4", "h265"), ("webm", "vp9"), ("webm", "av1"), ("mp4", "hevc_nvenc")):
        assert encoding(container, codec, None, "yuv420p10le").pixel_format == "yuv420p10le"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "given", "named"),
    [
        ("codec", ("mp4", "vp9"), ("h264", "h265", "av1", "webm or mkv")),
        ("codec", ("webm", "h264"), ("vp9", "mp4 or mkv")),
        ("codec", ("gif", "nonsense"), ("gif",)),
        ("quality", ("mp4", "av1", "lossless"), ("h264", "h265", "vp9", "ffv1")),
        ("quality", ("jpg", None, "lossless"), ("jpeg", "png")),
        ("quality", ("gif", None, "lossless"), ("gif", "apng")),
        ("quality", ("mp4", "h264_nvenc", "lossless"), ("h264",)),
        ("quality", ("png", None, 80), ("png", "lossless")),
        ("quality", ("mkv", "ffv1", 100), ("ffv1", "lossless")),
        ("quality", ("mp4", None, 101), ("0 to 100", "lossless")),
        ("quality", ("mp4", None, -1), ("0 to 100",)),
        ("quality", ("mp4", None, True), ("0 to 100",)),
        ("quality", ("mp4", None, "best"), ("0 to 100",)),
        ("pixel_format", ("mp4", "av1", None, "yuv444p"), ("yuv420p or yuv420p10le",)),
        ("pixel_format", ("webp", None, None, "yuv444p"), ("yuv420p",)),
        ("container", ("avi",), ("mp4", "frames")),
    ],
)
def test_what_does_not_fit_is_refused_by_name(field: str, given: tuple[Any, ...], named: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match=f"^{field}=") as refused:
        encoding(*given)
    assert all(name in str(refused.value) for name in named), refused.value
    assert refused.value.field == field


def test_pictures_hold_one_frame_and_films_also_one() -> None:
    for container in CONTAINERS:
        assert encoding(container, num_frames=1) == encoding(container)
        if container in FILMS:
            assert encoding(container, num_frames=16) == encoding(container)
            continue
        with pytest.raises(RequestError, match=f"^container={container}: stores one frame, not 16; .*mp4"):
            encoding(container, num_frames=16)
    assert set(FILMS) | set(STILLS) == set(CONTAINERS)


def test_a_rate_that_players_would_slow_down_is_refused() -> None:
    for container in ("gif", "webp"):
        assert encoding(container, fps=50)  # type: ignore[arg-type]
        with pytest.raises(RequestError, match=r"^fps=60: .*at most 50.*mp4"):
            encoding(container, fps=60)  # type: ignore[arg-type]
    assert encoding("apng", fps=240) and encoding("mp4", fps=240)


@pytest.mark.parametrize("name", list(CODECS))
def test_better_quality_never_gives_a_worse_number(name: str) -> None:
    codec = CODECS[name]
    numbers = [codec.number(quality) for quality in range(101)]
    if codec.worst:
        assert numbers == sorted(numbers, reverse=True)
        assert (numbers[0], numbers[100]) == (codec.worst, 1), "0 would switch to another profile"
    else:
        assert numbers == list(range(101))


@given(st.text(max_size=8))
def test_a_quality_is_a_number_the_word_or_refused(text: str) -> None:
    try:
        found = quality_of(text)
    except RequestError as error:
        assert error.field == "quality" and "lossless" in str(error)
    else:
        assert found == "lossless" or 0 <= found <= 100


def test_qualities_as_people_write_them() -> None:
    assert [quality_of(text) for text in ("0", " 69 ", "100", "Lossless")] == [0, 69, 100, "lossless"]
    for text in ("101", "-1", "6.9", "", "loss", "٣"):
        with pytest.raises(RequestError, match="^quality="):
            quality_of(text)


def test_every_codec_has_a_container_and_every_container_its_codecs() -> None:
    assert {codec for form in FORMS.values() for codec in form.codecs} == set(CODECS)
    assert set(FORMS) == set(CONTAINERS)


def test_the_table_loads_neither_codecs_nor_arrays() -> None:
    program = "import sys, flickbook.formats; print({'av', 'numpy', 'PIL'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
