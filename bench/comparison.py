"""Sides timed in turn and held beside what the reference made: one table of a report."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.protocol import Turns, interleave, measured
from bench.subject import Side, likeness


def compare(sides: Sequence[Side], turns: int, reference: str, own: dict[str, str] | None = None) -> dict[str, Any]:
    """Time all sides, the first of them being the control, and say how near each one's film is to the reference's.

    `own` names for a side another one that it is also held beside: a quicker film beside the exact one it stands for.
    """
    films: dict[str, Any] = {}

    def kept(side: Side) -> None:
        films[side.name] = side.make()

    calls: dict[str, Callable[[], object]] = {side.name: partial(kept, side) for side in sides}
    units = {side.name: side.per for side in sides}
    found = measured(lambda: interleave(calls, turns, sides[0].name, units=units, between=gc.collect))
    rows = {}
    for side in sides:
        row: dict[str, Any] = {"dtype": side.dtype, "lossy": side.lossy, "notes": side.notes}
        if side.prepared:
            row["prepared_s"] = round(side.prepared, 2)
        if side.name != reference and side.per == 1:
            row["beside_reference"] = likeness(films[side.name], films[reference])
        if other := (own or {}).get(side.name):
            row["beside_own"] = {"side": other, **likeness(films[side.name], films[other])}
        rows[side.name] = row
    return {"reference": reference, "turns": found.to_dict(), "void": found.void, "sides": rows}


def break_even(turns: Turns, side: str, without: str, prepared: float) -> float | None:
    """After how many films the preparation has paid for itself; None where it never does."""
    medians = turns.medians()
    gain = medians[without] - medians[side]
    return prepared / gain if gain > 0 else None
