"""The forward process against its formulas and against diffusers' DDIMScheduler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from flickbook.diffusion.schedule import END, NoiseSchedule, rescale_zero_terminal_snr
from flickbook.errors import RequestError, WeightsError

#: The library has no types.
Library: Any = DDIMScheduler
SCALED: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHIPPED = SCALED | {
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
KINDS = [
    SCALED,
    {"beta_schedule": "linear"},
    {"trained_betas": [0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 4},
    SHIPPED,
]


def library(**values: Any) -> Any:
    return Library(**{"clip_sample": False, **values})


@pytest.mark.parametrize("values", KINDS)
def test_noise_levels_are_the_librarys_to_the_bit(values: dict[str, Any]) -> None:
    theirs = library(**values)
    ours = NoiseSchedule.from_config(dict(theirs.config))
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    assert ours.num_train_timesteps == len(theirs.alphas_cumprod)


def test_zero_terminal_snr_ends_at_zero_and_starts_where_it_did() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    before = torch.cumprod(1 - betas, 0)
    after = torch.cumprod(1 - rescale_zero_terminal_snr(betas), 0)
    assert before[-1] > 0.004 and after[-1] == 0.0
    assert after[0].item() == pytest.approx(before[0].item(), rel=1e-6)
    assert (after.diff() < 0).all()


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_timesteps_are_the_librarys(spacing: str, offset: int) -> None:
    theirs = library(**SCALED, timestep_spacing=spacing, steps_offset=offset)
    ours = NoiseSchedule.from_config(dict(theirs.config))
    compared = 0
    for n in range(1, 1000):
        theirs.set_timesteps(n)
        expected = theirs.timesteps.tolist()
        if len(expected) > n:
            # numpy's arange rounds one element too many for these n, and the library then visits timestep -1.
            assert spacing == "trailing" and expected.pop() == -1
        else:
            compared += 1
        assert list(ours.timesteps(n)) == expected, n
    assert compared > 900


@given(st.sampled_from(["leading", "trailing", "linspace"]), st.integers(0, 1), st.integers(2, 1200), st.data())
def test_timesteps_fall_within_the_schedule(spacing: str, offset: int, count: int, data: st.DataObject) -> None:
    schedule = NoiseSchedule(torch.linspace(0.999, 0.01, count), timestep_spacing=spacing, steps_offset=offset)
    n = data.draw(st.integers(1, count - (offset if spacing == "leading" else 0)))
    grid = schedule.timesteps(n)
    assert len(grid) == n and grid[-1] >= 0 and grid[0] <= count - 1
    assert all(later < earlier for earlier, later in zip(grid, grid[1:], strict=False))
    if spacing == "trailing":
        assert grid[0] == count - 1


@pytest.mark.parametrize("n", [0, -3, 1001])
def test_a_number_of_steps_out_of_range_is_refused(n: int) -> None:
    with pytest.raises(RequestError, match=f"num_inference_steps={n}: must be 1 to 1000"):
        NoiseSchedule.from_config(SHIPPED).timesteps(n)


def test_leading_with_an_offset_has_no_room_for_the_last_step() -> None:
    schedule = NoiseSchedule.from_config({"steps_offset": 1})
    assert schedule.timesteps(999)[0] == 999
    with pytest.raises(RequestError, match="1 to 999"):
        schedule.timesteps(1000)


@pytest.mark.parametrize("values", [SCALED, SHIPPED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_and_velocity_are_the_librarys(values: dict[str, Any], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    theirs = library(**values)
    ours = NoiseSchedule.from_config(dict(theirs.config))
    x0, noise = torch.randn(2, 4, 8, 3, 5, 5, dtype=dtype)
    t = torch.tensor([0, 17, 500, 999])
    assert torch.allclose(ours.add_noise(x0, noise, t), theirs.add_noise(x0, noise, t), rtol=1e-6, atol=1e-6)
    assert torch.allclose(ours.velocity(x0, noise, t), theirs.get_velocity(x0, noise, t), rtol=1e-6, atol=1e-6)
    assert ours.add_noise(x0, noise, t).dtype == dtype
    # One timestep for all is the same as the same timestep for each.
    assert torch.equal(ours.add_noise(x0, noise, 500), ours.add_noise(x0, noise, torch.tensor([500] * 4)))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_gives_back_what_was_mixed(prediction: str) -> None:
    torch.manual_seed(0)
    schedule = NoiseSchedule.from_config(SCALED | {"prediction_type": prediction})
    x0, noise = torch.randn(2, 3, 8, 4, 4, dtype=torch.float64)
    t = torch.tensor([3, 400, 999])
    x_t, target = schedule.add_noise(x0, noise, t), schedule.target(x0, noise, t)
    assert torch.allclose(schedule.x0_from(target, x_t, t), x0, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_pure_noise_divides_by_zero_nowhere(prediction: str) -> None:
    schedule = NoiseSchedule.from_config(SHIPPED | {"prediction_type": prediction})
    x_t, output = torch.randn(2, 1, 8, 4, 4)
    assert schedule.level(999) == (0.0, 1.0)
    assert schedule.x0_from(output, x_t, 999).isfinite().all()


def test_half_precision_keeps_small_signal() -> None:
    schedule = NoiseSchedule.from_config(SHIPPED)
    x0, noise = torch.ones(1, 1), torch.zeros(1, 1)
    exact = schedule.add_noise(x0, noise, 998)
    assert schedule.add_noise(x0.half(), noise.half(), 998).item() == pytest.approx(exact.item(), rel=1e-3)


def test_a_scaled_signal() -> None:
    """VideoCrafter2's forward process: x_t = s_t alpha_t x_0 + sigma_t eps, s_t from 1 to 0.7 over 400 timesteps."""
    plain = NoiseSchedule.from_config(SCALED)
    scaled = NoiseSchedule.from_config(SCALED | {"signal_scale": {"end": 0.7, "steps": 400}})
    x0, noise = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.ones(3, 2, 4, 4)
    for timestep, factor in ((0, 1.0), (200, 1 - 0.3 * 200 / 399), (399, 0.7), (999, 0.7)):
        level, before = scaled.level(timestep), plain.level(timestep)
        assert level.alpha == pytest.approx(factor * before.alpha, rel=1e-6) and level.sigma == before.sigma
        mixed = scaled.add_noise(x0, noise, timestep)
        assert torch.allclose(mixed, level.alpha * x0 + level.sigma * noise, atol=1e-5)
        assert torch.allclose(scaled.x0_from(noise, mixed, timestep), x0, atol=1e-4)
    for change in (
        {"signal_scale": 0.7},
        {"signal_scale": {"end": 0.7, "steps": 4}, "prediction_type": "v_prediction"},
    ):
        with pytest.raises(WeightsError, match="signal_scale"):
            NoiseSchedule.from_config(SCALED | change)


def test_the_clean_end() -> None:
    assert NoiseSchedule.from_config(SHIPPED).level(END) == (1.0, 0.0)
    kept = NoiseSchedule.from_config(SCALED | {"set_alpha_to_one": False})
    assert kept.level(END) == kept.level(0) != (1.0, 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"beta_schedule": "squaredcos_cap_v2"},
        {"prediction_type": "flow_prediction"},
        {"timestep_spacing": "karras"},
        {"use_karras_sigmas": True},
        {"thresholding": True},
        {"clip_sample": True},
        {"steps_offset": 2},
    ],
)
def test_refuses_other_mathematics(change: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match=next(iter(change))) as caught:
        NoiseSchedule.from_config(SHIPPED | change)
    assert "\n" not in str(caught.value)


def test_ddim_clips_unless_told_otherwise() -> None:
    with pytest.raises(WeightsError, match="clip_sample"):
        NoiseSchedule.from_config({"_class_name": "DDIMScheduler"})
    NoiseSchedule.from_config({"_class_name": "DPMSolverMultistepScheduler"})
