"""Ways between noises and between meanings."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flickbook.catalogue import find
from flickbook.engine.engine import Engine
from flickbook.engine.sequences.interpolation import PromptInterpolation, blended, spherical
from flickbook.engine.sequences.sequence import moment
from flickbook.engine.sequences.stills import UNetStills, stills
from flickbook.engine.unet.family import UNetFamily
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Request

WORDS = ["a red circle on a blue background", "a yellow square on a green background", "a green triangle"]


def angle(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.acos(float((a @ b) / (a.norm() * b.norm())))


@given(st.floats(0, 1), st.integers(0, 2**31))
def test_spherical_interpolation_keeps_the_variance_of_noise(t: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 20_000, generator=generator)
    between = spherical(a, b, t)
    assert abs(float(between.std()) - 1) < 0.03
    # In the middle of the straight line there would be 0.71 of it.
    assert angle(a.double(), between.double()) == pytest.approx(t * angle(a.double(), b.double()), abs=1e-4)


def test_spherical_interpolation_returns_its_endpoints() -> None:
    a, b = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(spherical(a, b, 0.0), a)
    assert torch.allclose(spherical(a, b, 1.0), b, atol=1e-6)
    assert torch.allclose(spherical(a * 4, b, 0.25).norm(dim=-1), 3 * a.norm(dim=-1) + b.norm(dim=-1) / 4)


@pytest.mark.parametrize("b", [1.0, 2.0, 0.0, -1.0])
def test_opposite_and_equal_directions_are_interpolated_linearly(b: float) -> None:
    a = torch.ones(8)
    assert torch.allclose(spherical(a, a * b, 0.25), a * (0.75 + 0.25 * b), atol=1e-6)


def test_blended_embeddings_keep_shared_values_and_all_tokens() -> None:
    first = {"embeds": torch.ones(1, 2, 4), "mask": torch.tensor([[1, 0]]), "same": torch.rand(1, 3)}
    second = {"embeds": torch.zeros(1, 2, 4), "mask": torch.tensor([[1, 1]]), "same": first["same"]}
    middle = blended(first, second, 0.5)
    assert middle["same"] is first["same"] and middle["mask"].tolist() == [[1, 1]]
    assert middle["embeds"].tolist() == [[[0.5] * 4] * 2]
    assert blended(first, second, 0) is first and blended(first, second, 1) is second


@pytest.fixture(scope="module")
def maker() -> UNetStills:
    plan = resolve(Request(prompt="x", num_frames=1, seed=7, num_inference_steps=2))
    made = stills(Engine(find("builtin"), Placement()).loaded(), plan)
    assert isinstance(made, UNetStills) and isinstance(made._family, UNetFamily)
    return made


def plan_with(drift: float) -> Plan:
    return resolve(Request(prompt="x", num_frames=1, seed=7)).model_copy(update={"drift": drift})


@pytest.mark.model
@pytest.mark.parametrize("drift", [0.0, 0.3, 1.0])
def test_the_noise_moves_in_even_steps(maker: UNetStills, drift: float) -> None:
    travel = PromptInterpolation(maker, plan_with(drift), WORDS)
    noises = [travel.at(moment(frame, 31, 3))[1].flatten() for frame in range(31)]
    assert torch.equal(noises[0], maker.noise(7).flatten())
    steps = [float((b - a).norm() / a.norm()) for a, b in zip(noises, noises[1:], strict=False)]
    # A quarter turn is the whole way to another seed's noise: here 15 frames for `drift` of it.
    assert all(step == pytest.approx(drift * math.pi / 2 / 15, rel=0.15) for step in steps)
    assert all(abs(float(noise.std()) - 1) < 0.12 for noise in noises)


@pytest.mark.model
def test_each_prompt_has_its_own_embedding_at_its_frame(maker: UNetStills) -> None:
    travel = PromptInterpolation(maker, plan_with(0.3), WORDS)
    for frame, text in zip((0, 15, 30), WORDS, strict=True):
        assert torch.equal(travel.at(moment(frame, 31, 3))[0]["context"], maker.embedding(text)["context"])
    middle = travel.at(moment(22, 31, 3))[0]["context"]
    assert not torch.equal(middle, maker.embedding(WORDS[1])["context"])


@pytest.mark.model
def test_a_single_prompt_changes_only_the_noise(maker: UNetStills) -> None:
    travel = PromptInterpolation(maker, plan_with(0.5), WORDS[:1])
    (first, begin), (last, end) = travel.at(moment(0, 5, 1)), travel.at(moment(4, 5, 1))
    assert torch.equal(first["context"], last["context"]) and not torch.equal(begin, end)
