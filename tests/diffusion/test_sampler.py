"""Samplers: against diffusers' schedulers, against a problem with a known answer, and stopped and resumed."""

from __future__ import annotations

import math
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from flickbook.diffusion.sampler import SOLVERS, SamplerState, Solver, ddim, sample
from flickbook.diffusion.schedule import NoiseSchedule
from flickbook.errors import RequestError, WeightsError

SCALED: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LIBRARY: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": (UniPCMultistepScheduler, {"solver_order": 2, "solver_type": "bh2"}),
}
STOCHASTIC: Solver = partial(ddim, eta=0.7)
ALL = [*SOLVERS, STOCHASTIC]
NAMES = [*SOLVERS, "ddim eta"]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(x: Tensor, t: Tensor) -> Tensor:
    """A toy that mixes channels and depends on the timestep, smooth and not linear."""
    mix = 0.3 * noise(x.shape[1], x.shape[1], seed=9, dtype=x.dtype)
    mixed: Tensor = torch.tanh(torch.einsum("ij,bj...->bi...", mix, x) + 0.001 * t.to(x.dtype))
    return mixed


def begin(schedule: NoiseSchedule, n: int, dtype: torch.dtype = torch.float32) -> SamplerState:
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    return SamplerState.begin(noise(2, 8, 3, 4, 4, dtype=dtype), schedule.timesteps(n), generators)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [4, 10, 25, 50])
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_trajectory_is_the_librarys(solver: str, prediction: str, zero_snr: bool, n: int, dtype: torch.dtype) -> None:
    kind, values = LIBRARY[solver]
    theirs = kind(
        **SCALED,
        **values,
        timestep_spacing="trailing",
        prediction_type=prediction,
        rescale_betas_zero_snr=zero_snr,
    )
    theirs.set_timesteps(n)
    schedule = NoiseSchedule.from_config(dict(theirs.config))
    state = begin(schedule, n, dtype)
    assert list(state.timesteps) == theirs.timesteps.tolist()
    x, steps = state.latents, 0
    for reached in sample(network, state, schedule, solver):
        t = theirs.timesteps[steps]
        x = theirs.step(network(x, t), t, x).prev_sample
        steps += 1
        assert reached.latents.isfinite().all() and reached.latents.dtype == dtype
        if solver == "ddim" and prediction == "epsilon" and zero_snr:
            # The library divides by zero here. Ours stays finite, which the line above asserts.
            assert not x.isfinite().all()
            continue
        assert (reached.latents - x).abs().max() / x.abs().max() <= 1e-4
    assert steps == n


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_one_step_from_zero_snr_is_the_librarys_but_for_its_stand_in(solver: str) -> None:
    """x_0 = -v where alpha is 0. The library has alpha = 2^-12 there, and with one step that much of x_T stays."""
    kind, values = LIBRARY[solver]
    common = {"timestep_spacing": "trailing", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    theirs = kind(**SCALED, **values, **common)
    theirs.set_timesteps(1)
    schedule = NoiseSchedule.from_config(dict(theirs.config))
    state = begin(schedule, 1)
    velocity = network(state.latents, torch.tensor(999))
    *_, end = sample(network, state, schedule, solver)
    assert torch.allclose(end.latents, -velocity, atol=1e-6)
    expected = theirs.step(velocity, 999, state.latents).prev_sample
    assert torch.allclose(end.latents + 2.0**-12 * state.latents, expected, atol=1e-6)


def gaussian(timesteps: list[int], solver: str | Solver, zero_snr: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Data N(0.7, 0.25): the exact denoiser is linear, and the probability flow scales the distance from the mean."""
    mean, variance = 0.7, 0.25
    schedule = NoiseSchedule.from_config(SCALED | {"prediction_type": "sample", "rescale_betas_zero_snr": zero_snr})

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.level(int(t))
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        estimate: Tensor = mean + gain * (x - alpha * mean)
        return estimate

    def spread(t: int) -> float:
        alpha, sigma = schedule.level(t)
        return math.sqrt(alpha**2 * variance + sigma**2)

    x = noise(4, 1000, dtype=torch.float64)
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    states = list(sample(denoise, SamplerState.begin(x, timesteps, generators), schedule, solver))
    first, last = timesteps[0], timesteps[-1]
    alpha_first, alpha_last = schedule.level(first).alpha, schedule.level(last).alpha
    exact = alpha_last * mean + spread(last) / spread(first) * (x - alpha_first * mean)
    return states[-2].latents, exact, states[-1].latents


@pytest.mark.parametrize(("solver", "least", "most"), [("ddim", 7.0, 9.0), ("dpm++", 64.0, 1e9), ("unipc", 64.0, 1e9)])
def test_error_falls_with_the_order_of_the_solver(solver: str, least: float, most: float) -> None:
    """Eight times the steps: order one divides the error by 8, order two by 64.

    Measured at timestep 99, before the step to the clean end, which is of order one in every solver.
    """
    errors = []
    for n in (20, 160):
        found, exact, _ = gaussian([999 - round(i * 900 / n) for i in range(n)] + [99], solver)
        errors.append(float((found - exact).abs().max()))
    assert least <= errors[0] / errors[1] <= most
    assert errors[1] < 0.02


@pytest.mark.parametrize("solver", ALL, ids=NAMES)
def test_samples_have_the_distribution_of_the_data(solver: str | Solver) -> None:
    # Only with zero terminal SNR does a start from N(0, 1) hold nothing that the data does not have.
    _, _, result = gaussian([999 - 4 * i for i in range(250)], solver, zero_snr=True)
    assert result.mean().item() == pytest.approx(0.7, abs=0.03)
    assert result.var().item() == pytest.approx(0.25, abs=0.03)


SCHEDULE = NoiseSchedule.from_config(
    SCALED | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
)


def after(steps: int, solver: str | Solver) -> SamplerState:
    """The state that many steps into a run of 8."""
    start = begin(SCHEDULE, 8)
    return [start, *islice(sample(network, start, SCHEDULE, solver), steps)][-1]


@pytest.mark.parametrize("solver", ALL, ids=NAMES)
def test_a_saved_run_goes_on_to_the_same_bits(solver: str | Solver, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    whole = list(sample(network, begin(SCHEDULE, 8), SCHEDULE, solver))
    for stop in range(9):
        state = after(stop, solver)
        assert state.index == stop
        save_file(state.to_tensors(), path)
        restored = SamplerState.from_tensors(load_file(path))
        rest = list(sample(network, restored, SCHEDULE, solver))
        assert len(rest) == 8 - stop
        assert torch.equal(rest[-1].latents if rest else restored.latents, whole[-1].latents)
        for mine, theirs in zip(rest, whole[stop:], strict=True):
            assert mine.x0 is not None and theirs.x0 is not None and torch.equal(mine.x0, theirs.x0)


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_the_history_matters(solver: str) -> None:
    """If it did not, the test above could not tell a state that forgets it."""
    *_, whole = sample(network, begin(SCHEDULE, 8), SCHEDULE, solver)
    state = after(4, solver)
    forgetful = SamplerState(state.latents, state.timesteps, state.index)
    *_, other = sample(network, forgetful, SCHEDULE, solver)
    assert not torch.equal(other.latents, whole.latents)


def test_a_step_leaves_the_state_before_it_alone() -> None:
    for solver in ALL:
        state = begin(SCHEDULE, 4)
        before = state.to_tensors()
        list(sample(network, state, SCHEDULE, solver))
        after = state.to_tensors()
        assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("solver", ALL, ids=NAMES)
def test_a_film_is_the_same_alone_and_in_a_batch(solver: str | Solver) -> None:
    *_, both = sample(network, begin(SCHEDULE, 6), SCHEDULE, solver)
    for i, seed in enumerate((5, 6)):
        start = begin(SCHEDULE, 6)
        generators = [torch.Generator().manual_seed(seed)]
        alone = SamplerState.begin(start.latents[i : i + 1], start.timesteps, generators)
        *_, state = sample(network, alone, SCHEDULE, solver)
        assert torch.allclose(state.latents[0], both.latents[i], atol=1e-5)


def test_eta_draws_fresh_noise_for_each_film_and_step() -> None:
    """eta = 1 and a network that answers 0: each step's noise shows, and no two are alike."""
    schedule = NoiseSchedule.from_config({"prediction_type": "sample", "timestep_spacing": "trailing"})
    films = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    start = SamplerState.begin(torch.zeros(2, 500), schedule.timesteps(4), films)
    states = list(sample(lambda x, t: torch.zeros_like(x), start, schedule, partial(ddim, eta=1.0)))
    drawn = [state.latents[i] for state in states[:-1] for i in range(2)]
    together = torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))
    assert together[0::2, 1::2].abs().max() < 0.2


