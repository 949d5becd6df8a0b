"""A film that several processes share equals the film of one, and a lost process is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.contract.cases import CASES, Case
from tests.contract.matrix import request_of

from flickbook import catalogue
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.pipelines import ranks
from flickbook.errors import FlickbookError
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan

SPLIT = Placement(ulysses_degree=2)


def engine(case: Case, directory: Path, placement: Placement) -> Engine:
    return Engine(case.model(directory), placement)


def film(engine: Engine, plan: Plan) -> np.ndarray:
    return np.concatenate([event.frames for event in engine.run([plan]) if isinstance(event, Frames)])


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """The processes are ended after each test."""
    yield
    for each in list(ranks._active):
        each.close()


def prepared(build: str, tmp_path: Path) -> tuple[Case, Path, Plan]:
    case, directory = next(case for case in CASES if case.build == build), tmp_path / "model"
    case.save(directory)
    catalogue.add(case.model(directory))
    return case, directory, resolve(request_of(case, f"tiny-{build}", "text", tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("build", ["wan", "wan22_a14b"])
def test_a_film_of_two_processes_equals_that_of_one(build: str, tmp_path: Path, data: Path) -> None:
    case, directory, plan = prepared(build, tmp_path)
    whole = film(engine(case, directory, Placement()), plan)
    split = engine(case, directory, SPLIT)
    shared = film(split, plan)
    assert split.placement.ulysses_degree == 2
    # Sums are computed in another order, which changes the last bit of a pixel at most.
    assert np.abs(shared.astype(int) - whole.astype(int)).max() <= 1


@pytest.mark.slow
def test_a_lost_process_ends_the_film_with_an_error_and_the_next_model_loads(tmp_path: Path, data: Path) -> None:
    case, directory, plan = prepared("wan", tmp_path)
    split = engine(case, directory, SPLIT)
    split.loaded()
    ranks._active[0].processes[0].kill()
    ranks._active[0].processes[0].join()
    with pytest.raises((RuntimeError, FlickbookError), match="rank 1 of this film ended"):
        film(split, plan)
    assert len(film(engine(case, directory, SPLIT), plan)) == plan.num_frames


def test_a_model_that_cannot_be_split_runs_on_one_device(tmp_path: Path, data: Path) -> None:
    case, directory, plan = prepared("sd15", tmp_path)
    found = engine(case, directory, SPLIT)
    film(found, plan)
    assert found.placement.ulysses_degree == 1
    assert any("runs on one device" in note for note in found.loaded().notes)
