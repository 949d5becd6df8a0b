"""CLIP's byte-level BPE tokenizer, read from transformers' files or trained on captions.

Token ids are those of transformers' `CLIPTokenizer`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from flickbook.errors import RequestError, WeightsError
from flickbook.hub.manifest import read_config
from flickbook.vocabulary import words

START, END = "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"
_CLIP_LENGTH = 77
_MAX_VOCABULARY_BYTES = 32 << 20
_FETCH = "download the model again"

_Merge = tuple[str, str]


def _special_tokens(directory: Path) -> dict[str, AddedToken]:
    """bos, eos, unk and pad from the directory's files, or CLIP's defaults."""
    values: dict[str, Any] = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = _optional(directory / "tokenizer_config.json")
    # In transformers the older file takes precedence unless the newer one lists its added tokens.
    older = {} if "added_tokens_decoder" in config else _optional(directory / "special_tokens_map.json")
    for source in (config, older):
        values.update({k: v for k, v in source.items() if k in values and v})
    flags = ("lstrip", "rstrip", "normalized", "single_word")
    tokens = {}
    for name, value in values.items():
        if isinstance(value, dict):
            chosen = {flag: bool(value[flag]) for flag in flags if flag in value}
            tokens[name] = AddedToken(str(value.get("content", END)), special=True, **chosen)
        else:
            tokens[name] = AddedToken(str(value), special=True, normalized=False)
    return tokens


def _optional(path: Path) -> dict[str, Any]:
    return read_config(path) if path.exists() else {}


def _vocabulary(directory: Path) -> tuple[dict[str, int], list[_Merge]]:
    """Tokens and merges from `tokenizer.json`, else from `vocab.json` and `merges.txt`."""
    whole = directory / "tokenizer.json"
    if whole.exists():
        model = read_config(whole, _MAX_VOCABULARY_BYTES).get("model")
        if not isinstance(model, dict) or not {"vocab", "merges"} <= model.keys():
            raise WeightsError(whole, "not a BPE tokenizer", _FETCH)
        return model["vocab"], [_merge(m.split(" ") if isinstance(m, str) else m, whole) for m in model["merges"]]
    vocabulary = read_config(directory / "vocab.json", _MAX_VOCABULARY_BYTES)
    path = directory / "merges.txt"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(path, "missing or not text", _FETCH) from error
    return vocabulary, [_merge(line.split(" "), path) for line in lines if line and not line.startswith("#version")]


def _merge(parts: Sequence[str], path: Path) -> _Merge:
    if len(parts) != 2:
        raise WeightsError(path, "a merge is not two tokens", _FETCH)
    return parts[0], parts[1]


def _pipeline(vocabulary: dict[str, int], merges: list[_Merge], special: Mapping[str, AddedToken]) -> Any:
    """CLIP's steps: normalise and lower-case the text, split it into words, encode bytes, merge, add special tokens."""
    unknown = special["unk_token"].content
    core: Any = tokenizers.Tokenizer(
        BPE(vocab=vocabulary, merges=merges, unk_token=unknown, end_of_word_suffix=_END_OF_WORD, fuse_unk=False)
    )
    core.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    # Words, single digits and runs of symbols, as in CLIP; any other split would give other ids.
    cuts = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(cuts), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(special.values()))
    end, start = special["eos_token"].content, special["bos_token"].content
    core.post_processor = processors.RobertaProcessing(
        (end, core.token_to_id(end)), (start, core.token_to_id(start)), trim_offsets=False, add_prefix_space=False
    )
    return core


