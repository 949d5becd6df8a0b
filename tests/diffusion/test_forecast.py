"""Forecasts of the network's answers: how far they are trusted, and that a run with them is as sure as one without."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flickbook.diffusion import forecast
from flickbook.diffusion.forecast import Answers, Pace
from flickbook.diffusion.sampler import SOLVERS, SamplerState, sample
from flickbook.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config(
    {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    }
)
PACE = Pace(error=0.02)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Network:
    """A toy that is smooth in time and treats each film by itself; it remembers how many it was asked about."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.asked.append(len(x))
        answer: Tensor = torch.sin(0.5 * x.roll(1, dims=1) + 0.001 * t)
        return answer


def begin(films: int = 2, steps: int = 25) -> SamplerState:
    return SamplerState.begin(
        torch.cat([noise(1, 4, 3, 4, 4, seed=film) * (1 + 2 * film) for film in range(films)]),
        SCHEDULE.timesteps(steps),
    )


def run(state: SamplerState, pace: Pace | None, solver: str = "ddim") -> tuple[list[SamplerState], Network]:
    network = Network()
    return list(sample(network, state, SCHEDULE, solver, pace=pace)), network


@pytest.mark.parametrize("solver", SOLVERS)
def test_fewer_answers_give_nearly_the_same(solver: str) -> None:
    exact, all_of_them = run(begin(1), None, solver)
    paced, some = run(begin(1), PACE, solver)
    assert len(some.asked) < 0.7 * len(all_of_them.asked) == 0.7 * 25
    assert paced[-1].answers[0].asked == len(some.asked)
    away = (paced[-1].latents - exact[-1].latents).square().mean() / exact[-1].latents.square().mean()
    assert away.sqrt() < 0.02


def test_trusting_nothing_is_exact() -> None:
    exact, _ = run(begin(), None)
    paced, network = run(begin(), Pace(error=0.0))
    assert len(network.asked) == 25 and torch.equal(paced[-1].latents, exact[-1].latents)


def test_the_first_steps_and_the_last_one_ask() -> None:
    states, _ = run(begin(1), Pace(error=1e9, most=100))
    counts = [state.answers[0].asked for state in states]
    assert counts == [1, 2, *[3] * 22, 4]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("stopped", [1, 2, 5, 11, 24])
def test_a_run_that_was_stopped_ends_in_the_same_bits(solver: str, stopped: int) -> None:
    whole, _ = run(begin(), PACE, solver)
    kept = SamplerState.from_tensors(whole[stopped - 1].to_tensors())
    rest, network = run(kept, PACE, solver)
    assert torch.equal(rest[-1].latents, whole[-1].latents)
    assert [each.asked for each in rest[-1].answers] == [each.asked for each in whole[-1].answers]
    assert len(rest) == 25 - stopped


def test_without_its_last_answers_it_would_not() -> None:
    whole, _ = run(begin(), PACE)
    forgot = replace(SamplerState.from_tensors(whole[11].to_tensors()), answers=())
    rest, _ = run(forgot, PACE)
    assert not torch.equal(rest[-1].latents, whole[-1].latents)


def test_a_film_depends_on_no_other_of_its_batch() -> None:
    together, network = run(begin(3), PACE)
    assert set(network.asked) == {3}, "what is rounded depends on how many are asked about"
    assert len({each.asked for each in together[-1].answers}) > 1, "they rest at different steps"
    for film in range(3):
        first = begin(3)
        alone, _ = run(replace(first, latents=first.latents[film : film + 1]), PACE)
        assert torch.equal(alone[-1].latents[0], together[-1].latents[film])


def test_the_error_of_a_line_grows_with_the_square_of_the_distance() -> None:
    pace = Pace(error=0.09, most=9, lead=0)
    assert [pace.rest(5, 100, 1, wrong) for wrong in (0.1, 0.09, 0.022, 0.01, 0.001)] == [0, 1, 2, 3, 9]
    assert pace.rest(5, 100, 2, 0.04) == 3, "what was wrong over two steps was less so over one"
    assert [pace.rest(index, 10, 1, 0.0) for index in (0, 7, 8, 9)] == [8, 1, 0, 0]
    assert Pace(error=1.0).rest(1, 100, 1, 0.0) == 0
    assert [Pace(error=0.1, lead=0).rest(3, total, 1, 0.05) for total in (12, 13, 25, 50)] == [0, 1, 1, 1]


def test_a_line_goes_through_both_answers_and_on() -> None:
    first, last = noise(2, 3, seed=1), noise(2, 3, seed=2)
    answers = Answers((800, 700), (first, last))
    assert torch.allclose(answers.forecast(600), 2 * last - first)
    assert torch.allclose(answers.forecast(700), last)


def test_answers_are_kept_as_plain_tensors() -> None:
    states, _ = run(begin(), PACE)
    flat = forecast.to_tensors(states[9].answers)
    (one, other) = forecast.from_tensors(flat, "cpu")
    assert (one.rest, one.gap, one.asked, one.timesteps) == tuple(
        getattr(states[9].answers[0], name) for name in ("rest", "gap", "asked", "timesteps")
    )
    assert torch.equal(other.outputs[1], states[9].answers[1].outputs[1])
    assert len({tensor.data_ptr() for tensor in flat.values()}) == len(flat)
    assert forecast.to_tensors(()) == {} and forecast.from_tensors({}, "cpu") == ()
