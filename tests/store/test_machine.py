"""Every order of claims, renewals, lapses, ends, cancels and retries, against a model of a few lines."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from tests.blocking import Blocking
from tests.store.examples import Backend, job

from flickbook.store.base import DONE, Query, State

WAITING: tuple[State, ...] = ("queued", "paused")


@dataclass
class Known:
    """What must be true of a job; `over`: its lease is."""

    state: State = "queued"
    priority: int = 0
    attempt: int = 0
    stalls: int = 0
    reached: float = 0.0
    over: bool = False


class Machine(RuleBasedStateMachine):
    """One store, seen through one face or, after a restart, another."""

    jobs = Bundle("jobs")
    tokens = Bundle("tokens")
    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.exits = ExitStack()
        self.another = self.exits.enter_context(self.backend(self.place))
        self.store = Blocking(self.another())
        self.store.open()
        self.known: dict[str, Known] = {}
        self.given: set[tuple[str, int]] = set()
        self.numbers = itertools.count()

    def teardown(self) -> None:
        self.store.close()
        self.exits.close()
        shutil.rmtree(self.place)

    @rule(target=jobs, owner=st.sampled_from("ab"), priorities=st.lists(st.integers(-1, 1), min_size=1, max_size=3))
    def add(self, owner: str, priorities: list[int]) -> Any:
        new = [job(owner=owner, priority=each, key=f"k{next(self.numbers)}") for each in priorities]
        self.store.add(new)
        self.known |= {each.id: Known(priority=each.priority) for each in new}
        return multiple(*(each.id for each in new))

    @rule(id=jobs)
    def add_again(self, id: str) -> None:
        found = self.store.get(id)
        if found is not None:
            assert self.store.add([job(owner=found.owner, key=found.key)]) == [found]

    def _claimed(self, id: str, attempt: int, seconds: float) -> tuple[str, int]:
        known = self.known[id]
        assert known.state in WAITING and attempt == known.attempt + 1
        assert (id, attempt) not in self.given
        self.given.add((id, attempt))
        known.state, known.attempt, known.stalls, known.over = "running", attempt, known.stalls + 1, seconds < 0
        return id, attempt

    @rule(target=tokens, seconds=st.sampled_from((600.0, -1.0)))
    def claim(self, seconds: float) -> Any:
        queued = [each.priority for each in self.known.values() if each.state == "queued"]
        found = self.store.claim("one", seconds)
        assert (found is None) == (not queued)
        if found is None:
            return multiple()
        assert self.known[found.id].state == "queued" and found.priority == max(queued)
        return self._claimed(found.id, found.attempt, seconds)

    @rule(target=tokens, id=jobs, seconds=st.sampled_from((600.0, -1.0)))
    def claim_by_name(self, id: str, seconds: float) -> Any:
        waits = id in self.known and self.known[id].state in WAITING
        found = self.store.claim("two", seconds, id)
        assert (found is not None) == waits
        return multiple() if found is None else self._claimed(id, found.attempt, seconds)

    def _holds(self, token: tuple[str, int]) -> Known | None:
        known = self.known.get(token[0])
        return known if known is not None and known.state == "running" and known.attempt == token[1] else None

    @rule(token=tokens, reached=st.sampled_from((0.0, 0.25, 0.5)), seconds=st.sampled_from((600.0, -1.0)))
    def renew(self, token: tuple[str, int], reached: float, seconds: float) -> None:
        known = self._holds(token)
        assert (self.store.renew(*token, seconds, reached) is not None) == (known is not None)
        if known is not None:
            known.over = seconds < 0
            if reached > known.reached:
                known.reached, known.stalls = reached, 0

    @rule(token=tokens, state=st.sampled_from(("completed", "failed", "queued", "paused", "cancelled")))
    def settle(self, token: tuple[str, int], state: State) -> None:
        known = self._holds(token)
        assert (self.store.settle(*token, {"state": state}) is not None) == (known is not None)
        if known is not None:
            known.state = state

    @rule(token=tokens, state=st.sampled_from(("queued", "failed")))
    def take_away(self, token: tuple[str, int], state: State) -> None:
        known = self._holds(token)
        over = known is not None and known.over
        assert (self.store.settle(*token, {"state": state}, lapsed=True) is not None) == over
        if known is not None and over:
            known.state = state

    @rule()
    def lapse(self) -> None:
        over = {id for id, known in self.known.items() if known.state == "running" and known.over}
        found = self.store.lapsed(1000)
        assert {each.id for each in found} == over
        for each in found:
            assert self.store.settle(each.id, each.attempt, {"state": "queued"}, lapsed=True) is not None
            self.known[each.id].state = "queued"

    def _change(self, id: str, states: tuple[State, ...], state: State) -> None:
        known = self.known.get(id)
        fits = known is not None and known.state in states
        assert (self.store.change(id, states, {"state": state}) is not None) == fits
        if known is not None and fits:
            known.state = state

    @rule(id=jobs)
    def cancel(self, id: str) -> None:
        self._change(id, WAITING, "cancelled")

    @rule(id=jobs)
    def retry(self, id: str) -> None:
        self._change(id, ("failed", "cancelled", "expired"), "queued")

    @rule(id=jobs)
    def resume(self, id: str) -> None:
        self._change(id, ("paused",), "queued")

    @rule(id=jobs, before=st.none() | jobs)
    def reorder(self, id: str, before: str | None) -> None:
        self.store.reorder(id, before)

    @rule(id=consumes(jobs))
    def remove(self, id: str) -> None:
        done = self.known[id].state in DONE
        assert (self.store.remove(id, DONE) is not None) == done
        if done:
            del self.known[id]

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Blocking(self.another())
        self.store.open()

    @invariant()
    def nothing_is_lost_and_nothing_else_has_changed(self) -> None:
        found = self.store.find(Query(limit=1000))
        facts = {each.id: (each.state, each.priority, each.attempt, each.stalls, each.reached) for each in found}
        assert facts == {
            id: (each.state, each.priority, each.attempt, each.stalls, each.reached) for id, each in self.known.items()
        }
        assert len(found) == len(facts)
        assert len({(each.owner, each.turn, each.position) for each in found}) == len(found)


@pytest.mark.parametrize(
    ("examples", "steps"), [(10, 30), pytest.param(200, 50, marks=pytest.mark.trial)], ids=["small", "large"]
)
@pytest.mark.slow
def test_any_order_of_changes_keeps_the_invariants(backend: Backend, examples: int, steps: int) -> None:
    machine = type("Machine", (Machine,), {"backend": staticmethod(backend)})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=steps))
