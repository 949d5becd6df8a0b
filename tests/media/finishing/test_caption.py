"""Words on a film: within their box, on their frames, readable on any picture, and refused where they cannot be set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.media.finishing.caption import Lettering, caption, lettering

RNG = np.random.default_rng(0)
LONG = "The sun comes up over the mountains, slowly, and nobody is there to see it."


def noise(frames: int = 1, height: int = 128, width: int = 128) -> np.ndarray:
    return RNG.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(-1)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (256, 256), (320, 576), (64, 96)])
def test_pixels_outside_the_box_are_unchanged(height: int, width: int) -> None:
    film = noise(2, height, width)
    before = film.copy()
    done = caption(film, "A red circle")
    left, top, right, bottom = lettering("A red circle", height, width).box
    assert 0 <= left < right <= width and height / 2 <= top < bottom <= height
    where = changed(film, done)
    assert where[:, top:bottom, left:right].any((1, 2)).all()
    where[:, top:bottom, left:right] = False
    assert not where.any() and np.array_equal(film, before)


@pytest.mark.parametrize("level", [0, 90, 128, 200, 255])
def test_letters_stand_out_on_any_grey(level: int) -> None:
    film = np.full((1, 128, 128, 3), level, np.uint8)
    done = caption(film, "HELLO")
    luma = done[0] @ np.array([0.299, 0.587, 0.114])
    left, top, right, bottom = lettering("HELLO", 128, 128).box
    part = luma[top:bottom, left:right]
    assert np.ptp(part) > 110, "letters beside their outline"


def test_equal_calls_draw_equal_pixels() -> None:
    film = noise(8)
    assert np.array_equal(caption(film, "now"), caption(film, "now"))


def test_a_long_text_is_wrapped_between_words_and_a_long_word_within() -> None:
    set_ = lettering(LONG, 128, 128)
    assert len(set_.lines) > 2 and " ".join(set_.lines) == LONG
    assert lettering(LONG, 320, 576).size > set_.size
    assert "".join(lettering("a" * 60, 128, 128).lines) == "a" * 60
    assert lettering("one\ntwo  three\r\n\nfour", 256, 256).lines == ("one", "two three", "", "four")


def test_an_automatic_size_shrinks_before_the_text_is_refused() -> None:
    some, many = lettering("word " * 8, 128, 128), lettering("word " * 28, 128, 128)
    assert 9 <= many.size < some.size
    with pytest.raises(RequestError, match="does not fit a frame of 128x128 in letters of 9 pixels; shorten it"):
        lettering("word " * 100, 128, 128)
    with pytest.raises(RequestError, match="does not fit a frame of 8x8"):
        lettering("Hello", 8, 8)


@given(
    st.text(st.sampled_from("abc WiM.,\n—’é☃\t\0\u202e\u0301"), max_size=80), st.integers(8, 200), st.integers(8, 200)
)
@settings(max_examples=60, deadline=None)
def test_any_text_is_set_within_the_frame_or_refused(text: str, height: int, width: int) -> None:
    try:
        set_ = lettering(text, height, width)
    except RequestError as refused:
        assert refused.field == "text" and "\n" not in str(refused)
        return
    left, top, right, bottom = set_.box
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert isinstance(set_, Lettering) and "".join("".join(set_.lines).split()) == "".join(text.split())


def test_letters_that_the_font_lacks_are_named() -> None:
    with pytest.raises(RequestError, match="the font has no é ☃; name a TrueType"):
        caption(noise(), "café ☃")
    # What is composed of two characters is the same letter.
    with pytest.raises(RequestError, match="the font has no é"):
        caption(noise(), "cafe\u0301")
    assert lettering("“It’s 20°…”", 128, 128).lines == ("“It’s 20°…”",)


def test_a_given_font_is_used(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    film = noise()
    assert changed(film, caption(film, "café ☃", font=path)).any()
    assert not np.array_equal(caption(film, "word", font=path), caption(film, "word"))
    with pytest.raises(RequestError, match="the font has no 日"):
        caption(film, "日", font=path)
    broken = tmp_path / "broken.ttf"
    for data, why in ((b"hello", "is not a TrueType"), (path.read_bytes()[:200], "cannot be read"), (b"", "is not a")):
        broken.write_bytes(data)
        with pytest.raises(RequestError, match=why) as refused:
            caption(film, "word", font=broken)
        assert refused.value.field == "font"
    with pytest.raises(RequestError, match="is not a file"):
        caption(film, "word", font=tmp_path)


def test_text_that_cannot_be_drawn_is_refused() -> None:
    film = noise()
    for text, why in (
        ("", "must have 1 to 500"),
        (" \n ", "must have 1 to 500"),
        ("a" * 501, "has 501 characters"),
        ("a\0b", "do not print"),
        ("a\u202eb", "do not print"),
    ):
        with pytest.raises(RequestError, match=why):
            caption(film, text)
    with pytest.raises(RequestError, match="uint8"):
        caption(film / 255, "word")