class Tokenizer:
    """Prompts to token ids, from a directory in transformers' layout. Any text works: unknown words become bytes."""

    def __init__(self, directory: str | Path) -> None:
        """Raises WeightsError if the directory has no CLIP tokenizer."""
        directory = Path(directory)
        vocabulary, merges = _vocabulary(directory)
        special = _special_tokens(directory)
        try:
            self._core = _pipeline(vocabulary, merges, special)
        except Exception as error:  # the library raises plain Exception if vocabulary and merges do not match
            raise WeightsError(directory, f"not a CLIP tokenizer ({error})", _FETCH) from error
        length = _optional(directory / "tokenizer_config.json").get("model_max_length", _CLIP_LENGTH)
        # transformers writes 1e30 for "no limit".
        self.max_length = length if isinstance(length, int) and 2 < length <= 4096 else _CLIP_LENGTH
        self.pad_id: int = self._core.token_to_id(special["pad_token"].content)
        self.vocab_size: int = self._core.get_vocab_size()
        self._core.enable_truncation(self.max_length)
        self._core.enable_padding(length=self.max_length, pad_id=self.pad_id, pad_token=special["pad_token"].content)

    def encode(self, text: str) -> list[int]:
        """`max_length` ids: start, the text (cut off if too long), end, padding."""
        # A byte that is not UTF-8 reaches Python as a lone surrogate, which the library does not accept.
        ids: list[int] = self._core.encode(text.encode("utf-8", "replace").decode("utf-8")).ids
        return ids

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """n prompts -> ids (n, max_length) int64."""
        return torch.tensor([self.encode(prompt) for prompt in prompts], dtype=torch.long).view(-1, self.max_length)

    def tokens(self) -> dict[str, int]:
        """Every token of the vocabulary and its id; a token that ends a word ends in `</w>`."""
        found: dict[str, int] = self._core.get_vocab()
        return found

    def pieces(self, text: str) -> list[int]:
        """The ids of a text alone, without start, end and padding."""
        return [id for id in self.encode(text)[1:] if id != self.pad_id] or [self.pad_id]

    def word_places(self, prompt: str) -> list[tuple[str, list[int]]]:
        """Each word of a prompt and the places of its tokens in `encode`, in order; words that are cut off are missing.

        A word of several tokens has several places.
        """
        text = prompt.encode("utf-8", "replace").decode("utf-8")
        encoding = self._core.encode(text)
        found: list[tuple[str, list[int]]] = []
        begun = 0  # characters
        places: list[int] = []
        for place, token in enumerate(encoding.tokens):
            if encoding.special_tokens_mask[place]:
                continue
            begins, ends = encoding.offsets[place]
            begun = begun if places else begins
            places.append(place)
            if token.endswith(_END_OF_WORD):
                found.append((text[begun:ends].strip(), places))
                places = []
        return found

    def unread(self, prompt: str) -> str:
        """The end of a prompt beyond `max_length` tokens, which is cut off; "" if all of it fits."""
        text = prompt.encode("utf-8", "replace").decode("utf-8")
        rest = self._core.encode(text).overflowing
        return text[rest[0].offsets[1][0] :] if rest else ""


def learn_merges(counts: Mapping[tuple[str, ...], int], limit: int) -> list[_Merge]:
    """Learn at most `limit` merges; `counts` maps each word, as a tuple of tokens, to its number of occurrences.

    The most frequent pair of neighbours becomes one token, repeatedly, until no pair occurs twice. Ties are broken in
    alphabetical order; the library's own trainer breaks them at random, so its results are not reproducible.
    """
    spelt, merges = dict(counts), list[_Merge]()
    while len(merges) < limit:
        pairs: Counter[_Merge] = Counter()
        for word, count in spelt.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        spelt = {_joined(word, best): count for word, count in spelt.items()}
    return merges


def _joined(word: tuple[str, ...], pair: _Merge) -> tuple[str, ...]:
    joined: list[str] = []
    i = 0
    while i < len(word):
        width = 2 if word[i : i + 2] == pair else 1
        joined.append("".join(word[i : i + width]))
        i += width
    return tuple(joined)


def train_tokenizer(
    captions: Iterable[str],
    vocab_size: int,
    directory: str | Path,
    max_length: int = 48,
    known: Collection[str] = (),
) -> Tokenizer:
    """Learn merges from captions (Sennrich et al. 2016, arXiv 1508.07909), write the directory, and read it back.

    The vocabulary is built like CLIP's: 256 bytes, 256 bytes that end a word, merges, start, end; so it can encode any
    text. `vocab_size` is at least 514, and is not reached if the captions have fewer pairs. `words.txt` lists the words
    of the captions, and those of `known`. The same arguments give the same files. Raises RequestError for a smaller
    vocabulary.
    """
    directory, texts = Path(directory), list(captions)
    spelling = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [*spelling, *(letter + _END_OF_WORD for letter in spelling)]
    room = vocab_size - len(letters) - 2
    if room < 0:
        least = len(letters) + 2
        raise RequestError(
            "vocab_size", vocab_size, f"must be {least} or more", f"ask for {least}, to spell every text"
        )
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    tokens = {name: AddedToken(token, special=True, normalized=False) for name, token in special.items()}
    speller = _pipeline({token: i for i, token in enumerate([*letters, START, END])}, [], tokens)
    pieces: Counter[str] = Counter()
    for text in texts:
        plain = speller.normalizer.normalize_str(text)
        pieces.update(piece for piece, _ in speller.pre_tokenizer.pre_tokenize_str(plain))
    merges = learn_merges({(*piece[:-1], piece[-1] + _END_OF_WORD): n for piece, n in pieces.items()}, room)
    listed = dict.fromkeys([*letters, *(a + b for a, b in merges), START, END])
    core = _pipeline({token: i for i, token in enumerate(listed)}, merges, tokens)
    _write(directory, core, merges, special, max_length)
    listed_words = sorted({word for text in texts for word in words(text)} | {*known})
    (directory / "words.txt").write_text("".join(f"{word}\n" for word in listed_words), encoding="utf-8")
    return Tokenizer(directory)


def _write(directory: Path, core: Any, merges: list[_Merge], special: dict[str, str], max_length: int) -> None:
    """Write the files that transformers' CLIPTokenizer reads, in the new and the old format."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = dict(sorted(core.get_vocab().items(), key=lambda item: item[1]))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_length, **special}
    documents = {"vocab.json": vocabulary, "tokenizer_config.json": settings, "special_tokens_map.json": special}
    for name, document in documents.items():
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        (directory / name).write_text(text, encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    core.save(str(directory / "tokenizer.json"))
