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
PACE = Pace(error=0.05)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Network:
    """A toy that is smooth in time and treats each film by itself; it remembers how many it was asked about."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.batches.append(len(x))
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
    assert len(some.batches) < 0.7 * len(all_of_them.batches) == 0.7 * 25
    assert paced[-1].answers[0].evaluations == len(some.batches)
    away = (paced[-1].latents - exact[-1].latents).square().mean() / exact[-1].latents.square().mean()
    assert away.sqrt() < 0.03


def test_trusting_nothing_is_exact() -> None:
    exact, _ = run(begin(), None)
    paced, network = run(begin(), Pace(error=0.0))
    assert len(network.batches) == 25 and torch.equal(paced[-1].latents, exact[-1].latents)


def test_the_first_steps_and_the_last_one_ask() -> None:
    states, _ = run(begin(1), Pace(error=1e9, most=100))
    counts = [state.answers[0].evaluations for state in states]
    assert counts == [1, 2, *[3] * 22, 4]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("stopped", [1, 2, 5, 11, 24])
def test_a_run_that_was_stopped_ends_in_the_same_bits(solver: str, stopped: int) -> None:
    whole, _ = run(begin(), PACE, solver)
    kept = SamplerState.from_tensors(whole[stopped - 1].to_tensors())
    rest, network = run(kept, PACE, solver)
    assert torch.equal(rest[-1].latents, whole[-1].latents)
    assert [each.evaluations for each in rest[-1].answers] == [each.evaluations for each in whole[-1].answers]
    assert len(rest) == 25 - stopped


def test_without_its_last_answers_it_would_not() -> None:
    whole, _ = run(begin(), PACE)
    forgot = replace(SamplerState.from_tensors(whole[11].to_tensors()), answers=())
    rest, _ = run(forgot, PACE)
    assert not torch.equal(rest[-1].latents, whole[-1].latents)


def test_a_film_depends_on_no_other_of_its_batch() -> None:
    together, network = run(begin(3), PACE)
    assert set(network.batches) == {3}, "what is rounded depends on how many are asked about"
    assert len({each.evaluations for each in together[-1].answers}) > 1, "they rest at different steps"
    for film in range(3):
        first = begin(3)
        alone, _ = run(replace(first, latents=first.latents[film : film + 1]), PACE)
        assert torch.equal(alone[-1].latents[0], together[-1].latents[film])


def test_the_error_of_a_line_grows_with_the_square_of_the_distance() -> None:
    pace = Pace(error=0.09, most=9, lead=0)
    assert [pace.steps_to_skip(5, 100, 1, wrong) for wrong in (0.1, 0.09, 0.022, 0.01, 0.001)] == [0, 1, 2, 3, 9]
    assert pace.steps_to_skip(5, 100, 2, 0.04) == 3, "what was wrong over two steps was less so over one"
    assert [pace.steps_to_skip(index, 10, 1, 0.0) for index in (0, 7, 8, 9)] == [8, 1, 0, 0]
    assert Pace(error=1.0).steps_to_skip(1, 100, 1, 0.0) == 0
    assert [Pace(error=0.1, lead=0).steps_to_skip(3, total, 1, 0.05) for total in (12, 13, 25, 50)] == [0, 1, 1, 1]


def test_a_forecast_leads_on_by_half_the_slope() -> None:
    first, last = noise(1, 2, 3, seed=1), noise(1, 2, 3, seed=2)
    answers = Answers((800, 700), (first, last))
    assert torch.allclose(answers.forecast(600), 1.5 * last - 0.5 * first)
    assert torch.allclose(answers.forecast(700), last)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_answer_mends_the_steps_before_it(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> float:
        paced, _ = run(begin(1), Pace(error=1e9, most=2), solver)
        return float((paced[-1].latents - exact[-1].latents).square().mean().sqrt())

    exact, _ = run(begin(1), None, solver)
    mended = away()
    monkeypatch.setattr(Answers, "corrected", lambda self, film, estimate, step: film)
    assert mended < 0.7 * away()


def test_what_is_known_stays_known() -> None:
    first = noise(1, 4, 1, 4, 4, seed=9)

    def known(x0: Tensor, timestep: int) -> Tensor:
        return torch.cat([first, x0[:, :, 1:]], dim=2)

    states = list(sample(Network(), begin(1), SCHEDULE, "ddim", known, Pace(error=1e9, most=3)))
    assert all(torch.allclose(state.x0[:, :, :1], first, atol=1e-6) for state in states if state.x0 is not None)
    assert torch.allclose(states[-1].latents[:, :, :1], first, atol=1e-6)


def test_answers_are_kept_as_plain_tensors() -> None:
    states, _ = run(begin(), PACE, "unipc")
    flat = forecast.to_tensors(states[9].answers)
    (one, other) = forecast.from_tensors(flat, "cpu", SamplerState.from_tensors)
    assert (one.rest, one.evaluations, one.timesteps) == tuple(
        getattr(states[9].answers[0], name) for name in ("rest", "evaluations", "timesteps")
    )
    kept = states[9].answers[1]
    assert torch.equal(other.estimates[1], kept.estimates[1])
    assert other.since is not None and kept.since is not None and torch.equal(other.since.latents, kept.since.latents)
    assert len({tensor.data_ptr() for tensor in flat.values()}) == len(flat)
    assert forecast.to_tensors(()) == {} and forecast.from_tensors({}, "cpu", SamplerState.from_tensors) == ()


def test_films_apart_and_together_again_are_the_same() -> None:
    state = run(begin(3), None, "unipc")[0][4]
    again = SamplerState.together(state.films())
    flat = state.to_tensors()
    assert flat.keys() == again.to_tensors().keys()
    assert all(torch.equal(flat[name], tensor) for name, tensor in again.to_tensors().items())
