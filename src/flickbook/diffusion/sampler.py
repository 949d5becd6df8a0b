"""Samplers: short functions from the noise x_T to x_0, with a state that can be saved after every step.

Each solver moves x from timestep s to the next one, t, given the network's estimate of x_0 at s. In the papers'
symbols: alpha, sigma are the schedule's levels; lambda = log(alpha / sigma); h = lambda_t - lambda_s > 0; m_0 and m_1
the estimates of x_0 at s and at r, one step before. Latents are (films, channels, frames, h, w), or any shape that
starts with films.

Zero terminal SNR (alpha_T = 0) never causes a division by zero: DDIM divides by sigma alone. The multistep solvers need
lambda, which is -infinity there, and use alpha = 2^-12 instead (`_level`), the same value as diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from flickbook.diffusion import forecast, heap
from flickbook.diffusion.forecast import Answers, Model, Pace
from flickbook.diffusion.schedule import ALPHA_FLOOR, END, Level, NoiseSchedule
from flickbook.errors import RequestError, WeightsError


@dataclass(frozen=True, eq=False)
class Past:
    """What a multistep solver keeps of one timestep: the estimate of x_0, and x itself if it is needed again."""

    timestep: int
    x0: Tensor
    x: Tensor | None = None


@dataclass(frozen=True, eq=False)
class SamplerState:
    """Everything that the rest of a run depends on, so that a restored run ends with the same bits.

    `index` counts the steps done. `latents` is x at timesteps[index]; after the last step, the result. `x0` is the last
    estimate (a preview). `history` is newest last. `generators` holds one state of a CPU generator per film, as bytes
    (films, bytes) uint8, for stochastic solvers: a film's noise depends on no other film and on no device. `answers`
    are the network's last estimates for each film, in a run with forecasts.
    """

    latents: Tensor
    timesteps: tuple[int, ...]
    index: int = 0
    x0: Tensor | None = None
    history: tuple[Past, ...] = ()
    generators: Tensor | None = None
    answers: tuple[Answers, ...] = ()

    @classmethod
    def begin(
        cls, latents: Tensor, timesteps: Sequence[int], generators: Sequence[torch.Generator] = ()
    ) -> SamplerState:
        """The state before the first step. `latents` is unit Gaussian noise; `generators` has one per film, or none."""
        states = torch.stack([generator.get_state() for generator in generators]) if generators else None
        return cls(latents.contiguous(), tuple(timesteps), generators=states)

    @property
    def noisy(self) -> Tensor:
        """x_t after the last step, which is the latents."""
        return self.latents

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return len(self.timesteps)

    @property
    def done(self) -> bool:
        """Whether `latents` is the result."""
        return self.index >= len(self.timesteps)

    def to(self, device: str | torch.device) -> SamplerState:
        """The same state on another device."""
        return SamplerState.from_tensors(self.to_tensors(), device)

    def films(self) -> list[SamplerState]:
        """The state of each film alone."""
        return [self._film(slice(film, film + 1)) for film in range(len(self.latents))]

    def _film(self, one: slice) -> SamplerState:
        x0, generators = (None if each is None else each[one] for each in (self.x0, self.generators))
        history = tuple(Past(p.timestep, p.x0[one], None if p.x is None else p.x[one]) for p in self.history)
        return replace(self, latents=self.latents[one], x0=x0, history=history, generators=generators, answers=())

    @classmethod
    def together(cls, films: Sequence[SamplerState], answers: tuple[Answers, ...] = ()) -> SamplerState:
        """Combine states of films at the same step to one."""

        def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
            held = [part for part in parts if part is not None]
            return torch.cat(held) if held else None

        latents = torch.cat([film.latents for film in films])
        history = tuple(
            Past(pasts[0].timestep, torch.cat([past.x0 for past in pasts]), joined([past.x for past in pasts]))
            for pasts in zip(*(film.history for film in films), strict=True)
        )
        x0, generators = joined([film.x0 for film in films]), joined([film.generators for film in films])
        first = films[0]
        return cls(latents, first.timesteps, first.index, x0, history, generators, answers)

    def next_timestep(self) -> int:
        """The timestep that this step leads to; `END` in the last step."""
        return self.timesteps[self.index + 1] if self.index + 1 < len(self.timesteps) else END

    def to_tensors(self) -> dict[str, Tensor]:
        """A flat dictionary of CPU tensors that share no memory, for safetensors."""
        tensors = {"latents": self.latents, "x0": self.x0, "generators": self.generators}
        for i, past in enumerate(self.history):
            tensors |= {f"history.{i}.x0": past.x0, f"history.{i}.x": past.x}
        flat = {name: value.detach().cpu().clone() for name, value in tensors.items() if value is not None}
        numbers = {"index": [self.index], "timesteps": self.timesteps}
        numbers["history.timesteps"] = [past.timestep for past in self.history]
        flat |= {name: torch.tensor(value, dtype=torch.int64) for name, value in numbers.items()}
        return flat | forecast.to_tensors(self.answers)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], device: str | torch.device = "cpu") -> SamplerState:
        """The state that `to_tensors` wrote. Raises WeightsError with the name of a missing entry."""
        try:
            visited = tensors["history.timesteps"].tolist()
            past = [(tensors[f"history.{i}.x0"].to(device), tensors.get(f"history.{i}.x")) for i in range(len(visited))]
            history = tuple(
                Past(t, x0, None if x is None else x.to(device)) for t, (x0, x) in zip(visited, past, strict=True)
            )
            return cls(
                latents=tensors["latents"].to(device),
                timesteps=tuple(tensors["timesteps"].tolist()),
                index=int(tensors["index"]),
                x0=tensors["x0"].to(device) if "x0" in tensors else None,
                history=history,
                generators=tensors.get("generators"),
                answers=forecast.from_tensors(tensors, device, cls.from_tensors),
            )
        except KeyError as error:
            raise WeightsError("checkpoint", f"misses {error}", "start the run again") from error


#: A solver takes the estimate of x_0 at the state's timestep and returns the state with new latents and history.
Solver = Callable[[NoiseSchedule, SamplerState, Tensor], SamplerState]
#: (estimate of x_0, its timestep) -> the estimate with the known parts of x_0 put in.
Known = Callable[[Tensor, int], Tensor]


def sample(
    model: Model,
    state: SamplerState,
    schedule: NoiseSchedule,
    solver: str | Solver = "ddim",
    known: Known | None = None,
    pace: Pace | None = None,
) -> Iterator[SamplerState]:
    """Run the remaining steps and yield the state after each; its `x0` is the preview.

    `known` puts known parts of x_0, such as a first frame, into every estimate; there the latents follow the straight
    path from their noise to it. Latents keep their dtype, whatever precision the network uses. With a `pace`, forecasts
    replace some of the network's evaluations. Raises RequestError for an unknown solver.
    """
    known_solvers = SOLVERS | STOCHASTIC
    if isinstance(solver, str) and solver not in known_solvers:
        raise RequestError("scheduler", solver, "no such sampler", f"choose one of {', '.join(known_solvers)}")
    solve = known_solvers[solver] if isinstance(solver, str) else solver

    def step(state: SamplerState, x0: Tensor) -> SamplerState:
        state = solve(schedule, state, x0)
        # Contiguous like a restored state: other strides could select other kernels, and end in other bits.
        return replace(state, latents=state.latents.contiguous(), x0=x0, index=state.index + 1)

    def estimate(state: SamplerState) -> Tensor:
        x, timestep = state.latents, state.timesteps[state.index]
        output = model(x, torch.tensor(timestep, device=x.device)).to(x.dtype)
        x0 = schedule.x0_from(output, x, timestep).contiguous()
        return x0 if known is None else known(x0, timestep).contiguous()

    with heap.reused():
        while not state.done:
            state = step(state, estimate(state)) if pace is None else _paced(state, estimate, pace, step)
            yield state


def _paced(
    state: SamplerState, estimate: Callable[[SamplerState], Tensor], pace: Pace, step: forecast.Step
) -> SamplerState:
    """Advance all films by one step, each with its own estimate or forecast.

    The network runs on the whole batch or not at all, because a smaller batch would round differently: a film depends
    on the size of its batch, but not on the other films in it.
    """
    answers = state.answers or tuple(Answers() for _ in state.latents)
    asking = any(not each.rest for each in answers)
    x0 = torch.split(estimate(state) if asking else state.latents, 1)
    moved = [
        forecast.paced(film, each, found, pace, step)
        for film, each, found in zip(state.films(), answers, x0, strict=True)
    ]
    return SamplerState.together([film for film, _ in moved], tuple(each for _, each in moved))


def ddim(schedule: NoiseSchedule, state: SamplerState, x0: Tensor, eta: float = 0.0) -> SamplerState:
    """DDIM (Song et al. 2020, arXiv 2010.02502, equations 12 and 16); eta 0 is deterministic, 1 is DDPM.

    x_t = alpha_t x_0 + sqrt(sigma_t^2 - s^2) eps + s z,
    s = eta (sigma_t / sigma_s) sqrt(1 - (1 - sigma_s^2) / (1 - sigma_t^2))

    If the schedule scales the signal, s is computed without the scale, as in VideoCrafter2. With eta > 0 the state must
    have generators; without them RequestError is raised.
    """
    before, after = schedule.level(state.timesteps[state.index]), schedule.level(state.next_timestep())
    # sigma is 0 only at the end, where no step starts.
    eps = (state.latents - before.alpha * x0) / before.sigma
    if not eta:
        return replace(state, latents=after.alpha * x0 + after.sigma * eps)
    kept = (1.0 - before.sigma**2) / (1.0 - after.sigma**2)
    spread = eta * (after.sigma / before.sigma) * math.sqrt(max(0.0, 1.0 - kept))
    noise, generators = draw(state.generators, x0)
    direction = math.sqrt(max(0.0, after.sigma**2 - spread**2))
    return replace(state, latents=after.alpha * x0 + direction * eps + spread * noise, generators=generators)


def draw(generators: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Unit Gaussian noise shaped like `like` (films, ...), each film's from its own generator, and the new states."""
    count = 0 if generators is None else len(generators)
    if generators is None or count != len(like):
        raise RequestError("generators", count, f"must be one per film, {len(like)}", "give them to SamplerState.begin")
    noise, states = [], []
    for state in generators:
        # A copy: set_state reads from the start of the storage, and a row of a stack does not begin there.
        generator = torch.Generator().set_state(state.clone())
        noise.append(torch.randn(like.shape[1:], generator=generator))
        states.append(generator.get_state())
    return torch.stack(noise).to(like), torch.stack(states)