def test_eta_without_a_generator_for_each_film_is_refused() -> None:
    for generators in ([], [torch.Generator()]):
        state = SamplerState.begin(noise(2, 8), SCHEDULE.timesteps(4), generators)
        with pytest.raises(RequestError, match="generators"):
            list(sample(network, state, SCHEDULE, STOCHASTIC))


def test_unknown_solver_is_refused_before_anything_runs() -> None:
    with pytest.raises(RequestError, match="scheduler=euler: no such sampler; choose one of ddim"):
        next(sample(network, begin(SCHEDULE, 4), SCHEDULE, "euler"))


def test_a_damaged_state_is_refused() -> None:
    *_, state = sample(network, begin(SCHEDULE, 4), SCHEDULE, "unipc")
    whole = state.to_tensors()
    for key in ("latents", "timesteps", "index", "history.timesteps", "history.0.x0"):
        with pytest.raises(WeightsError, match=key):
            SamplerState.from_tensors({k: v for k, v in whole.items() if k != key})


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_latents_stay_in_float32_when_the_network_answers_in_half(prediction: str) -> None:
    schedule = NoiseSchedule.from_config(SCALED | {"prediction_type": prediction, "timestep_spacing": "trailing"})
    *_, state = sample(lambda x, t: network(x, t).half(), begin(schedule, 4), schedule, "dpm++")
    assert state.latents.dtype == torch.float32 and state.latents.isfinite().all()
    assert state.x0 is not None and state.x0.dtype == torch.float32
