"""The report: its files, and what its page holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.contract.cases import CASES
from tests.contract.matrix import request_of
from tests.explain.runs import PROMPT, plan_of, short

from flickbook import catalogue
from flickbook.engine.films import RunOptions, run_options_of
from flickbook.errors import OutputError
from flickbook.explain import report as reports
from flickbook.explain.record import record
from flickbook.explain.report import FIGURES, write
from flickbook.resolution import resolve

pytestmark = [pytest.mark.model, pytest.mark.slow]


_FILES: list[Path] = []


@pytest.fixture
def report(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a report, the page first, made by the first test that asks; the tests only read them."""
    if not _FILES:
        _FILES.extend(write(short(), tmp_path_factory.mktemp("explained") / "report"))
    return _FILES


def test_a_report_has_every_figure_one_page_and_its_numbers(report: list[Path]) -> None:
    page, *others = report
    assert {path.name for path in others} == {*FIGURES, "explain.json"}
    assert sorted(path.name for path in page.parent.iterdir()) == sorted(path.name for path in report)
    for name in FIGURES:
        with Image.open(page.with_name(name)) as figure:
            assert figure.width > 900
    numbers = json.loads(page.with_name("explain.json").read_text())
    assert len(numbers["forward"]) == 10 and len(numbers["steps"]) == 3
    assert numbers["forward"][0]["snr_db"] > numbers["forward"][5]["snr_db"]
    blocks = {block["name"]: block for block in numbers["networks"]["unet"]["blocks"]}
    assert blocks["mid_block"]["milliseconds"] > 0 and blocks["conv_out"]["shape"][1] == len(short().steps[0].x0)


def test_a_report_is_not_replaced_and_this_is_found_before_anything_is_drawn(
    report: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [path.read_bytes() for path in report]
    monkeypatch.setattr("flickbook.explain.report.numbers_of", lambda record: pytest.fail("work for nothing"))
    with pytest.raises(OutputError):
        write(short(), report[0].parent)
    assert [path.read_bytes() for path in report] == before


def test_the_page_requests_nothing_and_has_a_picture_for_every_step(report: list[Path]) -> None:
    text = report[0].read_text()
    assert PROMPT in text
    assert not re.search(r'(src|href)=(?!"data:)', text) and "url(" not in text and "fetch(" not in text
    data = json.loads(text.split('type="application/json">')[1].split("</script>")[0])
    assert [step["index"] for step in data["steps"]] == [1, 2, 3]
    assert all(step[name].startswith("data:image/webp") for step in data["steps"] for name in ("x_t", "x0", "noise"))
    assert data["words"] == PROMPT.split() and data["heat"]["steps"] == [0, 1, 2]


def test_a_prompt_cannot_add_markup(tmp_path: Path) -> None:
    run = record(plan_of(prompt="</script><b>circle", num_frames=1, num_inference_steps=1), RunOptions())
    text = write(run, tmp_path)[0].read_text()
    assert "<b>" not in text and text.count("</script>") == 2
    assert not (tmp_path / "06-temporal-attention.png").exists()  # an image has one frame


def test_another_model_of_the_family_is_explained_like_the_built_in_one(data: Path, tmp_path: Path) -> None:
    """A tiny ModelScope: noise instead of v, another text encoder, another size."""
    # Its latents are as large as its frames: at 64 x 64, attention costs 16 times as much.
    case = replace(next(case for case in CASES if case.build == "ms"), side=32)
    case.save(tmp_path / "ms")
    catalogue.add(case.model(tmp_path / "ms"))
    request = request_of(case, "tiny-ms", "text", tmp_path, guidance_scale=3.0)
    plan = resolve(request)
    page, *others = write(record(plan, run_options_of(plan, request)), tmp_path / "report")
    assert {path.name for path in others} == {*FIGURES, "explain.json"}
    assert "what the network predicts" in page.read_text()


@pytest.mark.parametrize("build", ["sd15", "wan"])
def test_a_pipeline_of_diffusers_shows_x_t_and_the_estimate(build: str, data: Path, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.build == build)
    case.save(tmp_path / build)
    catalogue.add(case.model(tmp_path / build))
    request = request_of(case, f"tiny-{build}", "text", tmp_path)
    plan = resolve(request)
    run = record(plan, run_options_of(plan, request))
    assert len(run.steps) == plan.num_inference_steps
    page, *others = write(run, tmp_path / "report")
    assert {path.name for path in others} >= {"03-reverse.png", "explain.json"}
    assert "network is not ours" in page.read_text()


def test_a_replaced_report_keeps_no_figure_of_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(short(), tmp_path)
    drawings = reports._drawings

    def fewer(*given: Any) -> dict[str, Any]:
        return {name: draw for name, draw in drawings(*given).items() if name in ("03-reverse.png", "08-path.png")}

    monkeypatch.setattr(reports, "_drawings", fewer)
    files = write(short(), tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files)
    assert len(files) == 4
