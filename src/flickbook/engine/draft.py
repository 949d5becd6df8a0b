"""Drafts: films stopped after part of their steps, to choose which ones to finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flickbook.engine.films import Keep, OnStep, RunOptions, engine_of, inputs_named
from flickbook.engine.memory import device
from flickbook.errors import RequestError
from flickbook.spec import Placement, Plan, Step

if TYPE_CHECKING:
    from flickbook.engine.checkpoint import Checkpointer


@dataclass(frozen=True, eq=False)
class Draft:
    """A film after `index` of `total` steps. `frames` (n, h, w, 3) uint8 preview the result; `fps` is its frame rate.

    To finish it, call `films` with the same Plan and `placement`, and a Checkpointer that finds this draft's state.
    """

    plan: Plan
    index: int
    total: int
    frames: np.ndarray
    fps: float
    placement: Placement
    notes: tuple[str, ...] = ()


def drafts(
    plans: Sequence[Plan],
    run_options: RunOptions | None = None,
    until: float = 0.4,
    *,
    keep: Keep | None = None,
    on_step: OnStep | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Draft]:
    """Run each of `plans` in order up to the share `until` (above 0, below 1) of its steps, and save its state.

    Each runs in a batch of its own, so that each can be finished alone and gives the same film as an uninterrupted run.
    Raises RequestError for `until` and for a model without previews; otherwise what `films` raises.
    """
    if not 0 < until < 1:
        raise RequestError("until", until, "must be above 0 and below 1", "ask for 0.4")
    run_options = run_options or RunOptions()
    for plan in plans:
        checkpointer = None if keep is None else keep([plan])
        kept = None if checkpointer is None else checkpointer.look([plan])
        with nullcontext() if kept is None else device.threads(kept.made.get("threads")):
            yield _draft(plan, run_options, until, checkpointer, on_step, cancel)


def _draft(
    plan: Plan,
    run_options: RunOptions,
    until: float,
    checkpointer: Checkpointer | None,
    on_step: OnStep | None,
    cancel: Callable[[], bool] | None,
) -> Draft:
    engine, last = engine_of(plan, run_options), None
    how: dict[str, Any] = {
        "sources": run_options.sources,
        "cancel": cancel,
        "checkpointer": checkpointer,
        "until": until,
    }
    # Closed at once: when `on_step` raises, a pipeline's thread must not outlive the run.
    with closing(engine.run([plan], previews=True, **how)) as events, inputs_named(run_options):
        for event in events:
            assert isinstance(event, Step), "has no previews while it runs"
            if event.phase == "denoise" and event.preview is None:
                remedy = "make the whole film with `flickbook generate`"
                raise RequestError("model", plan.model, "gives no previews of unfinished films", remedy)
            last = event
            if on_step is not None:
                on_step(event)
    assert last is not None and last.preview is not None
    shown = last.preview[0]
    return Draft(
        plan=plan,
        index=last.index,
        total=last.total,
        frames=engine.with_fallbacks(lambda: engine.loaded().show(shown), "decode"),
        fps=plan.fps,
        placement=engine.placement.model_copy(update={"batch": 1}),
        notes=() if checkpointer is None else tuple(checkpointer.notes),
    )
