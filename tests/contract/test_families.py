"""Every family does what docs/matrix.md says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.cases import CASES, Case
from tests.contract.matrix import HEADER, PAGE, rows

QUICK = {"sd15"}
LONG = {"ms", "ltx2", "i2vgen", "svd"}


def mark(case: Case) -> tuple[pytest.MarkDecorator, ...]:
    """When a family's test runs: always, with the slow tests, or with the trials."""
    return (pytest.mark.trial,) if case.build in LONG else () if case.build in QUICK else (pytest.mark.slow,)


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FLICKBOOK_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=mark(case), id=case.name) for case in CASES],
)
def test_the_family_does_what_the_matrix_says(case: Case) -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert rows(case) == [line for line in page if line.startswith(f"| {case.name} |")]


def test_the_matrix_has_every_family_and_no_empty_cell() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.startswith(HEADER)
    lines = page[len(HEADER) :].splitlines()
    assert len(lines) == sum(len(case.begins) for case in CASES)
    assert all(len(line.split("|")) == 7 and all(cell.strip() for cell in line.split("|")[1:-1]) for line in lines)
