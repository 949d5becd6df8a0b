"""The tiny pipelines stand on the installed diffusers and transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import ALL, MODULAR


@pytest.mark.slow
@pytest.mark.parametrize("build", ALL, ids=lambda build: build.__name__)
def test_it_is_built_and_saved_as_safetensors(build: Callable[[], Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    build().save_pretrained(tmp_path)
    assert (tmp_path / "model_index.json").is_file()
    assert list(tmp_path.glob("*/*.safetensors")) and not list(tmp_path.glob("*/*.bin"))


@pytest.mark.slow
@pytest.mark.parametrize("build", MODULAR, ids=lambda build: build.__name__)
def test_a_modular_one_is_built_and_saved_as_safetensors(build: Callable[[], Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    build().save_pretrained(str(tmp_path), overwrite_modular_index=True)
    assert (tmp_path / "modular_model_index.json").is_file()
    assert list(tmp_path.glob("*/*.safetensors")) and not list(tmp_path.glob("*/*.bin"))
