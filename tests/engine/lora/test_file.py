"""LoRA files that are damaged, hostile, or something else under that name; and what a whole one says of itself."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from flickbook.engine.lora.file import LoraFile
from flickbook.engine.memory import device
from flickbook.errors import WeightsError

DOWN, UP, ALPHA = "lora_unet_a_b.lora_down.weight", "lora_unet_a_b.lora_up.weight", "lora_unet_a_b.alpha"


def whole(**changes: Any) -> dict[str, torch.Tensor]:
    made = {DOWN: torch.ones(4, 6), UP: torch.ones(8, 4), ALPHA: torch.tensor(2.0), **changes}
    return {key: value for key, value in made.items() if value is not None}


def written(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> LoraFile:
    save_file(tensors, path, metadata=metadata)
    return LoraFile.open(path)


def refused(path: Path, data: bytes) -> str:
    """The message with which these bytes are refused."""
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        file = LoraFile.open(path)
        file.read(file.pairs)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and "; " in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "style.safetensors"


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    return held.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zipped(), "a PyTorch checkpoint under another name"),
        (pickle.dumps(list(range(300)), protocol=2), "a pickle under another name"),
        (pickle.dumps(list(range(300)), protocol=5), "a pickle under another name"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "not safetensors, or damaged"),
        (b"\x10\0\0", "not safetensors, or damaged"),
        (struct.pack("<Q", 1 << 40) + b"{}", "not safetensors, or damaged"),
        (struct.pack("<Q", 1 << 20) + b"{}", "truncated within its header"),
        (struct.pack("<Q", 2) + b"{}", "is no LoRA: none of its 0 keys"),
        (struct.pack("<Q", 2) + b"[]", "damaged"),
        (struct.pack("<Q", 4) + b"\xff\xfe\0\0", "damaged"),
        (save({"unet.conv_in.weight": torch.ones(2, 2)}), "is no LoRA: none of its 1 keys"),
        (save({str(i): torch.ones(0) for i in range(20_001)}), "holds 20001 tensors, more than 20000"),
        (save({"lora_unet_a.hada_w1_a": torch.ones(2, 2)}), "is a LoHa"),
        (save({"a.lokr_w1": torch.ones(2, 2)}), "is a LoKr"),
        (save(whole(**{UP: torch.ones(8, 5)})), "has matrices of"),
        (save(whole(**{UP: torch.ones(8, 4, 3, 3)})), "has matrices of"),
        (save(whole(**{DOWN: torch.ones(4)})), "has matrices of"),
        (save(whole(**{ALPHA: torch.ones(2)})), "has matrices of"),
        (save(whole(**{DOWN: torch.ones(0, 6), UP: torch.ones(8, 0)})), "has rank 0, not 1 to 4096"),
        (save(whole(**{DOWN: torch.ones(5000, 1), UP: torch.ones(1, 5000)})), "has rank 5000, not 1 to 4096"),
        (save(whole(**{UP: torch.full((8, 4), torch.nan)})), "numbers that are not finite"),
        (save(whole(**{DOWN: torch.full((4, 6), torch.inf)})), "numbers that are not finite"),
        (save(whole(**{ALPHA: torch.tensor(torch.nan)})), "numbers that are not finite"),
    ],
)
def test_an_invalid_file_is_refused_with_its_reason(path: Path, data: bytes, reason: str) -> None:
    assert reason in refused(path, data)


def test_a_truncated_file_is_refused(path: Path) -> None:
    data = save(whole())
    for length in [*range(0, len(data), 7), len(data) - 1]:
        refused(path, data[:length])


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_the_file_name(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    refused(tmp_path_factory.getbasetemp() / "any.safetensors", data)


@settings(max_examples=50)
@given(st.integers(0, 400), st.integers(0, 255))
def test_one_changed_byte_is_refused_or_leaves_usable_matrices(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    data = bytearray(save(whole()))
    data[position % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    path.write_bytes(bytes(data))
    try:
        file = LoraFile.open(path)
        factors = file.read(file.pairs)
    except WeightsError:
        return
    # What was accepted can be multiplied: finite matrices of one rank.
    assert file.pairs
    for pair in file.pairs:
        down, up = factors[pair.down], factors[pair.up]
        assert down.shape[0] == up.shape[1] and (up @ down).shape == (8, 6)
        assert down.isfinite().all() and up.isfinite().all()


def test_a_huge_file_is_refused_unread(path: Path) -> None:
    """9 GB that are not there (the file is sparse) under names of a LoRA that cannot be multiplied."""
    middle, end = 4 << 30, 9 << 30
    header = {
        DOWN: {"dtype": "F32", "shape": [4, 1 << 28], "data_offsets": [0, middle]},
        UP: {"dtype": "F32", "shape": [1 << 28, 5], "data_offsets": [middle, end]},
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        try:
            file.truncate(8 + len(text) + end)
        except OSError:
            pytest.skip("no sparse files here")
    before = device.peak_memory()
    with pytest.raises(WeightsError, match="has matrices of"):
        LoraFile.open(path)
    assert device.peak_memory() - before < 64 << 20


def test_missing_files_folders_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    for name, reason in (("none.safetensors", "No such file"), ("style.pt", "not a .safetensors file")):
        with pytest.raises(WeightsError, match=reason):
            LoraFile.open(tmp_path / name)
    with pytest.raises(WeightsError, match="not a file"):
        (tmp_path / "folder.safetensors").mkdir()
        LoraFile.open(tmp_path / "folder.safetensors")


def test_the_scale_is_alpha_by_rank(path: Path) -> None:
    file = written(path, {key: value.half() for key, value in whole().items()})
    state = file.read(file.pairs)
    assert state.keys() == {DOWN, UP} and state[UP].dtype == torch.float32
    assert torch.equal(state[DOWN], torch.ones(4, 6)) and torch.equal(state[UP], torch.full((8, 4), 0.5))
    assert (file.style, file.rank_of(file.pairs[0]), file.rest) == ("kohya", 4, ())


def test_without_alpha_the_scale_is_one(path: Path) -> None:
    file = written(path, whole(**{ALPHA: None}))
    assert torch.equal(file.read(file.pairs)[UP], torch.ones(8, 4))


def test_a_tucker_decomposed_convolution_is_multiplied_out(path: Path) -> None:
    torch.manual_seed(0)
    down, mid, up = torch.randn(4, 6, 1, 1), torch.randn(3, 4, 3, 3), torch.randn(8, 3, 1, 1)
    file = written(path, {DOWN: down, UP: up, DOWN.replace("down", "mid"): mid})
    state = file.read(file.pairs)
    x = torch.randn(1, 6, 5, 5)
    conv = torch.nn.functional.conv2d
    assert torch.allclose(conv(conv(x, state[DOWN]), state[UP]), conv(conv(conv(x, down), mid), up), atol=1e-4)


def factor(path: Path, layer: str, **metadata: str) -> float:
    keys = (f"{layer}.lora_A.weight", f"{layer}.lora_B.weight")
    file = written(path, {keys[0]: torch.ones(4, 6), keys[1]: torch.ones(8, 4)}, **metadata)
    return float(file.read(file.pairs)[keys[1]][0, 0])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"transformer.lora_alpha": 8, "transformer.r": 4}, 2.0),
        ({"transformer.lora_alpha": 8, "transformer.use_rslora": True}, 4.0),
        ({"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"attn.to_q": 2}}, 0.5),
        ({"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"^blocks.0.attn.to_q": 4}}, 1.0),
        ({"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"to_k": 2, "(a+)+$": 1}}, 2.0),
        ({"text_encoder.lora_alpha": 8}, 1.0),
        ({"transformer.lora_alpha": "8"}, 1.0),
        ([1], 1.0),
    ],
)
def test_the_scale_comes_from_the_metadata_of_diffusers(path: Path, settings: Any, expected: float) -> None:
    assert factor(path, "transformer.blocks.0.attn.to_q", lora_adapter_metadata=json.dumps(settings)) == expected
    assert factor(path, "transformer.blocks.0.attn.to_q", lora_adapter_metadata="{") == 1.0


def test_the_scale_comes_from_the_adapter_config_of_peft(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "base_model_name_or_path": "people/base\nmodel"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    path = tmp_path / "adapter_model.safetensors"
    assert factor(path, "base_model.model.blocks.0.attn.to_q") == 4.0
    assert LoraFile.open(path).base_model == "people/base model"
    # Beside a file of another name they may be those of another LoRA.
    assert factor(tmp_path / "style.safetensors", "base_model.model.blocks.0.attn.to_q") == 1.0


@pytest.mark.parametrize(
    ("metadata", "base"),
    [
        ({"ss_base_model_version": "sd_v1"}, "sd_v1"),
        ({"modelspec.architecture": "wan2.1/lora"}, "wan2.1/lora"),
        ({"base_model": "\x1b[31mred\n" + "x" * 200}, "\\x1b[31mred " + "x" * 71),
        ({}, ""),
    ],
)
def test_the_base_model_is_read_from_the_metadata(path: Path, metadata: dict[str, str], base: str) -> None:
    assert written(path, whole(), **metadata).base_model == base
