"""The processes that these tests fork from, each warm once for all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from tests.crash.ward import Ward

#: To fork a process with torch in it is sound on Linux only.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.fixture(scope="session")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """Processes with the model warm."""
    with Ward(tmp_path_factory.mktemp("crash") / "ward") as found:
        yield found


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """Processes with the service imported."""
    with Ward(tmp_path_factory.mktemp("crash") / "serving", "server") as found:
        yield found
