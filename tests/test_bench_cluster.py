"""The simulation of a cluster with given arrivals, and claims of many clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.claims import measure
from bench.cluster_measured import Replay


def test_given_arrivals_are_simulated() -> None:
    one = Replay(1, [0.0, 0.0, 10.0], [2.0, 2.0, 2.0])
    found = one.run()
    # The first and the last wait for a look of the idle worker, a quarter of a second on average; the second for the
    # first as well.
    assert found.waits == pytest.approx([0.25, 2.25, 0.25]) and one.last == pytest.approx(12.25)
    assert found.films / found.seconds == pytest.approx(6.0 / 12.25)
    two = Replay(2, [0.0, 0.0, 0.0], [2.0, 2.0, 2.0])
    assert two.run().waits == pytest.approx([0.25, 0.25, 2.25]) and two.last == pytest.approx(4.25)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["claim", "claim_more"])
def test_clients_claim_each_job_once(tmp_path: Path, way: str) -> None:
    found = measure(f"sqlite:///{tmp_path}/jobs.db", str(tmp_path / "jobs"), 60, way, 8, 2, 40)
    assert (found["claims"], found["double"], found["lost"]) == (40, 0, 0)
