"""The forward process of diffusion: the shares of signal and noise in x_t, and what the network predicts.

    q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I),   alpha_t^2 = prod_{s <= t} (1 - beta_s),   alpha_t^2 + sigma_t^2 = 1

(Ho et al. 2020, arXiv 2006.11239; their alpha-bar is alpha^2 here, and `alphas_cumprod` in code.) The network predicts
one of: epsilon, the noise; v = alpha_t eps - sigma_t x_0 (Salimans & Ho 2022, arXiv 2202.00512); the sample x_0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flickbook.errors import RequestError, WeightsError

#: The timestep of the clean end of the schedule.
END = -1
#: At alpha = 0 the noise contains no information about x_0; dividing by this floor instead keeps the result finite. It
#: is the square root of diffusers' floor for alphas_cumprod.
ALPHA_FLOOR = 2.0**-12

PREDICTIONS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "linspace", "trailing")


class Level(NamedTuple):
    """The shares of signal and noise at one timestep; alpha^2 + sigma^2 = 1 unless the schedule scales the signal."""

    alpha: float
    sigma: float


def make_betas(kind: str, start: float, end: float, count: int) -> Tensor:
    """Variances beta_t of the forward steps, (count,) float32: "linear", or "scaled_linear" (linear in sqrt(beta)).

    Raises ValueError for another kind.
    """
    # In float32, as the published models were trained: alphas_cumprod then agrees with theirs to the bit.
    if kind == "linear":
        return torch.linspace(start, end, count, dtype=torch.float32)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    raise ValueError(kind)


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Shift and scale sqrt(alpha-bar) to end at 0, with the same start (Lin et al. 2023, arXiv 2305.08891).

    The last x_t is then pure noise, as it is when sampling starts. (count,) -> (count,).
    """
    root = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    alphas_cumprod = ((root - last) * (first / (first - last))) ** 2
    alphas = torch.cat([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
    return 1.0 - alphas


def signal_scale(count: int, end: float, steps: int) -> Tensor:
    """A factor for each timestep, (count,): from 1 down to `end` over the first `steps`, then `end`."""
    ramp = torch.linspace(1.0, end, steps, dtype=torch.float64)[:count]
    return torch.cat([ramp, torch.full((count - len(ramp),), end, dtype=torch.float64)]).float()


def _is_scale(scale: object, count: int) -> bool:
    """Whether a configuration's `signal_scale` is valid for `count` timesteps."""
    if not isinstance(scale, dict) or scale.keys() != {"end", "steps"}:
        return False
    end, steps = scale["end"], scale["steps"]
    return isinstance(end, int | float) and 0 < end <= 1 and type(steps) is int and 1 <= steps <= count


#: Settings of published schedulers that change the mathematics and are not supported.
_OFF = (
    "thresholding",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_flow_sigmas",
    "use_lu_lambdas",
)
#: Schedulers of diffusers that clip x_0 to [-1, 1] by default.
_CLIPPING = ("DDIMScheduler", "DDPMScheduler")


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The noise levels of T training timesteps, and the choice of timesteps for sampling.

    `alphas_cumprod` is (T,) float32 on the CPU. `steps_offset` shifts the "leading" grid. Without `ends_clean` DDIM
    ends at the noise of timestep 0 instead of none (`set_alpha_to_one` in the published files). `signal_scale` (T,)
    multiplies alpha: VideoCrafter2 trains with a weaker signal at high noise (Chen et al. 2024, arXiv 2401.09047).
    """

    alphas_cumprod: Tensor
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    ends_clean: bool = True
    signal_scale: Tensor | None = None

    @classmethod
    def from_config(cls, values: Mapping[str, Any], path: object = "scheduler/scheduler_config.json") -> NoiseSchedule:
        """Read a parsed `scheduler_config.json` of any diffusers scheduler; `path` is for messages.

        Raises WeightsError for a setting that changes the mathematics and is not supported.
        """

        def refuse(name: str, allowed: str) -> WeightsError:
            return WeightsError(path, f"{name}={values.get(name)!r} where {allowed}", "use another model")

        spacing = values.get("timestep_spacing", "leading")
        prediction = values.get("prediction_type", "epsilon")
        if spacing not in SPACINGS:
            raise refuse("timestep_spacing", f"only {', '.join(SPACINGS)} are known")
        if prediction not in PREDICTIONS:
            raise refuse("prediction_type", f"only {', '.join(PREDICTIONS)} are known")
        for name in _OFF:
            if values.get(name):
                raise refuse(name, "it is not offered")
        if values.get("clip_sample", values.get("_class_name") in _CLIPPING):
            raise refuse("clip_sample", "latents are never clipped; it must be false")
        if values.get("trained_betas") is not None:
            betas = torch.tensor(values["trained_betas"], dtype=torch.float32)
        else:
            kind, count = values.get("beta_schedule", "linear"), int(values.get("num_train_timesteps", 1000))
            try:
                betas = make_betas(kind, values.get("beta_start", 1e-4), values.get("beta_end", 0.02), count)
            except ValueError as error:
                raise refuse("beta_schedule", "only linear and scaled_linear are known") from error
        if values.get("rescale_betas_zero_snr"):
            betas = rescale_zero_terminal_snr(betas)
        alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
        offset, clean = values.get("steps_offset", 0), bool(values.get("set_alpha_to_one", True))
        # A larger offset could pass the last timestep; no published schedule has one.
        if offset not in (0, 1):
            raise refuse("steps_offset", "it must be 0 or 1")
        scale = values.get("signal_scale")
        if scale is None:
            return cls(alphas_cumprod, prediction, spacing, offset, clean)
        if prediction != "epsilon" or not _is_scale(scale, len(alphas_cumprod)):
            limit = f'it must be {{"end": 0 to 1, "steps": 1 to {len(alphas_cumprod)}}}, with prediction_type epsilon'
            raise refuse("signal_scale", limit)
        return cls(alphas_cumprod, prediction, spacing, offset, clean, signal_scale(len(alphas_cumprod), **scale))

    def of_students(self) -> NoiseSchedule:
        """The schedule of few-step students, whatever the teacher's: it starts at the last timestep and ends clean, and
        the steps of 32, 16, 8 and 4 are subsets of each other."""
        return replace(self, timestep_spacing="trailing", steps_offset=0, ends_clean=True)

    @property
    def num_train_timesteps(self) -> int:
        """T: timesteps are 0 (nearly clean) to T - 1 (nearly noise)."""
        return len(self.alphas_cumprod)

    def timesteps(self, num_inference_steps: int) -> tuple[int, ...]:
        """The timesteps for sampling, noisiest first: Table 2 of Lin et al. 2023, with diffusers' DDIM rounding.

        "trailing" takes the end of each interval (it alone starts at T - 1), "leading" the start, "linspace" includes
        both ends. Raises RequestError outside 1 to T.
        """
        count, n = self.num_train_timesteps, num_inference_steps
        offset = self.steps_offset if self.timestep_spacing == "leading" else 0
        if not 1 <= n <= count - offset:
            raise RequestError("num_inference_steps", n, f"must be 1 to {count - offset}", "ask for one of these")
        if self.timestep_spacing == "trailing":
            # The stride is rounded once, as in numpy's arange: ties such as 937.5 then round as in diffusers.
            stride = (count - count / n) - count
            return tuple(round(count + i * stride) - 1 for i in range(n))
        if self.timestep_spacing == "leading":
            return tuple(i * (count // n) + offset for i in reversed(range(n)))
        return tuple(round(i * ((count - 1) / max(1, n - 1))) for i in reversed(range(n)))

    def timesteps_from(self, alpha: float, count: int) -> tuple[int, ...]:
        """At most `count` timesteps, evenly spaced, from the one with alpha nearest to `alpha` (0 to 1) downwards."""
        start = int((self.alphas_cumprod.double().sqrt() - alpha).abs().argmin()) + 1
        count = min(count, start)
        return tuple(round(start * (1 - i / count)) - 1 for i in range(count))

    def level(self, timestep: int) -> Level:
        """alpha and sigma at a timestep, in double precision; `END` is the level at which DDIM ends."""
        if timestep == END and self.ends_clean:
            return Level(1.0, 0.0)
        square = float(self.alphas_cumprod[max(timestep, 0)])
        scale = 1.0 if self.signal_scale is None else float(self.signal_scale[max(timestep, 0)])
        return Level(scale * math.sqrt(square), math.sqrt(1.0 - square))

    def _levels(self, timestep: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma with the shape and dtype to multiply `like`: one per item, or one for all."""
        table = self.alphas_cumprod.to(like.device)
        square = table[torch.as_tensor(timestep, device=like.device)].reshape(-1, *[1] * (like.ndim - 1))
        square = square.to(torch.promote_types(like.dtype, torch.float32))
        alpha = square.sqrt()
        if self.signal_scale is not None:
            scale = self.signal_scale.to(like.device)[torch.as_tensor(timestep, device=like.device)]
            alpha = alpha * scale.reshape(-1, *[1] * (like.ndim - 1))
        # Square roots before the cast: alpha^2 near the noisy end is too small for half precision, alpha is not.
        return alpha.to(like.dtype), (1.0 - square).sqrt().to(like.dtype)

    def add_noise(self, x0: Tensor, noise: Tensor, timestep: int | Tensor) -> Tensor:
        """x_t = alpha_t x_0 + sigma_t eps. x0 and noise (n, ...), timestep int or (n,) -> (n, ...)."""
        alpha, sigma = self._levels(timestep, x0)
        return alpha * x0 + sigma * noise

    def velocity(self, x0: Tensor, noise: Tensor, timestep: int | Tensor) -> Tensor:
        """v = alpha_t eps - sigma_t x_0, the target of v-prediction. Shapes as in `add_noise`."""
        alpha, sigma = self._levels(timestep, x0)
        return alpha * noise - sigma * x0

    def target(self, x0: Tensor, noise: Tensor, timestep: int | Tensor) -> Tensor:
        """The training target of the network. Shapes as in `add_noise`."""
        if self.prediction_type == "v_prediction":
            return self.velocity(x0, noise, timestep)
        return noise if self.prediction_type == "epsilon" else x0

    def x0_from(self, model_output: Tensor, x_t: Tensor, timestep: int | Tensor) -> Tensor:
        """The estimate of x_0: alpha x - sigma v, or (x - sigma eps) / alpha. Shapes as in `add_noise`."""
        if self.prediction_type == "sample":
            return model_output
        alpha, sigma = self._levels(timestep, x_t)
        if self.prediction_type == "v_prediction":
            return alpha * x_t - sigma * model_output
        return (x_t - sigma * model_output) / alpha.clamp(min=ALPHA_FLOOR)
