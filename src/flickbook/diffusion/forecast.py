"""Forecasts of the network's estimates, so that the network does not have to run in every step.

Over the steps of a film the estimate of x_0 follows a smooth path, so its last two values approximate the next ones.
DeepCache (Ma et al. 2023, arXiv 2312.00858) reuses deep features of an earlier step, and TaylorSeer (Liu et al. 2025,
arXiv 2503.06923) extrapolates features by their Taylor series; here the estimate itself is extrapolated, so that a
forecast step runs no part of the network.

Each evaluation of the network is used twice. First, the steps made without one are repeated along the line between the
evaluation before them and this one, at no cost of the network: a corrector, like that of UniPC (Zhao et al. 2023, arXiv
2302.04867). Second, its distance from the forecast decides how many of the next steps need no evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from flickbook.diffusion.sampler import SamplerState

#: Evaluations that a forecast uses.
_POINTS: Final = 2
#: The share of the slope between them that a forecast uses. The whole slope overshoots: over 20 films of the built-in
#: model with 13 evaluations each, the mean was 41.1 dB with the whole slope, 43.5 with half, 38.2 with none.
_SLOPE: Final = 0.5
#: (x, timestep as a 0-d tensor on x's device) -> the network's output in x's shape.
Model = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pace:
    """Limits for forecasts.

    `error` is the largest expected error of an output, relative to its size (root mean square), in a run of at least
    `steps` steps; in a shorter run each step counts more, and the limit is proportionally lower. `most` is the number
    of consecutive steps that may be forecast. The first `lead` steps and the last one always run the network.
    """

    error: float
    most: int = 3
    lead: int = 3
    steps: int = 25

    def steps_to_skip(self, index: int, total: int, gap: int, wrong: float) -> int:
        """How many steps after step `index` of `total` may be forecast, given that a forecast over `gap` steps had the
        error `wrong`: the error of a forecast grows with the square of the distance."""
        if index + 1 < self.lead:
            return 0
        reach, allowed = 0, self.error * min(1.0, total / self.steps)
        while reach < self.most and wrong * ((reach + 1) / gap) ** 2 <= allowed:
            reach += 1
        return max(0, min(reach, total - 2 - index))


#: (the state of one film, its estimate of x_0) -> the state after one step.
Step = Callable[["SamplerState", Tensor], "SamplerState"]


@dataclass(frozen=True, eq=False)
class Answers:
    """The network's last estimates of x_0 of one film (1, channels, frames, h, w) with their timesteps, newest last.

    `since` is the film's state at the newest one. The next `rest` steps may be forecast; `evaluations` counts all
    evaluations.
    """

    timesteps: tuple[int, ...] = ()
    estimates: tuple[Tensor, ...] = ()
    since: SamplerState | None = None
    rest: int = 0
    evaluations: int = 0

    def forecast(self, timestep: int) -> Tensor:
        """The expected estimate at a timestep: extrapolated from the last two, with a share of their slope."""
        (s, t), (first, last) = self.timesteps, self.estimates
        return last + (last - first) * (_SLOPE * (timestep - t) / (t - s))

    def corrected(self, film: SamplerState, estimate: Tensor, step: Step) -> SamplerState:
        """Repeat the forecast steps that led to `film`, interpolating between the last evaluation and this one."""
        if self.since is None or self.since.index + 1 == film.index:
            return film
        timestep, (before, last) = film.timesteps[film.index], (self.timesteps[-1], self.estimates[-1])
        again = self.since
        while again.index < film.index:
            way = (again.timesteps[again.index] - before) / (timestep - before)
            again = step(again, last + way * (estimate - last))
        return again

    def after_evaluation(self, pace: Pace, film: SamplerState, estimate: Tensor) -> Answers:
        """The Answers after an evaluation of the network at `film`."""
        timestep, rest = film.timesteps[film.index], 0
        if len(self.estimates) == _POINTS and self.since is not None:
            wrong = (self.forecast(timestep) - estimate).square().mean() / estimate.square().mean().clamp(min=1e-12)
            rest = pace.steps_to_skip(film.index, film.total, film.index - self.since.index, float(wrong.sqrt()))
        timesteps, estimates = (*self.timesteps, timestep)[-_POINTS:], (*self.estimates, estimate)[-_POINTS:]
        return Answers(timesteps, estimates, replace(film, x0=None), rest, self.evaluations + 1)


def paced(
    film: SamplerState, answers: Answers, estimate: Tensor, pace: Pace, step: Step
) -> tuple[SamplerState, Answers]:
    """Advance one film by one step, with its Answers after it; `estimate` is ignored if the step is forecast."""
    if answers.rest:
        return step(film, answers.forecast(film.timesteps[film.index])), replace(answers, rest=answers.rest - 1)
    estimate = estimate.clone(memory_format=torch.contiguous_format)  # with its own memory, like a restored one
    film = answers.corrected(film, estimate, step)
    return step(film, estimate), answers.after_evaluation(pace, film, estimate)


def to_tensors(answers: Sequence[Answers]) -> dict[str, Tensor]:
    """A flat dictionary of tensors for `from_tensors`; empty for a run without forecasts."""
    if not answers:
        return {}
    rows = [[each.rest, each.evaluations, *each.timesteps] for each in answers]
    found = {"paced": torch.tensor(rows, dtype=torch.int64)}
    for film, each in enumerate(answers):
        kept = {f"x0.{i}": estimate.detach().cpu().clone() for i, estimate in enumerate(each.estimates)}
        since = {} if each.since is None else each.since.to_tensors()
        kept |= {f"since.{name}": tensor for name, tensor in since.items()}
        found |= {f"paced.{film}.{name}": tensor for name, tensor in kept.items()}
    return found


def from_tensors(
    tensors: Mapping[str, Tensor],
    device: str | torch.device,
    read: Callable[[Mapping[str, Tensor], str | torch.device], SamplerState],
) -> tuple[Answers, ...]:
    """The Answers that `to_tensors` wrote; `read` reads a state. Raises KeyError with the name of a missing entry."""
    if "paced" not in tensors:
        return ()
    answers = []
    for film, (rest, evaluations, *timesteps) in enumerate(tensors["paced"].tolist()):
        prefix = f"paced.{film}.since."
        since = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        estimates = tuple(tensors[f"paced.{film}.x0.{i}"].to(device) for i in range(len(timesteps)))
        answers.append(Answers(tuple(timesteps), estimates, read(since, device) if since else None, rest, evaluations))
    return tuple(answers)
