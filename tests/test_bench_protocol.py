"""The protocol on timings that are made up: what it finds is known."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator

import pytest
from bench.process import last_line
from bench.protocol import AGAIN, Ratio, Turns, interleave, measured, order


class Clock:
    """A time that passes only when a call says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def takes(self, name: str, seconds: Iterator[float]) -> Callable[[], None]:
        """A call that lets the time pass."""

        def call() -> None:
            self.calls.append(name)
            self.now += next(seconds)

        return call


def noisy(mean: float, spread: float, seed: int) -> Iterator[float]:
    source = random.Random(seed)
    while True:
        yield mean * source.lognormvariate(0, spread)


def drifting(mean: float) -> Iterator[float]:
    """Longer with every call, as on a machine that fills up."""
    while True:
        yield mean
        mean *= 1.2


def turns_of(spread: float, seed: int, count: int = 9) -> Turns:
    clock = Clock()
    calls = {
        "ours": clock.takes("ours", noisy(1.0, spread, seed)),
        "stock": clock.takes("stock", noisy(1.6, spread, seed + 1)),
    }
    return interleave(calls, count, "ours", clock)


def test_the_interval_covers_the_truth() -> None:
    """1.6 is the true ratio: of forty runs, nearly all intervals hold it."""
    ratios = [turns_of(0.03, seed).ratio("stock", "ours") for seed in range(0, 80, 2)]
    assert sum(each.low <= 1.6 <= each.high for each in ratios) >= 36
    assert all(each.low <= each.median <= each.high and each.high - each.low < 0.3 for each in ratios)


def test_the_interval_is_the_same_each_time() -> None:
    over, under = [1.0, 1.3, 1.2, 1.5], [1.0, 1.0, 1.0, 1.0]
    assert Ratio.of(over, under) == Ratio.of(over, under)
    assert Ratio.of(over, under).median == pytest.approx(1.25)
    assert Ratio.of([2.0] * 5, [1.0] * 5) == Ratio(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="no turn"):
        Ratio.of([], [])


def test_a_quiet_machine_is_not_void() -> None:
    turns = turns_of(0.005, 3)
    assert not turns.void and turns.quiet.median == pytest.approx(1, abs=0.03)
    assert turns.ratio("stock", "ours").median == pytest.approx(1.6, abs=0.03)


def test_a_machine_that_slows_down_is_void() -> None:
    clock = Clock()
    calls = {name: clock.takes(name, drifting(1.0)) for name in ("ours", "stock")}
    assert interleave(calls, 3, "ours", clock, warm=0).void


def test_a_machine_that_is_busy_by_turns_is_void() -> None:
    seconds = [1.0, 1.4, 0.7, 1.0, 1.4, 0.7, 1.0]
    turns = Turns({"ours": [1.0] * 7, "ours" + AGAIN: seconds}, "ours")
    assert turns.quiet.median == 1.0 and turns.void


def test_everybody_runs_once_a_turn_and_the_control_twice() -> None:
    clock = Clock()
    calls = {name: clock.takes(name, noisy(1.0, 0, 0)) for name in ("ours", "stock", "other")}
    turns = interleave(calls, 4, "ours", clock)
    assert {name: len(seconds) for name, seconds in turns.seconds.items()} == {
        "ours": 4,
        "ours" + AGAIN: 4,
        "stock": 4,
        "other": 4,
    }
    assert len(clock.calls) == 5 * 4
    firsts = [clock.calls[start] for start in range(0, 20, 4)]
    assert set(firsts) == {"ours", "stock", "other"}


def test_an_order_begins_elsewhere_each_turn() -> None:
    assert [order("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_a_call_that_makes_several_is_divided() -> None:
    clock = Clock()
    calls = {"ours": clock.takes("ours", noisy(2.0, 0, 0)), "period": clock.takes("period", noisy(3.0, 0, 0))}
    turns = interleave(calls, 2, "ours", clock, units={"period": 3})
    assert turns.medians()["period"] == pytest.approx(1.0) and turns.medians()["ours"] == pytest.approx(2.0)


def test_a_void_run_is_measured_again_and_says_so() -> None:
    void = Turns({"ours": [1.0], "ours" + AGAIN: [1.2]}, "ours")
    fine = Turns({"ours": [1.0], "ours" + AGAIN: [1.01]}, "ours")
    said: list[str] = []
    runs = iter([void, fine])
    found = measured(lambda: next(runs), say=said.append)
    assert not found.void and found.controls == (1.2,) and "again" in said[0]
    found = measured(lambda: void, tries=3, say=said.append)
    assert found.void and found.controls == (1.2, 1.2) and said[-1].endswith("the run is void")


def test_turns_survive_being_written() -> None:
    turns = turns_of(0.01, 5, 3)
    read = Turns.from_dict(turns.to_dict())
    assert read.ratio("stock", "ours").median == pytest.approx(turns.ratio("stock", "ours").median, rel=1e-4)
    assert Ratio(1.0, 0.9, 1.1).meets(Ratio(1.2, 1.1, 1.3)) and not Ratio(1.0, 0.9, 1.1).meets(Ratio(1.3, 1.2, 1.4))


def test_a_process_that_is_timed_may_keep_its_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert last_line([sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"]) == "False"
