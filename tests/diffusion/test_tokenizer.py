"""The tokenizer against transformers' own, and trained on captions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from flickbook.diffusion.tokenizer import Tokenizer, train_tokenizer
from flickbook.errors import RequestError, WeightsError

CAPTIONS = [
    f"a {colour} {shape} moving {way} on a {ground} background, 3 of 7 it's the sun's"
    for colour in ("red", "green", "blue", "yellow", "purple")
    for shape in ("circle", "square", "triangle", "star")
    for way in ("left", "right", "up", "down")
    for ground in ("black", "grey", "blue")
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(CAPTIONS, 1024, directory)
    return directory


@pytest.fixture(scope="module")
def layouts(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Tokenizer, CLIPTokenizer]]:
    """Ours, the two old files alone, what today's library writes, and specials as published models have them."""
    old, published, new = (tmp_path_factory.mktemp(name) for name in ("old", "published", "new"))
    for directory in (old, published):
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(trained / name, directory / name)
    flags = {"lstrip": False, "rstrip": False, "normalized": True, "single_word": False}
    start = {"__type": "AddedToken", "content": "<|startoftext|>", **flags}
    (published / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 77, "pad_token": "<|endoftext|>", "bos_token": start})
    )
    specials = {"pad_token": "!", "unk_token": {"content": "<|endoftext|>", **flags}}
    (published / "special_tokens_map.json").write_text(json.dumps(specials))
    CLIPTokenizer.from_pretrained(trained).save_pretrained(new)
    return [(Tokenizer(path), CLIPTokenizer.from_pretrained(path)) for path in (trained, old, published, new)]


FRAGMENTS = [
    "<|endoftext|>",
    "<|StartOfText|>",
    "it's",
    "</w>",
    "!!!",
    " ",
    "\n",
    "\x00",
    "red circle",
    "42",
    "ß",
    "İ",
    "cafe\u0301",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3)).map("".join)))
def test_ids_equal_the_librarys_for_any_text(layouts: list[tuple[Tokenizer, CLIPTokenizer]], text: str) -> None:
    for ours, theirs in layouts:
        expected = theirs(text, padding="max_length", max_length=ours.max_length, truncation=True).input_ids
        found = ours.encode(text)
        assert found == expected
        assert len(found) == ours.max_length and max(found) < ours.vocab_size


def test_pad_token_and_length_come_from_the_directory(layouts: list[tuple[Tokenizer, CLIPTokenizer]]) -> None:
    assert [ours.max_length for ours, _ in layouts] == [48, 77, 77, 48]
    for ours, theirs in layouts:
        assert ours.pad_id == theirs.pad_token_id
    assert len({ours.pad_id for ours, _ in layouts}) == 2


def test_a_byte_that_is_not_text_does_not_crash(trained: Path) -> None:
    assert len(Tokenizer(trained).encode("a red \udcff circle")) == 48


def test_an_unknown_word_is_spelt_in_bytes(trained: Path) -> None:
    tokenizer = Tokenizer(trained)
    vocabulary = json.loads((trained / "vocab.json").read_text(encoding="utf-8"))
    framed = tokenizer.encode("ωξ")
    # Two Greek letters are two bytes each; only the last byte ends the word.
    names = {i: token for token, i in vocabulary.items()}
    assert [names[i] for i in framed[:6]] == ["<|startoftext|>", "Ï", "ī", "Î", "¾</w>", "<|endoftext|>"]


def test_batches_are_padded_and_cut_to_one_length(trained: Path) -> None:
    tokenizer = Tokenizer(trained)
    ids = tokenizer(["a red circle", "x " * 500, ""])
    assert ids.shape == (3, 48) and ids.dtype == torch.int64
    end = tokenizer.pad_id
    assert ids[0, 4:].tolist() == [end] * 44 and ids[0, 3] != end
    assert ids[1, -1] == end and ids[1, -2] != end
    assert tokenizer([]).shape == (0, 48)


def test_vocabulary_is_within_its_limit_and_common_words_are_one_token(tmp_path: Path) -> None:
    small = train_tokenizer(CAPTIONS, 540, tmp_path / "small")
    assert small.vocab_size == 540
    tokenizer = train_tokenizer(CAPTIONS, 1024, tmp_path / "large")
    assert tokenizer.vocab_size <= 1024
    assert tokenizer.encode("purple triangle background")[4] == tokenizer.pad_id


def test_training_repeats_itself_whatever_the_order(trained: Path, tmp_path: Path) -> None:
    train_tokenizer(reversed(CAPTIONS), 1024, tmp_path)
    names = sorted(path.name for path in trained.iterdir())
    assert names == [
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "words.txt",
    ]
    for name in names:
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name


def test_too_small_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="514"):
        train_tokenizer(CAPTIONS, 513, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_end_of_a_prompt_that_does_not_fit_is_named(trained: Path) -> None:
    tokenizer = Tokenizer(trained)
    assert tokenizer.unread("a red circle") == ""
    long = "a red circle, " * 11 + "a blue 🐉 square"
    rest = tokenizer.unread(long)
    assert rest and long.endswith(rest)
    kept = long[: -len(rest)]
    assert tokenizer.encode(long) == tokenizer.encode(kept) and tokenizer.unread(kept) == ""


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"vocab.json": '{"a": 0}'},
        {"vocab.json": "[]", "merges.txt": ""},
        {"vocab.json": '{"a": 0}', "merges.txt": "a\n"},
        {"vocab.json": '{"a": 0}', "merges.txt": "x y\n"},
        {"vocab.json": '{"a": "b"}', "merges.txt": ""},
        {"tokenizer.json": '{"model": {"type": "Unigram", "vocab": []}}'},
    ],
)
def test_a_directory_without_a_clip_tokenizer_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(WeightsError):
        Tokenizer(tmp_path)
