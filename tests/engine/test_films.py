"""Films of one shape that run together."""

from __future__ import annotations

from dataclasses import replace

from tests.engine.test_fit import MIB, SMALL, film

from flickbook.catalogue import find
from flickbook.engine.fit import abreast
from flickbook.spec import Placement


def test_films_run_together_as_far_as_memory_allows() -> None:
    model = find("builtin")
    made = film("builtin")
    small = replace(SMALL, memory_total=900 * MIB)
    assert abreast(model, made, SMALL, Placement(), 8) == 2
    assert abreast(model, made, SMALL, Placement(), 1) == 1
    assert abreast(model, made, small, Placement(), 8) == 1
    assert abreast(model, made, SMALL, Placement(rungs=("denoise: slicing",)), 8) == 1, "memory ran out before"
    assert abreast(find("sd15"), film("sd15"), SMALL, Placement(), 8) == 1, "pipelines run one by one"
