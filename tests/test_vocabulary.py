"""Words of prompts, known and unknown ones."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flickbook.catalogue import find
from flickbook.vocabulary import _MEANINGS, known_words, nearest, unknown_words, without_unknown, words

KNOWN = frozenset(["a", "red", "blue", "circle", "sun", "on", "the", "moving", "left"])


def test_unknown_words_are_named_once_and_in_order() -> None:
    prompt = "A RED dragon’s flight, over the sun's circle — dragon 🐉 don't (blue) 9 + 7"
    assert unknown_words(prompt, KNOWN) == ("dragon", "flight", "🐉", "don't", "9", "7")
    assert unknown_words("a red circle moving left on a blue sun, from above", KNOWN) == ()


def test_without_a_list_nothing_is_called_unknown(tmp_path: Path) -> None:
    assert known_words(tmp_path) is None
    assert unknown_words("anything at all", None) == () and without_unknown("anything", None) == "anything"
    (tmp_path / "words.txt").write_text("red\ncircle\n", encoding="utf-8")
    assert known_words(tmp_path) == {"red", "circle"}


def test_a_negative_prompt_keeps_its_known_words_phrase_by_phrase() -> None:
    assert without_unknown("blurry, low quality", KNOWN) == ""
    assert without_unknown("Blurry red circle, a quality, on the left; jitter", KNOWN) == "red circle, on the left"
    assert without_unknown("a Red circle,  blue", KNOWN) == "a Red circle,  blue", "left as it was written"


def test_the_nearest_word_is_a_content_word_spelt_alike() -> None:
    assert nearest("circles", KNOWN) == "circle" and nearest("panda", {*KNOWN, "and"}) == "" == nearest(
        "x" * 9999, KNOWN
    )


def test_a_word_of_like_meaning_comes_before_one_of_like_spelling() -> None:
    known = {*KNOWN, "cat", "lone", "moon", "car", "rocket", "plain"}
    asked = ("maroon", "lion", "tigers", "truck", "plane", "heart")
    assert [nearest(word, known) for word in asked] == ["red", "cat", "cat", "car", "rocket", ""]
    assert nearest("lion", {"lone", "moon"}) == "", "without a cat there is nothing like it"
    assert [nearest(word, {"cat", "dog", "person", "earth"}) for word in ("foxes", "wolves", "ladies", "heart")] == [
        "dog",
        "dog",
        "person",
        "",
    ]
    assert {*_MEANINGS} <= (find("builtin").known_words() or frozenset()), "none of them would ever be suggested"
    slips = ("grean", "bule", "balck", "rian")
    assert [nearest(word, {"green", "blue", "black", "rain"}) for word in slips] == ["green", "blue", "black", "rain"]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_words_are_never_empty_and_are_their_own_words(text: str) -> None:
    for word in words(text):
        assert word and not any(character.isspace() for character in word)
        assert words(word) == [word]
