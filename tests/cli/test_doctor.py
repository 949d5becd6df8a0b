"""`flickbook doctor`: it tells the truth about this machine, and its exit code follows."""

from __future__ import annotations

import json
import platform
import sqlite3
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from flickbook.catalogue import find
from flickbook.cli.app import run
from flickbook.cli.doctor import GIB, free_memory
from flickbook.engine.films import estimate_plan
from flickbook.engine.memory import run_history
from flickbook.resolution import usual


def checks(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    code = run(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is (code == 0)
    assert document["ok"] is all(each["state"] != "fail" for each in document["checks"])
    return {each["name"]: each for each in document["checks"]}


def test_doctor_lists_every_check(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = checks(capsys)
    expected = "python platform torch gpu tokenizers safetensors matplotlib opencv memory output cache jobs"
    expected += " codecs weights fits large"
    assert list(found) == expected.split()
    assert platform.python_version() in found["python"]["value"]
    assert torch.__version__ in found["torch"]["value"]
    assert "h264, h265, vp9, av1, ffv1" in found["codecs"]["value"]
    assert f"{psutil.virtual_memory().total / GIB:.1f} GiB" in found["memory"]["value"]


def test_every_failed_check_has_a_remedy(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for each in checks(capsys).values():
        assert (each["state"] == "ok") is (each["remedy"] == ""), each


def test_an_unwritable_output_directory_is_reported(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "file").write_text("")
    monkeypatch.setenv("FLICKBOOK_OUTPUT_DIR", "file/outputs")
    monkeypatch.setenv("FLICKBOOK_CACHE_DIR", "file/cache")
    monkeypatch.setenv("FLICKBOOK_THREADS", "3")
    found = checks(capsys)
    assert found["output"]["state"] == "fail" and "FLICKBOOK_OUTPUT_DIR" in found["output"]["remedy"]
    assert found["cache"]["state"] == "warn"
    assert "3 threads" in found["torch"]["value"]


def test_free_memory_is_at_most_the_total() -> None:
    assert 0 < free_memory() <= psutil.virtual_memory().total


def test_doctor_leaves_no_files(work: Path) -> None:
    run(["doctor"])
    assert list(work.iterdir()) == []


@pytest.mark.model
def test_this_machine_can_run_the_built_in_model(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "files verified" in out
    assert out.splitlines()[-1] == "the built-in model can run here"


def test_doctor_shows_the_job_store_and_its_journal(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLICKBOOK_STORE", "sqlite:///jobs.db")
    version = ".".join(map(str, sqlite3.sqlite_version_info))
    journal = "rollback journal" if sqlite3.sqlite_version_info < (3, 51, 3) else "write-ahead log"
    assert checks(capsys)["jobs"]["value"] == f"SQLite {version}, {journal}: none yet"
    assert list(work.iterdir()) == []
    (work / "jobs.db").write_text("this is no database")
    found = checks(capsys)["jobs"]
    assert found["state"] == "warn" and "jobs.db" in found["value"] and "repair" in found["remedy"]


def test_models_that_fit_say_in_what_memory_and_time(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    value = checks(capsys)["fits"]["value"]
    expected = estimate_plan(usual(find("builtin")))
    assert f"builtin {expected.peak / GIB:.1f} GiB, time unknown" in value
    plan, placement = usual(find("builtin")), expected.placement
    run_history.append(
        {
            **{name: getattr(placement, name) for name in ("device", "dtype", "quantize", "offload", "decode_frames")},
            **{"model": "builtin", "device_name": expected.device_name, "slicing": False, "tiling": False, "rungs": []},
            **{"width": plan.width, "height": plan.height, "frames": plan.num_frames, "guided": plan.guided()},
            **{"steps": plan.num_inference_steps, "speed": "exact", "films": 1, "peak_memory_bytes": 10**9},
            "seconds": {"load": 1.0, "denoise": 3 * 3600.0},
        }
    )
    found = checks(capsys)
    assert "builtin" not in found["fits"]["value"]
    assert "takes an hour or more: builtin" in found["slow"]["value"] and "about 3.0 h" in found["slow"]["value"]
    assert "it fits, but takes about 3.0 h" in estimate_plan(usual(find("builtin"))).lines()
