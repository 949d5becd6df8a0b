"""Forecasts of what the network would say, so that not every step has to ask it.

Along the steps of one film the estimate of x_0 moves on a smooth path, and where its last two answers lead tells the
next ones nearly. DeepCache (Ma et al. 2023, arXiv 2312.00858) takes deep features of an earlier step for those of this
one, and TaylorSeer (Liu et al. 2025, arXiv 2503.06923) foretells them by their Taylor series; here it is the estimate
itself that is foretold, where nothing of the network is left to compute.

An answer does two things. The steps that were taken without one are taken again, along the line between the answer
before them and this one, which costs no network: a corrector, as UniPC has one (Zhao et al. 2023, arXiv 2302.04867).
And its distance from what was foretold for it says how many steps may now do without an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from flickbook.diffusion.sampler import SamplerState

#: Answers that lead on.
_POINTS: Final = 2
#: How much of the slope between them a forecast takes. All of it overshoots: of 20 films of the built-in model at 13
#: answers each, the mean was 41.1 dB with all of it, 43.5 with half, 38.2 with none.
_SLOPE: Final = 0.5
#: (x, timestep as a 0-d tensor on x's device) -> what the network says, in x's shape.
Model = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pace:
    """How far forecasts are trusted.

    `error` is the most that an output may be expected to be wrong by, relative to its own size (root mean square), in a
    run of `steps` or more; of a shorter one each step weighs more, and may be wrong by less. `most` are the steps in a
    row that may be foretold. The first `lead` steps and the last one ask the network.
    """

    error: float
    most: int = 3
    lead: int = 3
    steps: int = 25

    def rest(self, index: int, total: int, gap: int, wrong: float) -> int:
        """How many steps after step `index` of `total` need not ask, where a forecast over `gap` steps was `wrong` by
        so much: the error of a forecast grows with the square of the distance."""
        if index + 1 < self.lead:
            return 0
        reach, allowed = 0, self.error * min(1.0, total / self.steps)
        while reach < self.most and wrong * ((reach + 1) / gap) ** 2 <= allowed:
            reach += 1
        return max(0, min(reach, total - 2 - index))


#: (the state of one film, its estimate of x_0) -> the state one step on.
Step = Callable[["SamplerState", Tensor], "SamplerState"]


@dataclass(frozen=True, eq=False)
class Answers:
    """The network's last estimates of x_0 of one film (1, channels, frames, h, w) with their timesteps, newest last.

    `since` is the film's state where the newest was given. `rest` steps may go on without another; `asked` counts all.
    """

    timesteps: tuple[int, ...] = ()
    estimates: tuple[Tensor, ...] = ()
    since: SamplerState | None = None
    rest: int = 0
    asked: int = 0

    def forecast(self, timestep: int) -> Tensor:
        """What the network would estimate at a timestep: on from its last two answers, by a part of their slope."""
        (s, t), (first, last) = self.timesteps, self.estimates
        return last + (last - first) * (_SLOPE * (timestep - t) / (t - s))

    def foretold(self) -> Answers:
        """After a step that did not ask."""
        return replace(self, rest=self.rest - 1)

    def corrected(self, film: SamplerState, estimate: Tensor, step: Step) -> SamplerState:
        """`film`, which has an answer now, by another way: the steps since the last one taken again between the two."""
        if self.since is None or self.since.index + 1 == film.index:
            return film
        timestep, (before, last) = film.timesteps[film.index], (self.timesteps[-1], self.estimates[-1])
        again = self.since
        while again.index < film.index:
            way = (again.timesteps[again.index] - before) / (timestep - before)
            again = step(again, last + way * (estimate - last))
        return again

    def heard(self, pace: Pace, film: SamplerState, estimate: Tensor) -> Answers:
        """After the network was asked about `film`."""
        timestep, rest = film.timesteps[film.index], 0
        if len(self.estimates) == _POINTS and self.since is not None:
            wrong = (self.forecast(timestep) - estimate).square().mean() / estimate.square().mean().clamp(min=1e-12)
            rest = pace.rest(film.index, film.total, film.index - self.since.index, float(wrong.sqrt()))
        timesteps, estimates = (*self.timesteps, timestep)[-_POINTS:], (*self.estimates, estimate)[-_POINTS:]
        return Answers(timesteps, estimates, replace(film, x0=None), rest, self.asked + 1)


def paced(
    film: SamplerState, answers: Answers, estimate: Tensor, pace: Pace, step: Step
) -> tuple[SamplerState, Answers]:
    """One film one step on, and all that it was answered by then; `estimate` is the network's, if it is asked."""
    if answers.rest:
        return step(film, answers.forecast(film.timesteps[film.index])), answers.foretold()
    estimate = estimate.clone(memory_format=torch.contiguous_format)  # its own, as a restored one is
    film = answers.corrected(film, estimate, step)
    return step(film, estimate), answers.heard(pace, film, estimate)


def to_tensors(answers: Sequence[Answers]) -> dict[str, Tensor]:
    """A flat dict of tensors that `from_tensors` reads, empty where nothing was asked by a pace."""
    if not answers:
        return {}
    rows = [[each.rest, each.asked, *each.timesteps] for each in answers]
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
    """The answers that `to_tensors` wrote; `read` reads a state. Raises KeyError naming the entry that is missing."""
    if "paced" not in tensors:
        return ()
    answers = []
    for film, (rest, asked, *timesteps) in enumerate(tensors["paced"].tolist()):
        own = f"paced.{film}.since."
        since = {name.removeprefix(own): tensor for name, tensor in tensors.items() if name.startswith(own)}
        estimates = tuple(tensors[f"paced.{film}.x0.{i}"].to(device) for i in range(len(timesteps)))
        answers.append(Answers(tuple(timesteps), estimates, read(since, device) if since else None, rest, asked))
    return tuple(answers)
