"""How two things are timed beside each other: in turn, with a control that says whether the machine was quiet.

All sides run once in each turn, in an order that rotates from turn to turn, and are compared turn by turn: what slows
the machine slows both. One side stands there twice. It is no faster than itself, so where the median of its ratio to
itself lies outside `CONTROL`, or the interval around that median outside `SPREAD`, the machine was not quiet and the
run is void. The reported ratio is the median of the turns, with a bootstrap interval (Efron 1979, "Bootstrap Methods:
Another Look at the Jackknife").
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Where the median of the control may lie.
CONTROL = (0.97, 1.03)
#: Where its interval may lie: a machine that is busy by turns has a median of 1 as well.
SPREAD = (0.9, 1.1)
#: How often a section that turned out void is measured.
TRIES = 3
#: The name that the second run of the control has.
AGAIN = " again"

_DRAWS, _LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Ratio:
    """The median of ratios, and between what it would lie in 95 of 100 such runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, over: Sequence[float], under: Sequence[float], seed: int = 0) -> Ratio:
        """over / under, turn by turn. Raises ValueError for lists of different lengths, or none."""
        ratios = [a / b for a, b in zip(over, under, strict=True)]
        if not ratios:
            raise ValueError("no turn was measured")
        source = random.Random(seed)
        medians = sorted(statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(_DRAWS))
        out = round(_DRAWS * (1 - _LEVEL) / 2)
        return cls(statistics.median(ratios), medians[out], medians[-1 - out])

    def meets(self, other: Ratio) -> bool:
        """Whether the two intervals have a value in common."""
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Turns:
    """Seconds of each side, one for each turn; `control` is the side that ran twice in each."""

    seconds: Mapping[str, Sequence[float]]
    control: str
    controls: tuple[float, ...] = ()  # the medians of the tries before this one

    def ratio(self, over: str, under: str) -> Ratio:
        """How many times as long one side takes as another."""
        return Ratio.of(self.seconds[over], self.seconds[under])

    @property
    def quiet(self) -> Ratio:
        """The control against itself."""
        return self.ratio(self.control + AGAIN, self.control)

    @property
    def void(self) -> bool:
        """Whether the machine was too busy for these figures to mean anything."""
        quiet = self.quiet
        steady = SPREAD[0] <= quiet.low and quiet.high <= SPREAD[1]
        return not (CONTROL[0] <= quiet.median <= CONTROL[1] and steady)

    def medians(self) -> dict[str, float]:
        """The median of each side, in seconds."""
        return {name: statistics.median(values) for name, values in self.seconds.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `from_dict` reads."""
        values = {name: [round(each, 6) for each in seconds] for name, seconds in self.seconds.items()}
        return {"seconds": values, "control": self.control, "controls": list(self.controls)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Turns:
        """What `to_dict` wrote. Raises KeyError naming the entry that is missing."""
        return cls(values["seconds"], values["control"], tuple(values["controls"]))


def order(names: Sequence[str], turn: int) -> list[str]:
    """The names from another one on in each turn, so that nobody always follows the same state of the machine."""
    start = turn % len(names)
    return [*names[start:], *names[:start]]


def interleave(
    calls: Mapping[str, Callable[[], object]],
    turns: int,
    control: str,
    clock: Callable[[], float] = time.perf_counter,
    warm: int = 1,
    units: Mapping[str, int] | None = None,
    between: Callable[[], object] = lambda: None,
    begin: Callable[[int], object] = lambda turn: None,
) -> Turns:
    """Time all calls in turn, `control` twice in each; the first `warm` turns are not counted.

    The control's second run is half a turn away from its first. `units` says how many of what is measured one call
    makes, where it is not one. `between` is done before each call and `begin` before each turn, untimed.
    """
    names = [name for name in calls if name != control]
    half = (len(names) + 1) // 2
    names = [control, *names[:half], control + AGAIN, *names[half:]]
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns + warm):
        begin(turn)
        for name in order(names, turn):
            call = calls[name.removesuffix(AGAIN) if name == control + AGAIN else name]
            between()
            began = clock()
            call()
            seconds = (clock() - began) / (units or {}).get(name.removesuffix(AGAIN), 1)
            if turn >= warm:
                taken[name].append(seconds)
    return Turns(taken, control)


def measured(measure: Callable[[], Turns], tries: int | None = None, say: Callable[[str], object] = print) -> Turns:
    """`measure()`, again where it was void, `tries` times (`TRIES`) at most; the last try stands, void or not."""
    before: list[float] = []
    tries = tries or TRIES
    while True:
        turns = measure()
        turns = Turns(turns.seconds, turns.control, tuple(before))
        if not turns.void:
            return turns
        before.append(turns.quiet.median)
        left = tries - len(before)
        what = f"measured again, {left} left" if left else "the run is void"
        say(f"control {turns.quiet}, outside {CONTROL[0]} to {CONTROL[1]} ({SPREAD[0]} to {SPREAD[1]}): {what}")
        if not left:
            return turns
