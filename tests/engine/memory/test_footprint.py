"""What is counted of files and of networks that run, by the headers of files made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.catalogue import find
from flickbook.diffusion.tiles import TILE
from flickbook.engine.memory import footprint
from flickbook.engine.memory.components import parts, unloaded_bytes
from flickbook.errors import WeightsError
from flickbook.resolution import resolve
from flickbook.spec import Lora, Placement, Plan, Request

MODELSCOPE = find("text-to-video-ms-1.7b")
SIDES = st.integers(2, 16).map(lambda side: 64 * side)
PLACES = st.builds(
    Placement,
    dtype=st.sampled_from(["float32", "bfloat16"]),
    decode_frames=st.sampled_from([1, 4, 16]),
    slicing=st.booleans(),
    tiling=st.booleans(),
)


def film(**fields: Any) -> Plan:
    return resolve(Request.of(prompt="a panda surfing", model=MODELSCOPE.name, seed=1, **fields))


# ---- what runs ----


@given(SIDES, SIDES, st.integers(1, 128), PLACES, st.sampled_from(["width", "height", "num_frames", "steps"]))
def test_larger_films_never_need_less_memory(
    width: int, height: int, frames: int, placement: Placement, grows: str
) -> None:
    plan = film(width=width, height=height, num_frames=frames)
    larger = plan.model_copy(update={"width": {"width": width + 64}, "height": {"height": height + 64}}.get(grows, {}))
    if grows == "num_frames":
        larger = film(width=width, height=height, num_frames=frames + 1)
    less, more = (footprint.needs(MODELSCOPE, each, None, placement) for each in (plan, larger))
    assert less.peak <= more.peak and less.denoise <= more.denoise and less.decode <= more.decode
    assert less.weights == more.weights


def test_a_sequence_needs_the_memory_of_one_frame() -> None:
    plan = film(num_frames=64)
    sequence = plan.model_copy(update={"task": "sequence"})
    one, all_of_them = (footprint.needs(MODELSCOPE, each, None, Placement()) for each in (sequence, plan))
    still = footprint.needs(MODELSCOPE, film(num_frames=1), None, Placement())
    assert (one.denoise, one.decode) == (still.denoise, still.decode)
    assert one.denoise < all_of_them.denoise


def test_a_large_text_encoder_is_released_unless_a_lora_changed_it() -> None:
    plan = film(num_frames=32)
    tuned = plan.model_copy(update={"loras": (Lora(name="a", sha256="0" * 64),)})
    (words,) = (part.loaded for part in parts(MODELSCOPE, None, Placement()) if part.kind == "words")
    alone, with_it = (footprint.needs(MODELSCOPE, each, None, Placement()) for each in (plan, tuned))
    assert with_it.peak - alone.peak == words > 500 * footprint.MIB and with_it.weights == alone.weights
    assert not unloaded_bytes(MODELSCOPE, None, Placement(device="cuda"), False)
    assert not unloaded_bytes(find("builtin"), None, Placement(), False)


def test_the_peak_of_a_small_film_is_that_of_loading() -> None:
    one, two = (footprint.needs(MODELSCOPE, film(num_frames=frames), None, Placement()) for frames in (1, 2))
    assert one.peak == two.peak > one.weights and one.denoise < two.denoise


# ---- files ----


def write(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """A safetensors file of zeros."""
    width = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
    header, at = dict[str, Any](), 0
    for name, (dtype, shape) in tensors.items():
        size = width[dtype] * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    parts = {"text_encoder": ["transformers", "A"], "unet": ["diffusers", "B"], "vae": ["diffusers", "C"]}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "P", **parts}))
    write(tmp_path / "text_encoder/model.fp16.safetensors", {"a": ("F16", [100, 10]), "ids": ("I64", [5])})
    write(tmp_path / "unet/diffusion_pytorch_model-00001-of-00002.safetensors", {"b": ("F16", [300])})
    write(tmp_path / "unet/diffusion_pytorch_model-00002-of-00002.safetensors", {"c": ("F16", [70, 10])})
    write(tmp_path / "vae/diffusion_pytorch_model.fp16.safetensors", {"d": ("F16", [200])})
    write(tmp_path / "vae/diffusion_pytorch_model.safetensors", {"d": ("F32", [200])})
    write(tmp_path / "elsewhere/whole_model.safetensors", {"z": ("F32", [9999])})
    return tmp_path


def test_weights_are_counted_from_headers(directory: Path) -> None:
    words, network, decoder = parts(MODELSCOPE, directory, Placement(dtype="float32"))
    assert (words.stored, words.loaded, words.cast) == (2040, 4040, True)
    assert (network.stored, network.loaded, network.largest) == (2000, 4000, 2800)
    # Of two precisions the plain one is loaded.
    assert (decoder.stored, decoder.loaded, decoder.cast) == (800, 800, False)
    words, network, decoder = parts(MODELSCOPE, directory, Placement(dtype="bfloat16"))
    assert (words.loaded, network.loaded, decoder.loaded) == (2040, 2000, 400)
    # float16 to bfloat16 is a cast of the same width.
    assert network.cast and not parts(MODELSCOPE, directory, Placement(dtype="float16"))[1].cast
    eight = parts(MODELSCOPE, directory, Placement(dtype="bfloat16", quantize="int8"))
    assert [part.loaded for part in eight] == [2040, 600 + 700, 400]


@pytest.mark.parametrize("damage", [b"", b"\xff" * 8, (40).to_bytes(8, "little") + b"{}", b"\2" + bytes(7) + b"[]"])
def test_a_damaged_file_is_named(directory: Path, damage: bytes) -> None:
    path = directory / "unet/diffusion_pytorch_model-00001-of-00002.safetensors"
    path.write_bytes(damage)
    with pytest.raises(WeightsError, match="00001-of-00002"):
        footprint.needs(MODELSCOPE, film(), directory, Placement())


def test_the_estimate_uses_the_tile_size_of_the_decoder() -> None:
    assert footprint.TILE == TILE