def _level(schedule: NoiseSchedule, timestep: int) -> tuple[Level, float]:
    """alpha, sigma and lambda for the multistep solvers, with a clean end and a floor for alpha."""
    if timestep == END:
        return Level(1.0, 0.0), math.inf
    alpha, sigma = schedule.level(timestep)
    if alpha < ALPHA_FLOOR:
        alpha, sigma = ALPHA_FLOOR, math.sqrt(1.0 - ALPHA_FLOOR**2)
    return Level(alpha, sigma), math.log(alpha / sigma)


def _predict(schedule: NoiseSchedule, x: Tensor, now: Past, following: int, before: Past | None) -> Tensor:
    """x_t = (sigma_t / sigma_s) x - alpha_t (e^{-h} - 1) (m_0 + D / 2),  D = h / (lambda_s - lambda_r) (m_0 - m_1).

    Without an estimate before s, D is 0: order one, which is DDIM.
    """
    (s, lambda_s), (t, lambda_t) = _level(schedule, now.timestep), _level(schedule, following)
    m = now.x0
    if before is not None:
        _, lambda_r = _level(schedule, before.timestep)
        m = m + 0.5 * (lambda_t - lambda_s) / (lambda_s - lambda_r) * (now.x0 - before.x0)
    # e^{-h} = (alpha_s sigma_t) / (sigma_s alpha_t), which is exact where h is infinite.
    return (t.sigma / s.sigma) * x + (t.alpha - t.sigma * s.alpha / s.sigma) * m


