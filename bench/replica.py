"""A model at its true published size with random weights, for measuring where none can be downloaded: `make replica`.

    python -m bench.replica text-to-video-ms-1.7b [DIR] [--only unet] [--seed 0]
    python -m bench.replica wan-2.1-1.3b [DIR]

Configurations carry the published values, files and keys the published names; the weights mean nothing, so its films
are noise. Two things are small: both vocabularies are made up on the spot, and Wan's text encoder (22.7 GB published)
has one layer of its output's width. Tensors are drawn and written one by one, so memory stays below 1 GB.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase, printable
from typing import Any

import torch
from torch import Tensor, nn

from bench import published
from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.diffusion.text import TextConfig, TextEncoder
from flickbook.diffusion.tokenizer import END, START
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig
from flickbook.files import replace_whole

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}

#: (config) -> the tensors of a file by their published keys, on the meta device.
Build = Callable[[dict[str, Any]], dict[str, Tensor]]


@dataclass(frozen=True)
class Part:
    """One folder of a model: its configuration, and where it has weights their file and how to list them."""

    config: dict[str, Any] = field(default_factory=dict)
    config_name: str = "config.json"
    weights: str = ""
    build: Build | None = None
    dtype: torch.dtype = torch.float16
    extra: Callable[[Path], None] | None = None  # writes what else stands in the folder


@dataclass(frozen=True)
class Replica:
    """A model: what its model_index.json says, and its parts by folder."""

    index: dict[str, Any]
    parts: dict[str, Part]


# ---- the tensors of each network, by their published keys ----


def _unet(config: dict[str, Any]) -> dict[str, Tensor]:
    return UNet3D(UNet3DConfig.from_dict(config)).state_dict()


def _clip(config: dict[str, Any]) -> dict[str, Tensor]:
    # Files of that time carry the buffer of positions.
    positions = torch.empty(1, config["max_position_embeddings"], dtype=torch.int64)
    state = TextEncoder(TextConfig.from_dict(config)).state_dict()
    return {"text_model.embeddings.position_ids": positions, **state}


def _kl(config: dict[str, Any]) -> dict[str, Tensor]:
    """The autoencoder's attention has the names that it had before diffusers 0.17."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    found = {}
    for key, value in Autoencoder(AutoencoderConfig.from_dict(config)).state_dict().items():
        for new, name in old.items():
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{name}.")
        found[key] = value
    return found


def _wan_transformer(config: dict[str, Any]) -> dict[str, Tensor]:
    from diffusers import WanTransformer3DModel

    return _states(WanTransformer3DModel.from_config(config))


def _wan_vae(config: dict[str, Any]) -> dict[str, Tensor]:
    from diffusers import AutoencoderKLWan

    return _states(AutoencoderKLWan.from_config(config))


def _umt5(config: dict[str, Any]) -> dict[str, Tensor]:
    from transformers import UMT5Config, UMT5EncoderModel

    state = _states(UMT5EncoderModel(UMT5Config(**config)))
    # One table under two names; the published file holds the first.
    return {key: value for key, value in state.items() if key != "encoder.embed_tokens.weight"}


def _states(network: nn.Module) -> dict[str, Tensor]:
    return network.state_dict()


# ---- words ----


def clip_words(folder: Path) -> None:
    """A byte-level BPE of CLIP's layout and size: 256 bytes, 256 that end a word, 48,894 merges, start, end.

    Merges join letters in the order of the alphabet, shortest first, so words are cut into pieces of two or three
    letters; a published vocabulary cuts fewer. Padding is the token 0, as in the published files.
    """
    # The order in which CLIP numbers the bytes: those that print, then the rest from U+0100 on.
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in shown] + [chr(0x100 + place) for place in range(256 - len(shown))]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = list(islice(_merges(), published.MS_TEXT["vocab_size"] - len(vocabulary) - 2))
    vocabulary += ["".join(merge) for merge in merges] + [START, END]
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    end = {"content": END, **flags}
    special = {"bos_token": {"content": START, **flags}, "eos_token": end, "pad_token": "!", "unk_token": end}
    settings = {
        **{name: {"__type": "AddedToken", **special[name]} for name in ("bos_token", "eos_token", "unk_token")},
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": END,
        "tokenizer_class": "CLIPTokenizer",
    }
    _json(folder / "vocab.json", {token: number for number, token in enumerate(vocabulary)})
    _json(folder / "special_tokens_map.json", special)
    _json(folder / "tokenizer_config.json", settings)
    text = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)
    replace_whole(folder / "merges.txt", lambda path: path.write_text(text, encoding="utf-8"))


def _merges() -> Iterator[tuple[str, str]]:
    """Pairs that become one token, every first half made before it is used."""
    for length in range(1, 5):
        for start in map("".join, product(ascii_lowercase, repeat=length)):
            yield from ((start, letter + ending) for letter in ascii_lowercase for ending in ("", "</w>"))


