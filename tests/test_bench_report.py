"""What is written of a run, and what a run may replace; the figures are made up."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from bench.__main__ import check, foretold, merged, read, write
from bench.figures import goals, ratios
from bench.report import report
from bench.sections import SECTIONS
from tests import bench_runs as runs

ROOT = Path(__file__).parents[1]


def test_a_run_is_written_and_read(tmp_path: Path) -> None:
    tmp_path /= "reports"
    write(runs.whole(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"speed.json", "speed.md", "speed-growth.png"}
    assert read(tmp_path) == json.loads(json.dumps(runs.whole()))
    text = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert "2.00 (2.00 to 2.00)" in text  # stock / ours
    assert "87.7 dB" in text and "paid back" in text and "it could not do everything" in text
    assert "OpenVINO: could not be measured. there was no room" in text
    assert "No GPU was at hand" in text
    assert "VOID" not in text and "## Not measured" not in text


def test_the_page_is_in_the_order_of_the_file(tmp_path: Path) -> None:
    run = runs.whole()
    for section in run.values():
        if "sides" in section:
            section["sides"] = dict(sorted(section["sides"].items(), reverse=True))
    write(run, tmp_path)
    assert report(read(tmp_path)) == (tmp_path / "speed.md").read_text(encoding="utf-8")


def test_what_is_void_or_missing_is_told_in_plain_words() -> None:
    text = report({"builtin": runs.builtin(void=True)})
    assert "**VOID: the machine was not quiet" in text
    assert "## Not measured" in text and "rivals" in text


def test_a_void_run_does_not_take_the_place_of_a_valid_one() -> None:
    valid, void = {"builtin": runs.builtin()}, {"builtin": runs.builtin(0.5, void=True)}
    assert merged(valid, void) == (valid, ["builtin"])
    assert merged(valid, void, keep_void=True) == (void, [])
    assert merged({}, void) == (void, [])  # better than nothing, and told
    assert merged(void, valid) == (valid, [])


def test_sections_that_were_not_measured_keep_their_figures() -> None:
    before = runs.whole()
    run, refused = merged(before, {"builtin": runs.builtin(0.5)})
    assert not refused and run["cold"] == before["cold"] and run["builtin"] != before["builtin"]


def test_goals_are_met_missed_or_not_measured() -> None:
    found = {goal.what: goal for goal in goals(runs.whole())}
    assert found["built-in, exact fp32 beside stock fp32"].met is True
    assert found["built-in, exact bf16 beside stock tuned"].met is None
    assert found["built-in, peak memory of the process beside stock's"].met is False
    assert found["replica, 16 x 256 x 256, peak memory of the process beside the default call's"].met is True
    assert found["growth with frames and pixels, the worst size over the law"].met is True
    assert found["balanced to our exact, worst frame of all films, SSIM"].said == "0.940"
    assert all(goal.met is None for goal in goals({}))
    assert all(goal.met is None for goal in goals({"builtin": runs.builtin(void=True)}))


def test_a_run_is_compared_with_what_was_committed(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(runs.whole(), {"builtin": runs.builtin()})
    assert "NOT REPRODUCED" not in capsys.readouterr().out
    assert not check(runs.whole(), {"builtin": runs.builtin(1.5)})
    assert "NOT REPRODUCED" in capsys.readouterr().out
    assert not check({}, {"builtin": runs.builtin()})


def test_every_section_claims_something_and_says_how_long_it_takes() -> None:
    claimed = {name.partition(":")[0].partition(" ")[0] for name in ratios(runs.whole())}
    assert claimed == {"builtin", "rivals", "cold", "growth", "training", "replica"}
    assert set(runs.whole()) == set(SECTIONS)
    assert len(foretold(list(SECTIONS), 7, 3)) == len(SECTIONS) + 1


def test_the_report_is_written_from_its_figures() -> None:
    folder = ROOT / "docs/reports"
    assert report(read(folder)) == (folder / "speed.md").read_text(encoding="utf-8")


PARTS = sorted(".".join(each.relative_to(ROOT).with_suffix("").parts) for each in ROOT.glob("bench/**/[!_]*.py"))


@pytest.mark.parametrize("part", [each for each in PARTS if each != "bench.rivals.openvino_worker"])  # has its own home
def test_every_part_of_the_bench_can_be_loaded(part: str) -> None:
    importlib.import_module(part)


def test_all_parts_of_the_bench_are_seen() -> None:
    assert {"bench.queue", "bench.rivals.ours"} <= set(PARTS)
