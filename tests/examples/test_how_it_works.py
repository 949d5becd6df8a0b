"""The notebook that explains video diffusion runs, and has the text and the code of its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import flickbook

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "how-it-works.ipynb"
PAGE = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")


def read() -> Any:
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


def test_it_is_kept_without_what_it_printed() -> None:
    assert all(cell.outputs == [] for cell in read().cells if cell.cell_type == "code")


BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_it_has_all_code_of_the_page_in_the_same_order() -> None:
    cells = [without_blank_lines(cell.source) for cell in read().cells if cell.cell_type == "code"]
    blocks = [without_blank_lines(block) for block in BLOCKS]
    assert len(blocks) > 10 and [cell for cell in cells if cell in blocks] == blocks


@pytest.mark.parametrize("place", range(len(BLOCKS)))
def test_each_block_of_the_page_needs_the_first_one_only(place: int) -> None:
    """So each part runs alone, and the notebook's run is a run of the page."""
    words = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F821", "-"]
    ran = subprocess.run(words, input=BLOCKS[0] + BLOCKS[place], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_notebook_has_the_text_of_the_page() -> None:
    """From the first part to the last, without figures and what is said of them, in the same words."""
    parts = PAGE[PAGE.index("## 1. ") : PAGE.index("## How text-to-video models differ")]
    text = re.sub(r"^(```.*?^```|!\[.*?\)|\|.*?)$", "", parts, flags=re.MULTILINE | re.DOTALL)
    notebook = " ".join(cell.source for cell in read().cells if cell.cell_type == "markdown")
    known = " ".join(notebook.split())
    missing = [" ".join(each.split()) for each in text.split("\n\n") if " ".join(each.split()) not in known]
    assert missing == [
        "The first three rows are decoded latents, which is why noise looks like coloured clouds and not "
        "like grain. The last row shows the latents themselves as colours."
    ]


def without_blank_lines(code: str) -> list[str]:
    return [line for line in code.splitlines() if line.strip()]


def test_what_the_page_says_of_its_run_is_in_the_numbers_of_the_run() -> None:
    """If this fails after a new built-in model, draw the report again, look at it, and correct the page."""
    numbers = json.loads((ROOT / "docs" / "reports" / "explain" / "explain.json").read_text(encoding="utf-8"))
    ratio = {row["word"]: row["ratio"] for row in numbers["words"]}
    assert min(ratio["red"], ratio["circle"], ratio["on"]) > 1.2 and max(ratio["blue"], ratio["background"]) < 0.8
    assert 0.85 < ratio["left"] < 1.15
    assert 0.4 < numbers["attention_shares"]["end_and_padding"] < 0.6
    assert numbers["steps"][0]["guidance_difference"] > 3 * numbers["steps"][-1]["guidance_difference"]
    assert numbers["forward"][-1]["alpha"] == 0 and numbers["prediction_type"] == "v_prediction"
    large, *small = numbers["temporal_attention"].values()
    assert large["own"] > 1.2 * large["own_if_uniform"]
    assert all(each["distance"] > 0.95 * each["distance_if_uniform"] for each in small)


@pytest.mark.slow
@pytest.mark.model
def test_it_runs_and_shows_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(flickbook.__file__).parents[1]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "FLICKBOOK_CACHE_DIR", "FLICKBOOK_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    work = tmp_path / "work"
    work.mkdir()
    notebook = read()
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(work)}}).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    pictures = [id for id in outputs if id.endswith("-picture")]
    assert len(pictures) == 9
    for id in pictures:
        assert any("image/png" in each.get("data", {}) for each in outputs[id]), id
    assert (work / "report" / "index.html").is_file()
