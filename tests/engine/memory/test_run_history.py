"""What runs leave behind for the next one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flickbook.engine.films import films
from flickbook.engine.memory import run_history
from flickbook.media.clip import Clip
from flickbook.spec import Plan

MakePlan = Callable[..., Plan]


@pytest.fixture(autouse=True)
def _own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def clip(plan: MakePlan) -> Iterator[Clip]:
    """A real film of the built-in model."""
    yield next(films([plan()]))


def test_a_run_is_recorded_for_later_estimates(clip: Clip) -> None:
    assert clip.recipe is not None and clip.run is not None
    (entry,) = run_history.read()
    assert entry == run_history.record(clip.recipe, clip.run)
    assert entry["model"] == "builtin" and entry["revision"] == clip.recipe.plan.revision
    assert (entry["width"], entry["height"], entry["frames"], entry["steps"]) == (128, 128, 4, 3)
    assert entry["guided"] is True and entry["films"] == 1
    assert entry["device_name"] == clip.recipe.device_name and entry["dtype"] == "float32"
    assert set(entry["seconds"]) >= {"encode", "denoise", "decode"}
    assert entry["peak_memory_bytes"] == clip.run.peak_memory_bytes > 100 << 20
    assert entry["time"] == clip.run.finished_at


def test_the_history_is_empty_before_the_first_run() -> None:
    assert run_history.read() == []


def test_only_the_newest_runs_are_kept() -> None:
    lines = [json.dumps({"number": number}) + "\n" for number in range(run_history.LIMIT - 1)]
    run_history.path().parent.mkdir(parents=True)
    run_history.path().write_text("".join(lines), encoding="utf-8")
    for number in range(run_history.LIMIT - 1, run_history.LIMIT + 3):
        run_history.append({"number": number})
    found = [entry["number"] for entry in run_history.read()]
    assert found == list(range(3, run_history.LIMIT + 3))
    assert len(run_history.path().read_bytes().splitlines()) == run_history.LIMIT


@pytest.mark.parametrize("torn", [b'{"model": "buil', b"\xff\xfe", b"[1, 2]", b"[" * 100_000, b"\n\n"])
def test_a_torn_line_is_skipped(torn: bytes) -> None:
    run_history.append({"number": 1})
    with run_history.path().open("ab") as file:
        file.write(torn)
    assert run_history.read() == [{"number": 1}]
    run_history.append({"number": 2})
    assert run_history.read() == [{"number": 1}, {"number": 2}]


def test_an_unwritable_history_causes_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("in the way")
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(blocked))
    run_history.append({"number": 1})
    assert run_history.read() == []
    assert blocked.read_text() == "in the way"


def test_parallel_processes_write_whole_lines() -> None:
    program = """
from flickbook.engine.memory import run_history as records
import sys
for number in range(50):
    records.append({"who": sys.argv[1], "number": number, "filling": "x" * 400})
"""
    running = [subprocess.Popen([sys.executable, "-c", program, str(who)]) for who in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    found = [(entry["who"], entry["number"]) for entry in run_history.read()]
    assert sorted(found) == sorted((str(who), number) for who in range(3) for number in range(50))


def test_recording_loads_no_torch() -> None:
    program = (
        "import sys, flickbook.engine.memory.run_history as r; r.append({}); r.read(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
