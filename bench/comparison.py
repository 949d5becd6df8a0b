"""Sides timed in turn and held beside what the reference made: one table of a report."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.protocol import Turns, interleave, measured
from bench.subject import Side, likeness, worst


def compare(
    sides: Sequence[Side],
    turns: int,
    reference: str,
    own: dict[str, str] | None = None,
    begin: Callable[[int], object] = lambda turn: None,
) -> dict[str, Any]:
    """Time all sides, the first of them being the control, and say how near each one's films are to the reference's.

    `own` names for a side another one that it is also held beside: a quicker film beside the exact one it stands for.
    `begin` is told which turn begins, as each may make another film; said is how near the worst one is.
    """
    films: dict[str, dict[int, Any]] = {side.name: {} for side in sides}
    now = [0]

    def kept(side: Side) -> None:
        films[side.name][now[0]] = side.make()

    def begun(turn: int) -> None:
        now[0] = turn
        begin(turn)

    def beside(name: str, other: str) -> dict[str, float]:
        return worst([likeness(made, films[other][turn]) for turn, made in films[name].items()])

    calls: dict[str, Callable[[], object]] = {side.name: partial(kept, side) for side in sides}
    units = {side.name: side.per for side in sides}
    found = measured(lambda: interleave(calls, turns, sides[0].name, units=units, between=gc.collect, begin=begun))
    rows = {}
    for side in sides:
        row: dict[str, Any] = {"dtype": side.dtype, "lossy": side.lossy, "notes": side.notes}
        if side.prepared:
            row["prepared_s"] = round(side.prepared, 2)
        if side.name != reference and side.per == 1:
            row["beside_reference"] = beside(side.name, reference)
        if other := (own or {}).get(side.name):
            row["beside_own"] = {"side": other, **beside(side.name, other)}
        rows[side.name] = row
    return {"reference": reference, "turns": found.to_dict(), "void": found.void, "sides": rows}


def break_even(turns: Turns, side: str, without: str, prepared: float) -> float | None:
    """After how many films the preparation has paid for itself; None where it never does."""
    medians = turns.medians()
    gain = medians[without] - medians[side]
    return prepared / gain if gain > 0 else None