def unigram_words(folder: Path) -> None:
    """A T5 tokenizer of single characters."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in printable if not letter.isspace()]
    T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512).save_pretrained(folder)


_SCHEDULER = "scheduler_config.json"
_TEXT_FILE, _NETWORK_FILE = "model.safetensors", "diffusion_pytorch_model.safetensors"
#: ModelScope is published in two precisions, and a pull brings the files of this one.
_MS_TEXT_FILE, _MS_NETWORK_FILE = "model.fp16.safetensors", "diffusion_pytorch_model.fp16.safetensors"
_HALF = torch.bfloat16

_MODELSCOPE = {
    "scheduler": Part(published.MS_SCHEDULER, _SCHEDULER),
    "tokenizer": Part(extra=clip_words),
    "text_encoder": Part(published.MS_TEXT, weights=_MS_TEXT_FILE, build=_clip),
    "unet": Part(published.MS_UNET, weights=_MS_NETWORK_FILE, build=_unet),
    "vae": Part(published.MS_VAE, weights=_MS_NETWORK_FILE, build=_kl),
}
# Published in float32 throughout; float16 is known to make black films of this network.
_WAN = {
    "scheduler": Part(published.WAN_SCHEDULER, _SCHEDULER),
    "tokenizer": Part(extra=unigram_words),
    "text_encoder": Part(published.WAN_TEXT, weights=_TEXT_FILE, build=_umt5, dtype=_HALF),
    "transformer": Part(published.WAN_TRANSFORMER, weights=_NETWORK_FILE, build=_wan_transformer, dtype=_HALF),
    "vae": Part(published.WAN_VAE, weights=_NETWORK_FILE, build=_wan_vae, dtype=torch.float32),
}
MODELS = {
    "text-to-video-ms-1.7b": Replica(published.MS_INDEX, _MODELSCOPE),
    "wan-2.1-1.3b": Replica(published.WAN_INDEX, _WAN),
}


# ---- writing ----


def drawn(key: str, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """A random tensor: of a variance that keeps a layer's output as large as its input; norms that change nothing."""
    if not dtype.is_floating_point:
        return torch.arange(math.prod(shape), dtype=dtype).view(shape)
    if key.endswith("gamma") or (key.endswith("weight") and len(shape) == 1):
        return torch.ones(shape, dtype=dtype)
    inside = math.prod(shape[1:])
    small = len(shape) == 1 or "embedding.weight" in key or key == "shared.weight"
    # As nn.Linear and the convolutions start: a uniform draw of this variance.
    spread = 0.02 if small else (3 * inside) ** -0.5
    return torch.randn(shape, generator=generator).mul_(spread).to(dtype)


def tensors_of(part: Part) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and precision in the file of every tensor of a part, by its published key."""
    assert part.build is not None
    with torch.device("meta"):
        state = part.build(part.config)
    return {k: (v.shape, part.dtype if v.dtype.is_floating_point else v.dtype) for k, v in state.items()}


def bytes_of(tensors: dict[str, tuple[torch.Size, torch.dtype]]) -> int:
    """What a file of these tensors takes, without its header."""
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in tensors.values())


def write_weights(path: Path, tensors: dict[str, tuple[torch.Size, torch.dtype]], seed: int) -> None:
    """A safetensors file of random weights, written tensor by tensor; whole or not at all."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for key, (shape, dtype) in tensors.items():
        size = math.prod(shape) * dtype.itemsize
        header[key] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    # Each file by itself, so that a part made alone equals the part made with the others.
    generator = torch.Generator().manual_seed(seed + zlib.crc32(path.parent.name.encode()))

    def write(draft: Path) -> None:
        with draft.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for key, (shape, dtype) in tensors.items():
                file.write(drawn(key, shape, dtype, generator).view(torch.uint8).numpy().tobytes())

    replace_whole(path, write)


def _json(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    replace_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def build(name: str, directory: Path, only: tuple[str, ...] = (), seed: int = 0) -> int:
    """Write the replica of a model, or the parts `only`; returns the bytes of its weights. Raises OSError.

    model_index.json comes last: what was interrupted is no model.
    """
    replica = MODELS[name]
    chosen = {folder: part for folder, part in replica.parts.items() if folder in only or not only}
    listed = {folder: tensors_of(part) for folder, part in chosen.items() if part.build}
    needed = sum(map(bytes_of, listed.values()))
    directory.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(directory).free) < needed:
        raise OSError(f"{directory}: needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
    for folder, part in chosen.items():
        place = directory / folder
        place.mkdir(exist_ok=True)
        if part.config:
            _json(place / part.config_name, part.config)
        if part.extra:
            part.extra(place)
        if folder in listed:
            began = time.perf_counter()
            write_weights(place / part.weights, listed[folder], seed)
            count = sum(math.prod(shape) for shape, dtype in listed[folder].values() if dtype.is_floating_point)
            size, seconds = bytes_of(listed[folder]) / 1e9, time.perf_counter() - began
            print(f"{folder}: {count:,} parameters, {size:.2f} GB, {seconds:.0f} s", file=sys.stderr)
    _json(directory / "model_index.json", replica.index)
    return needed


def main() -> None:
    """Build and print the directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="text-to-video-ms-1.7b", choices=MODELS)
    parser.add_argument("directory", nargs="?", type=Path, help="where to; replica/NAME if not said")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="this part alone; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.only) - set(MODELS[options.name].parts):
        parser.error(f"--only: {', '.join(sorted(unknown))}: not a part; {', '.join(MODELS[options.name].parts)} are")
    directory = options.directory or Path("replica") / options.name
    try:
        build(options.name, directory, tuple(options.only), options.seed)
    except OSError as error:
        sys.exit(f"error: {error}")
    print(directory)


if __name__ == "__main__":
    main()