def dpm_solver_pp(schedule: NoiseSchedule, state: SamplerState, x0: Tensor) -> SamplerState:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Algorithm 2); order one in the first and the last step."""
    now, following = Past(state.timesteps[state.index], x0), state.next_timestep()
    # In the last step h is infinite, and extrapolation over it is undefined.
    before = state.history[-1] if state.history and following != END else None
    return replace(state, latents=_predict(schedule, state.latents, now, following, before), history=(now,))


def unipc(schedule: NoiseSchedule, state: SamplerState, x0: Tensor) -> SamplerState:
    """UniPC-2 with B(h) = e^h - 1, "bh2" (Zhao et al. 2023, arXiv 2302.04867).

    The estimate at s first corrects the step that led to s (UniC), then predicts the next one (UniP, which at order two
    is the step of DPM-Solver++(2M)). It needs no more network evaluations than DDIM.
    """
    x, timestep, following = state.latents, state.timesteps[state.index], state.next_timestep()
    if state.history:
        x = _correct(schedule, state.history, timestep, x0)
    now = Past(timestep, x0, x)
    before = state.history[-1] if state.history and following != END else None
    kept = tuple(replace(past, x=None) for past in state.history[-1:])
    return replace(state, latents=_predict(schedule, x, now, following, before), history=(*kept, now))


def _correct(schedule: NoiseSchedule, history: Sequence[Past], timestep: int, m_t: Tensor) -> Tensor:
    """UniC: repeats the step from s = history[-1] to t with the estimate m_t at t, which is known now.

    x_t = (sigma_t / sigma_s) x_s - alpha_t (e^{-h} - 1) (m_0 + rho_1 (m_1 - m_0) / r_1 + rho_2 (m_t - m_0))

    r_1 = (lambda_r - lambda_s) / h. The rhos solve rho_1 + rho_2 = b_1 and r_1 rho_1 + rho_2 = b_2; with one estimate
    only, rho_1 = 0 and rho_2 = 1/2.
    """
    last = history[-1]
    assert last.x is not None  # unipc stores x in the newest entry
    (s, lambda_s), (t, lambda_t) = _level(schedule, last.timestep), _level(schedule, timestep)
    h, m_0 = lambda_t - lambda_s, last.x0
    correction = 0.5 * (m_t - m_0)
    if len(history) > 1:
        other = history[-2]
        r_1 = (_level(schedule, other.timestep)[1] - lambda_s) / h
        shrink = math.expm1(-h)
        phi_2 = shrink / -h - 1.0
        phi_3 = phi_2 / -h - 0.5
        b_1, b_2 = phi_2 / shrink, 2.0 * phi_3 / shrink
        rho_1 = (b_1 - b_2) / (1.0 - r_1)
        correction = (rho_1 / r_1) * (other.x0 - m_0) + (b_1 - rho_1) * (m_t - m_0)
    return (t.sigma / s.sigma) * last.x + (t.alpha - t.sigma * s.alpha / s.sigma) * (m_0 + correction)


SOLVERS: dict[str, Solver] = {"ddim": ddim, "dpm++": dpm_solver_pp, "unipc": unipc}
#: Solvers that add noise in each step: their state must have a generator for each film.
STOCHASTIC: dict[str, Solver] = {"ddim-eta1": partial(ddim, eta=1.0)}
