"""Forecasts of what the network would say, so that not every step has to ask it.

Along the steps of one film the network's output moves on a smooth path, and a line through its last two answers
foretells the next ones. DeepCache (Ma et al. 2023, arXiv 2312.00858) takes deep features of an earlier step for those
of this one, and TaylorSeer (Liu et al. 2025, arXiv 2503.06923) foretells them by their Taylor series; here it is the
output itself that is foretold, where nothing of the network is left to compute. How far a forecast can be trusted is
measured at every answer: its distance from what was foretold for it says how many steps may now do without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

#: Answers that a line goes through.
_POINTS: Final = 2
#: What is kept of a film's answers beside the tensors: rest, gap and asked, and the timesteps.
_NUMBERS: Final = 3

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
        so much: the error of a line grows with the square of the distance."""
        if index + 1 < self.lead:
            return 0
        reach, allowed = 0, self.error * min(1.0, total / self.steps)
        while reach < self.most and wrong * ((reach + 1) / gap) ** 2 <= allowed:
            reach += 1
        return max(0, min(reach, total - 2 - index))


@dataclass(frozen=True, eq=False)
class Answers:
    """The network's last answers for one film (channels, frames, h, w) with their timesteps, the newest last.

    `rest` steps may go on without another, `gap` steps lead from the newest to the next one, `asked` counts all.
    """

    timesteps: tuple[int, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    rest: int = 0
    gap: int = 1
    asked: int = 0

    def forecast(self, timestep: int) -> Tensor:
        """What the network would say at a timestep: the line through its last two answers."""
        (s, t), (first, last) = self.timesteps, self.outputs
        return last + (last - first) * ((timestep - t) / (t - s))

    def foretold(self) -> Answers:
        """After a step that did not ask."""
        return Answers(self.timesteps, self.outputs, self.rest - 1, self.gap + 1, self.asked)

    def heard(self, pace: Pace, timestep: int, output: Tensor, index: int, total: int) -> Answers:
        """After step `index` of `total`, which asked."""
        rest = 0
        if len(self.outputs) == _POINTS:
            wrong = (self.forecast(timestep) - output).square().mean() / output.square().mean().clamp(min=1e-12)
            rest = pace.rest(index, total, self.gap, float(wrong.sqrt()))
        timesteps, outputs = (*self.timesteps, timestep), (*self.outputs, output)
        return Answers(timesteps[-_POINTS:], outputs[-_POINTS:], rest, 1, self.asked + 1)


def answered(
    model: Model, x: Tensor, timestep: int, answers: Sequence[Answers], pace: Pace, index: int, total: int
) -> tuple[Tensor, tuple[Answers, ...]]:
    """What the network says of x (films, ...) at step `index` of `total`, foretold for films that may rest, and all
    that it has answered by then.

    It is asked about the whole batch or not at all, because a smaller one would round otherwise: what a film becomes
    depends on the size of its batch, and not on the other films.
    """
    answers = answers or [Answers() for _ in x]
    asking = [not each.rest for each in answers]
    said = model(x, torch.tensor(timestep, device=x.device)).to(x.dtype) if any(asking) else x
    outputs, after = [], []
    for each, output, asks in zip(answers, said, asking, strict=True):
        # Contiguous and its own, as a restored one is.
        outputs.append(output.clone(memory_format=torch.contiguous_format) if asks else each.forecast(timestep))
        after.append(each.heard(pace, timestep, outputs[-1], index, total) if asks else each.foretold())
    return torch.stack(outputs), tuple(after)


def to_tensors(answers: Sequence[Answers]) -> dict[str, Tensor]:
    """A flat dict of tensors that `from_tensors` reads, empty where nothing was asked by a pace."""
    if not answers:
        return {}
    rows = [[each.rest, each.gap, each.asked, *each.timesteps] for each in answers]
    outputs = {
        f"answers.{film}.{i}": output.detach().cpu().clone()
        for film, each in enumerate(answers)
        for i, output in enumerate(each.outputs)
    }
    return {"answers": torch.tensor(rows, dtype=torch.int64)} | outputs


def from_tensors(tensors: Mapping[str, Tensor], device: str | torch.device) -> tuple[Answers, ...]:
    """The answers that `to_tensors` wrote. Raises KeyError naming the entry that is missing."""
    if "answers" not in tensors:
        return ()
    return tuple(
        Answers(
            tuple(row[_NUMBERS:]),
            tuple(tensors[f"answers.{film}.{i}"].to(device) for i in range(len(row) - _NUMBERS)),
            *row[:_NUMBERS],
        )
        for film, row in enumerate(tensors["answers"].tolist())
    )
