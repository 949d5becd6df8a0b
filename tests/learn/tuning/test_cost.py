"""The estimate of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.learn.tuning.conftest import Make
from torch.utils.flop_counter import FlopCounterMode

from flickbook.learn.tuning.trainer import Tuner
from flickbook.learn.tuning.tune import prepare, tune


@pytest.mark.slow
def test_the_estimate_counts_the_operations_of_an_update(
    training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "known.txt").write_text("a cat\na dog\n", encoding="utf-8")
    prepared = prepare(replace(training("ms", prior=4, iterations=1), prior_prompts=tmp_path / "known.txt"))
    estimate, alone = prepared.cost(), prepared.cost(processes=2)
    counted, update = [], Tuner.update

    def watched(tuner: Tuner) -> dict[str, float]:
        with FlopCounterMode(display=False) as counter:
            row = update(tuner)
        counted.append(counter.get_total_flops())
        return row

    monkeypatch.setattr(Tuner, "update", watched)
    tune(prepared)
    assert estimate.operations == pytest.approx(counted[0], rel=0.05)
    assert alone.operations == pytest.approx(counted[0] / 2, rel=0.05), "each process has its share of both batches"
