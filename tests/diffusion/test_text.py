"""The text encoder and tokenizer against transformers' CLIPTextModel and CLIPTokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from flickbook.diffusion.text import TextConfig, TextEncoder, Tokenizer, text_keys, train_tokenizer, words
from flickbook.diffusion.weights import load_weights, save_weights
from flickbook.errors import RequestError, WeightsError

#: The library's types do not fit its values.
LibraryModel: Any = CLIPTextModel
SHIPPED: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 48,
    "hidden_act": "gelu",
    "bos_token_id": 1022,
    "eos_token_id": 1023,
    "pad_token_id": 1023,
}
CLIP_H = SHIPPED | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 1,
    "num_attention_heads": 16,
    "max_position_embeddings": 77,
}
CAPTIONS = [
    f"a {colour} {shape} moving {way} on a {ground} background, 3 of 7 it's the sun's"
    for colour in ("red", "green", "blue", "yellow", "purple")
    for shape in ("circle", "square", "triangle", "star")
    for way in ("left", "right", "up", "down")
    for ground in ("black", "grey", "blue")
]


def shaken(values: dict[str, Any], seed: int = 0) -> Any:
    """The library's network with every weight moved: norms and biases start all alike, and would hide a swap."""
    torch.manual_seed(seed)
    model = LibraryModel(CLIPTextConfig(**values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) if parameter.ndim == 1 else 0.0)
    return model


@pytest.mark.parametrize(
    "values", [SHIPPED, SHIPPED | {"hidden_act": "quick_gelu"}, CLIP_H], ids=["shipped", "quick_gelu", "CLIP-H layer"]
)
def test_encodes_like_the_library(values: dict[str, Any], tmp_path: Path) -> None:
    theirs = shaken(values)
    theirs.save_pretrained(tmp_path)
    config = TextConfig.from_dict(json.loads((tmp_path / "config.json").read_text()))
    ours = load_weights(lambda: TextEncoder(config), tmp_path / "model.safetensors", rename=text_keys)
    for length in (values["max_position_embeddings"], 5):
        ids = torch.randint(0, 1000, (3, length))
        with torch.no_grad():
            found, expected = ours(ids), theirs(ids).last_hidden_state
        assert found.shape == (3, length, values["hidden_size"]) and found.isfinite().all()
        assert (found - expected).abs().max() / expected.abs().max() <= 1e-5


def test_a_token_does_not_see_those_after_it() -> None:
    torch.manual_seed(0)
    model = TextEncoder(TextConfig.from_dict(SHIPPED)).eval()
    ids = torch.randint(0, 1000, (1, 10))
    other = ids.clone()
    other[0, 6:] += 1
    with torch.no_grad():
        first, second = model(ids), model(other)
    assert torch.allclose(first[:, :6], second[:, :6], atol=1e-6)
    assert not torch.allclose(first[:, 6:], second[:, 6:], atol=1e-3)


def test_the_library_loads_our_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    ours = TextEncoder(TextConfig.from_dict(SHIPPED)).eval()
    save_weights(ours, tmp_path / "model.safetensors", torch.float32)
    (tmp_path / "config.json").write_text(json.dumps(ours.config.to_dict()))
    theirs, report = LibraryModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    ids = torch.randint(0, 1000, (2, 48))
    with torch.no_grad():
        found, expected = ours(ids), theirs.eval()(ids).last_hidden_state
    assert (found - expected).abs().max() / expected.abs().max() <= 1e-5


@pytest.mark.parametrize("prefix", ["text_model.", ""])
@pytest.mark.parametrize("positions", [True, False])
def test_published_layouts_load(prefix: str, positions: bool, tmp_path: Path) -> None:
    theirs = shaken(SHIPPED)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {prefix + key.removeprefix("text_model."): value for key, value in load_file(path).items()}
    if positions:
        state[f"{prefix}embeddings.position_ids"] = torch.arange(48)[None]
    save_file(state, path)
    ours = load_weights(lambda: TextEncoder(TextConfig.from_dict(SHIPPED)), path, rename=text_keys)
    found = ours.state_dict()
    assert len(found) == len(theirs.state_dict())
    assert all(torch.equal(found[f"text_model.{key}"], value) for key, value in theirs.state_dict().items())


def test_starts_with_the_librarys_spread() -> None:
    torch.manual_seed(0)
    ours = TextEncoder(TextConfig.from_dict(SHIPPED)).state_dict()
    for key, value in LibraryModel(CLIPTextConfig(**SHIPPED)).state_dict().items():
        spread = 0.0 if value.ndim == 1 else float(value.std())
        assert float(ours[f"text_model.{key}"].std()) == pytest.approx(spread, rel=0.05), key


@pytest.mark.parametrize(
    ("change", "named"),
    [({"hidden_act": "relu"}, "relu"), ({"num_attention_heads": 3}, "3 heads"), ({"model_type": "t5"}, "t5")],
)
def test_refuses_another_network(change: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=named):
        TextConfig.from_dict(SHIPPED | change)


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


def test_unknown_words_are_named_once_and_in_order(trained: Path) -> None:
    tokenizer = Tokenizer(trained)
    prompt = "A RED dragon’s flight, over the sun's circle — dragon 🐉 don't (blue) 9 + 7"
    assert tokenizer.unknown_words(prompt) == ("dragon", "flight", "over", "🐉", "don't", "9")
    assert tokenizer.unknown_words("a red circle moving left on a blue background") == ()


def test_without_a_word_list_nothing_is_called_unknown(trained: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(trained / name, tmp_path / name)
    assert Tokenizer(tmp_path).unknown_words("anything at all") == ()


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_words_are_never_empty_and_are_their_own_words(text: str) -> None:
    for word in words(text):
        assert word and not any(character.isspace() for character in word)
        assert words(word) == [word]


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
