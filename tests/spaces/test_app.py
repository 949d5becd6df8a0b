"""The Space as visitors have it: a process on a loopback port, asked through Gradio's own client."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from tests.patience import PATIENCE

import flickbook
from flickbook.media.embedded import carried
from flickbook.media.read import read_any

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "spaces"
ASKED = {
    "prompt": "a red circle moving left on a blue background",
    "negative_prompt": "",
    "model": "builtin",
    "num_frames": 4,
    "num_inference_steps": 2,
    "guidance_scale": 2.5,
    "fps": 8,
    "seed": 7,
    "draw_seed": False,
}
#: A busy machine may answer later than httpx waits by default.
QUIET: dict[str, Any] = {"verbose": False, "analytics_enabled": False, "httpx_kwargs": {"timeout": PATIENCE}}


def front() -> dict[str, Any]:
    """The front matter of the Space's page; its values are words, and lists of them."""
    found = re.match(r"---\n(.*?)^---\n", (SPACE / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    fields: dict[str, Any] = {}
    for line in found[1].splitlines():
        if item := re.fullmatch(r"  - (\S+)", line):
            fields[list(fields)[-1]].append(item[1])
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip().strip('"') or []
    return fields


def test_the_front_matter_names_what_is_there() -> None:
    fields = front()
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert (fields["sdk"], fields["sdk_version"]) == ("gradio", pins["gradio"])
    assert (SPACE / fields["app_file"]).is_file()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert wanted["requires-python"] == ">=3.11" and tuple(map(int, fields["python_version"].split("."))) >= (3, 11)
    assert fields["license"].lower() == wanted["license"].lower()
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {fields["colorFrom"], fields["colorTo"]} <= colours
    assert fields["title"] == "Flickbook" and not fields["emoji"].isascii()
    assert 0 < len(fields["short_description"]) <= 60
    assert fields["suggested_hardware"] == "cpu-basic" and "suggested_storage" not in fields
    assert set(fields["models"]) <= {model.repo for model in flickbook.list_models()}
    assert "text-to-video" in fields["tags"]


def test_what_is_installed_is_what_the_package_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert listed == sorted([*project["dependencies"], *project["optional-dependencies"]["gen"]])


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The Space laid out as it is published, on a port of its own choice, and a client of it."""
    place = tmp_path_factory.mktemp("space")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SPACE, place / "app", ignore=ignored)
    shutil.copytree(Path(flickbook.__file__).parent, place / "app" / "flickbook", ignore=ignored)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLICKBOOK_", "GRADIO_"))}
    for name in ("GRADIO_TEMP_DIR", "FLICKBOOK_CACHE_DIR", "FLICKBOOK_DATA_DIR"):
        environment[name] = str(place / name.lower())
    environment.pop("PYTHONPATH", None)
    environment |= {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    words: Any = {"cwd": place / "app", "env": environment, "stdout": subprocess.PIPE, "text": True}
    with (place / "log").open("w+") as log:
        process = subprocess.Popen([sys.executable, "app.py"], stderr=log, **words)
        try:
            assert process.stdout is not None
            said = next((line for line in process.stdout if "http://" in line), "")
            address = re.search(r"http://127\.0\.0\.1:\d+", said)
            log.seek(0)
            assert address is not None, log.read()
            client = Client(address[0], **QUIET, download_files=str(place / "films"))
            yield client
            client.close()
        finally:
            process.terminate()  # SIGINT is not heard where the tests run in the background of a shell
            process.wait(60)


@pytest.mark.slow
@pytest.mark.model
def test_a_film_emerges_and_carries_its_recipe(space: Client) -> None:
    job = space.submit(**ASKED, api_name="/film")
    _, film, sheet, recipe, seed = job.result(120)
    stages = [stage for stage, *_ in job.outputs()]
    pictures = [found[1] for stage in stages if (found := re.search(r"data:image/webp;base64,([^\"]+)", stage))]
    assert pictures and not any(outputs[1] for outputs in job.outputs()[:-1])
    preview = Image.open(BytesIO(base64.b64decode(pictures[0])))
    assert preview.size == (128, 128) and preview.n_frames == 4  # type: ignore[attr-defined]
    assert any("step 1 of 2" in stage and "s left" in stage for stage in stages)
    assert read_any(film)[0].shape == (4, 128, 128, 3)
    made, _ = carried(film)
    assert json.loads(made.to_json()) == recipe and made.plan.seed == seed == 7  # type: ignore[union-attr]
    assert Image.open(sheet).width > 4 * 128


@pytest.mark.slow
@pytest.mark.model
def test_a_still_is_a_picture_and_a_seed_is_drawn(space: Client) -> None:
    _, film, picture, recipe, seed = space.predict(
        **{**ASKED, "num_frames": 1.0, "draw_seed": True, "prompt": "a panda"}, api_name="/film"
    )
    assert film is None and seed == recipe["plan"]["seed"] != 7
    assert Image.open(picture).size == (128, 128)
    assert carried(picture)[0].frames_sha256 == recipe["frames_sha256"]


@pytest.mark.slow
@pytest.mark.model
def test_a_film_that_was_stopped_leaves_the_place_free(space: Client) -> None:
    # A visitor of its own: a client that has cancelled may close the stream its own next film is told on.
    with closing(Client(space.src, **QUIET, download_files=False)) as visitor:
        long = visitor.submit(**{**ASKED, "num_frames": 64, "num_inference_steps": 50}, api_name="/film")
        next(iter(long))
        assert long.cancel()
        assert space.predict(**ASKED, api_name="/film")[4] == 7


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("num_frames", 999, "num_frames=999: must be 1 to 64 in this Space; ask for 64, or run Flickbook yourself"),
        ("num_inference_steps", 0, "num_inference_steps=0: must be 1 to 100; "),
        ("prompt", " ", "prompt= : is empty; describe the film"),
        ("model", "wan-2.2-14b", "model=wan-2.2-14b: is not offered here; choose one of builtin"),
        ("guidance_scale", "much", "guidance_scale=much: "),
        ("seed", -1, "seed=-1: must be 0 to "),
    ],
)
def test_a_wrong_value_is_one_line(space: Client, field: str, value: object, said: str) -> None:
    with pytest.raises(AppError) as refused:
        space.predict(**{**ASKED, field: value}, api_name="/film")
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value)


def test_nothing_of_visitors_is_kept_or_told(space: Client) -> None:
    with urllib.request.urlopen(f"{space.src}config", timeout=30) as answer:
        config = json.load(answer)
    assert config["analytics_enabled"] is False and config["run_history"] is False
    named = [each["api_name"] for each in config["dependencies"] if each["api_visibility"] == "public"]
    assert named == ["film"]
