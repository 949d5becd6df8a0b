"""The notebook runs from its first cell to its last, and what it says of its films is so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import flickbook
from flickbook.media.embedded import carried

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "colab.ipynb"


def read() -> Any:
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


def test_it_is_kept_without_what_it_printed() -> None:
    notebook = read()
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This checkout's package, the processor alone, no network, and no traces in anybody's home."""
    monkeypatch.setenv("PYTHONPATH", str(Path(flickbook.__file__).parents[1]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "FLICKBOOK_CACHE_DIR", "FLICKBOOK_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def outputs(notebook: Any, id: str) -> Iterator[Any]:
    for cell in notebook.cells:
        if cell.id == id:
            yield from cell.outputs


def printed(notebook: Any, id: str) -> str:
    return "".join(each.text for each in outputs(notebook, id) if each.output_type == "stream")


def shown(notebook: Any, id: str) -> set[str]:
    return {kind for each in outputs(notebook, id) if "data" in each for kind in each.data}


@pytest.mark.slow
@pytest.mark.model
def test_it_runs_and_the_film_it_shows_can_be_made_again(kernel: None, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    notebook = read()
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(work)}}).execute()
    assert printed(notebook, "install") == ""
    recipe, _ = carried(work / "circle.mp4")
    assert f"seed {recipe.plan.seed} | 25 steps" in printed(notebook, "recipe")  # type: ignore[union-attr]
    assert recipe.frames_sha256[:16] in printed(notebook, "recipe")
    assert printed(notebook, "again").startswith("identical")
    assert '"walrus"' in printed(notebook, "words")
    assert "image/png" in shown(notebook, "noise")
    (player,) = [each.data["text/html"] for each in outputs(notebook, "film")]
    assert re.search(r"<video[^>]*>\s*<source src=\"data:video/mp4;base64,", player)
    assert "No GPU found" in printed(notebook, "gpu") and "text/html" in shown(notebook, "gpu")


@pytest.fixture
def colab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A new environment that has what Colab has of what is asked for: Python, a kernel and PyTorch; its site-packages.

    Its PyTorch is a link to this environment's, so that gigabytes need not be downloaded.
    """
    home = tmp_path / "colab"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    here = Path(str(distribution("torch").locate_file("")))
    tops = {Path(file).parts[0] for file in distribution("torch").files or ()}
    for top in sorted(tops - {"..", "__pycache__"}):
        (site / top).symlink_to(here / top)
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        monkeypatch.delenv(name)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "ipykernel", "torch"], check=True)
    kernels = tmp_path / "jupyter" / "kernels" / "colab"
    kernels.mkdir(parents=True)
    words = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "Colab", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "FLICKBOOK_CACHE_DIR", "FLICKBOOK_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return site


@pytest.mark.trial
@pytest.mark.model
def test_its_first_cell_installs_a_checkout_that_lies_beside_it(colab: Path, tmp_path: Path) -> None:
    """Every cell as it is given, where Flickbook was never installed. PyTorch stays the one that was there."""
    work = tmp_path / "content"
    checkout = work / "flickbook"
    checkout.mkdir(parents=True)
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        (checkout / name).symlink_to(ROOT / name)
    notebook = read()
    resources = {"metadata": {"path": str(work)}}
    NotebookClient(notebook, timeout=1800, kernel_name="colab", resources=resources).execute()
    assert (colab / "flickbook" / "builtin" / "manifest.json").is_file() and (colab / "torch").is_symlink()
    assert printed(notebook, "again").startswith("identical")
    (player,) = [each.data["text/html"] for each in outputs(notebook, "gpu") if "data" in each]
    assert "data:video/mp4;base64," in player and (work / "last.mp4").is_file()
