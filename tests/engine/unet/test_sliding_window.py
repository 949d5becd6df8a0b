"""Films longer than the model was trained for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from flickbook.catalogue import find
from flickbook.engine.family import Setup
from flickbook.engine.generate import generate
from flickbook.engine.unet import sliding_window
from flickbook.engine.unet.family import UNetFamily
from flickbook.spec import Placement, Plan
from flickbook.windows import starts

MakePlan = Callable[..., Plan]


def test_window_weights_are_positive_and_highest_in_the_middle() -> None:
    weight = sliding_window.share(16)
    assert torch.equal(weight, weight.flip(0)) and float(weight.min()) > 0 and float(weight.max()) <= 1
    assert weight.argmax() in (7, 8)


def test_windows_of_a_framewise_model_equal_the_whole() -> None:
    """A model that answers each frame by itself is the same in windows."""
    x = torch.randn(2, 3, 40, 4, 4, generator=torch.Generator().manual_seed(0))

    def model(part: Tensor, timestep: Tensor, number: int) -> Tensor:
        assert part.shape[2] == 16
        return 2 * part + timestep

    whole = sliding_window.blended(model, 40, 16)
    assert torch.allclose(whole(x, torch.tensor(3.0)), 2 * x + 3, atol=1e-6)


def test_disagreeing_windows_are_blended_smoothly() -> None:
    x = torch.zeros(1, 1, 24, 1, 1)
    whole = sliding_window.blended(lambda part, _, start: torch.full_like(part, float(start)), 24, 16)
    answer = whole(x, torch.tensor(0)).flatten()
    assert torch.all(answer[:8] == 0) and torch.all(answer[16:] == 8)
    assert torch.all(answer.diff() >= 0) and float(answer.diff().max()) < 8 * 0.2


def test_windows_shift_between_steps() -> None:
    begins: list[int] = []

    def model(part: Tensor, timestep: Tensor, start: int) -> Tensor:
        begins.append(start)
        return part

    whole = sliding_window.blended(model, 48, 16, (900, 600, 300))
    for timestep in (900, 600, 300):
        whole(torch.zeros(1, 1, 48, 1, 1), torch.tensor(timestep))
        begins.append(-1)
    assert begins == [0, 8, 16, 24, 32, -1, 0, 4, 12, 20, 28, 32, -1, 0, 1, 9, 17, 25, 32, -1]


def test_a_short_film_keeps_its_noise() -> None:
    for frames in (16, 9):
        shape = (4, frames, 2, 2)
        expected = torch.randn(shape, generator=torch.Generator().manual_seed(7))
        assert torch.equal(sliding_window.noise([7], shape, 16)[0], expected)


def test_a_long_film_shares_its_noise() -> None:
    """Frame for frame later noise is earlier noise, so that any two windows hold nearly the same frames of it."""
    made = sliding_window.noise([7, 8], (4, 61, 2, 2), 16)
    assert made.shape == (2, 4, 61, 2, 2) and torch.equal(
        made[:, :, :16], sliding_window.noise([7, 8], (4, 16, 2, 2), 16)
    )
    first = {tuple(frame.flatten().tolist()) for frame in made[0].transpose(0, 1)[:16]}
    assert {tuple(frame.flatten().tolist()) for frame in made[0].transpose(0, 1)} == first
    for start in range(16, 56, 8):
        half = {tuple(frame.flatten().tolist()) for frame in made[0].transpose(0, 1)[start : start + 8]}
        before = {tuple(frame.flatten().tolist()) for frame in made[0].transpose(0, 1)[start - 16 : start - 8]}
        assert half == before
    assert not torch.equal(made[0], made[1])


@pytest.mark.slow
@pytest.mark.model
def test_the_built_in_model_makes_a_long_film(plan: MakePlan) -> None:
    family = UNetFamily.load(Setup(find("builtin"), find("builtin").path(), Placement()))
    made = plan(num_frames=40, prompt="a red circle moving left on a blue background")
    *_, last = family.denoise([made], family.encode([made]))
    assert last.done and last.latents.shape == (1, 8, 40, 8, 8)
    two = plan(num_frames=40, prompt=made.prompt, prompt_at=((20, "a neon city at night"),))
    *_, other = family.denoise([two], family.encode([two]))
    change = (last.latents - other.latents).abs().mean((0, 1, 3, 4))
    # Windows tell one another a little in each step; the far end hears almost nothing of it.
    assert 10 * float(change[:8].max()) < float(change[-8:].min())


@pytest.mark.trial
@pytest.mark.model
def test_films_of_128_frames_have_no_seams_and_keep_their_colours() -> None:
    """Between windows neighbours differ at most 1.1 times as much as within; the ends at most 2 % in any channel.

    Of four films together: neighbours of one film differ by chance more than by windows.
    """
    borders = {place for start in starts(128, 16) for place in (start - 1, start + 15) if 0 <= place < 127}
    within, steps = [place for place in range(127) if place not in borders], []
    views = [("waves with a sailboat", seed) for seed in (7, 1, 3)]
    for prompt, seed in [*views, ("a red circle moving left on a blue background", 7)]:
        frames = generate(prompt, num_frames=128, num_inference_steps=12, seed=seed).frames.astype(np.float32)
        steps.append(np.abs(frames[1:] - frames[:-1]).mean((1, 2, 3)))
        drift = frames[-16:].mean((0, 1, 2)) - frames[:16].mean((0, 1, 2))
        assert np.abs(drift).max() <= 0.02 * 255, (prompt, seed)
    assert np.mean(steps, 0)[sorted(borders)].mean() <= 1.1 * np.mean(steps, 0)[within].mean()
