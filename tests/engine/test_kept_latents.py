"""Kept latents: files that are equal for equal films, and refused when damaged or of another film."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flickbook.engine.kept_latents import KeptLatents
from flickbook.errors import MediaError
from flickbook.spec import Lora, Plan

LATENTS = np.linspace(-3, 3, 4 * 2 * 3 * 3, dtype=np.float32).reshape(4, 2, 3, 3)


def test_a_file_holds_the_latents_and_what_made_them(plan: Callable[..., Plan], tmp_path: Path) -> None:
    made = KeptLatents.of(plan(), LATENTS, "ab" * 32)
    path = tmp_path / "kept.safetensors"
    path.write_bytes(made.to_bytes())
    there = KeptLatents.read(path)
    assert np.array_equal(there.latents, LATENTS.astype(np.float16)) and there.frames_sha256 == "ab" * 32
    assert there.to_bytes() == path.read_bytes()
    assert there.fit(plan(seed=9, num_frames=8, prompt="a blue square"))
    assert not there.fit(plan().model_copy(update={"width": 256}))
    assert not there.fit(plan().model_copy(update={"loras": (Lora(name="ink", sha256="0" * 64),)}))
    assert not there.fit(plan().model_copy(update={"revision": "other"}))


@pytest.mark.parametrize("place", [20, -1])
def test_a_damaged_file_is_refused(plan: Callable[..., Plan], place: int, tmp_path: Path) -> None:
    data = bytearray(KeptLatents.of(plan(), LATENTS, "ab" * 32).to_bytes())
    data[place] ^= 1
    path = tmp_path / "kept.safetensors"
    path.write_bytes(data)
    with pytest.raises(MediaError):
        KeptLatents.read(path)
    path.write_bytes(bytes(data[:40]))
    with pytest.raises(MediaError):
        KeptLatents.read(path)
    with pytest.raises(MediaError, match="begin from an image instead"):
        KeptLatents.read(tmp_path / "none.safetensors")
