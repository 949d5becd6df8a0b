"""Eight bits: refused with a remedy without torchao, close to the whole film with it."""

from __future__ import annotations

import math
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from flickbook.diffusion.attention import GEGLU
from flickbook.engine.generate import generate
from flickbook.errors import RequestError


class EightBits(nn.Parameter):
    """What a library that keeps weights in eight bits puts in a parameter's place."""


def test_an_unsplittable_gate_gives_the_same_output() -> None:
    whole, kept = GEGLU(8, 16), GEGLU(8, 16)
    kept.load_state_dict(whole.state_dict())
    kept.proj.weight = EightBits(kept.proj.weight.data)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(whole(x), kept(x), atol=1e-6)


@pytest.mark.skipif(find_spec("torchao") is not None, reason="torchao is installed")
def test_without_torchao_the_remedy_is_named() -> None:
    with pytest.raises(RequestError, match="precision=int8: needs the package torchao; .*bf16"):
        generate("a red circle", num_frames=1, precision="int8")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
def test_int8_keeps_the_film_within_40_decibels() -> None:
    prompt = "a red circle moving left on a blue background"
    full, kept = (generate(prompt, seed=7, precision=name) for name in ("fp32", "int8"))
    difference = (full.frames.astype(float) - kept.frames) ** 2
    assert 10 * math.log10(255**2 / difference.mean()) >= 40
    assert kept.recipe is not None and "torchao" in kept.recipe.versions
