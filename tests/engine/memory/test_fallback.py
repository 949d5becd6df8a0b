"""A film whose memory runs out goes on with less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flickbook.catalogue import find
from flickbook.diffusion.autoencoder import Autoencoder
from flickbook.diffusion.unet3d import UNet3D
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.memory import fallback
from flickbook.spec import Placement, Plan


def made(engine: Engine, plan: Plan) -> tuple[np.ndarray, list[str]]:
    """The film's frames, and the phase of each of its steps."""
    frames, phases = [], []
    for event in engine.run([plan]):
        if isinstance(event, Frames):
            frames.append(event.frames)
        else:
            phases.append(event.phase)
    return np.concatenate(frames), phases


def starve(monkeypatch: pytest.MonkeyPatch, network: type, method: str, most: int) -> list[int]:
    """Let `network` run out of memory, as torch says it, for more than `most` films or frames at once."""
    kept, seen = getattr(network, method), list[int]()

    def run(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(x))
        if len(x) > most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        return kept(self, x, *args, **kwargs)

    monkeypatch.setattr(network, method, run)
    return seen


@pytest.mark.slow
def test_out_of_memory_while_decoding_continues_with_fewer_frames(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = made(Engine(find("builtin"), Placement(decode_frames=1)), plan())
    seen = starve(monkeypatch, Autoencoder, "decode", 1)
    starved = Engine(find("builtin"), Placement(decode_frames=3))
    frames, phases = made(starved, plan())
    assert phases.count("denoise") == 3 and seen == [3, 1, 1, 1, 1]
    assert np.array_equal(frames, whole), "as if it had been decoded so from the start"
    assert starved.placement.rungs == ("decode: decode_frames 1",)
    assert any("decode_frames 1" in note for note in starved.notes("a red circle"))


@pytest.mark.slow
def test_frames_yielded_before_out_of_memory_are_not_yielded_again(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second piece of the second film fails: what follows begins with the first frame that is missing."""
    plans = [plan(), plan(seed=8)]
    whole = [made(Engine(find("builtin"), Placement(decode_frames=1)), each)[0] for each in plans]
    kept, calls = Autoencoder.decode, list[int]()

    def decode(self: Any, x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(self, x)

    monkeypatch.setattr(Autoencoder, "decode", decode)
    handed = [e for e in Engine(find("builtin"), Placement(decode_frames=3)).run(plans) if isinstance(e, Frames)]
    assert calls[:4] == [3, 1, 3, 1]
    assert [(each.film, each.start, len(each.frames)) for each in handed] == [
        (0, 0, 3),
        (0, 3, 1),
        (1, 0, 3),
        (1, 3, 1),
    ]
    for film, frames in enumerate(whole):
        found = np.concatenate([each.frames for each in handed if each.film == film])
        assert np.abs(found.astype(int) - frames).max() <= 1


@pytest.mark.slow
def test_out_of_memory_while_denoising_continues_from_the_last_step(
    engine: Engine, plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = made(engine, plan())
    kept, calls = UNet3D.forward, list[int]()

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(x))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(self, x, *args, **kwargs)

    monkeypatch.setattr(UNet3D, "forward", forward)
    starved = Engine(find("builtin"), Placement())
    frames, phases = made(starved, plan())
    assert phases.count("denoise") == 3, "two steps stood, the third was done in halves"
    assert starved.placement.rungs == ("denoise: slicing",)
    assert np.abs(frames.astype(int) - whole).max() <= 2


def test_other_errors_are_not_treated_as_out_of_memory(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(self: Any, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("the size of tensor a must match")

    monkeypatch.setattr(Autoencoder, "decode", decode)
    with pytest.raises(RuntimeError, match="must match"):
        made(Engine(find("builtin"), Placement()), plan())


@pytest.mark.slow
def test_out_of_memory_on_the_last_rung_is_raised(plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    starve(monkeypatch, Autoencoder, "decode", 0)
    starved = Engine(find("builtin"), Placement())
    with pytest.raises(RuntimeError, match="allocate"):
        made(starved, plan())
    assert starved.placement.decode_frames == 1 and starved.placement.tiling


@given(
    device=st.sampled_from(["cpu", "cuda", "mps"]),
    phase=st.sampled_from(["denoise", "decode"]),
    frames=st.integers(1, 64),
    offload=st.sampled_from(["none", "model", "sequential"]),
)
def test_the_ladder_of_fallbacks_ends(device: str, phase: Any, frames: int, offload: Any) -> None:
    placement, rungs = Placement(device=device, decode_frames=frames, offload=offload), 0
    while (lower := fallback.lower(placement, phase)) is not None:
        assert lower != placement and len(lower.rungs) == rungs + 1
        placement, rungs = lower, rungs + 1
    assert rungs <= 6 and placement.device == "cpu"


def test_a_fallback_to_the_cpu_uses_the_cpu_default_of_decode_frames() -> None:
    card = Placement(device="cuda", decode_frames=16, slicing=True, offload="model")
    lower = fallback.lower(card, "denoise")
    assert lower is not None and (lower.device, lower.decode_frames) == ("cpu", Placement().decode_frames)
    assert lower.rungs == ("denoise: device cpu, offload none",)
