"""Which file holds a network's weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from flickbook.errors import WeightsError
from flickbook.hub.layout import weights_file


def test_the_plain_file_wins_and_a_variant_stands_in(tmp_path: Path) -> None:
    for name in ("model.fp16.safetensors", "other.safetensors", "model.fp16.bin"):
        (tmp_path / name).touch()
    assert weights_file(tmp_path, "model").name == "model.fp16.safetensors"
    (tmp_path / "model.safetensors").touch()
    assert weights_file(tmp_path, "model").name == "model.safetensors"


def test_nothing_there_gives_the_plain_name(tmp_path: Path) -> None:
    assert weights_file(tmp_path / "missing", "model") == tmp_path / "missing" / "model.safetensors"


def test_a_checkpoint_alone_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(WeightsError, match=r"holds model\.ckpt and no safetensors.*models convert"):
        weights_file(tmp_path, "model")
