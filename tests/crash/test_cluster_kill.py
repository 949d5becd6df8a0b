"""A cluster loses each of its parts once, and no film."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import cluster_kill


@pytest.mark.trial
def test_no_film_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = cluster_kill.run(tmp_path, len(cluster_kill.FAULTS), 1)
    assert found.faults == [] and sum(found.losses.values()) == len(cluster_kill.FAULTS)
