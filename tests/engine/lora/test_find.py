"""Where a LoRA is: paths, directories, repositories, and the weight behind the colon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest
from tests.loopback_hub import Hub

import flickbook
from flickbook.engine.lora.find import locate
from flickbook.errors import RequestError, WeightsError

PROGRAM = """
import json, sys
from flickbook.engine.lora.find import locate
from flickbook.errors import FlickbookError
for text in sys.argv[1:]:
    try:
        path, weight = locate(text)
        print(json.dumps([path.as_posix(), weight]))
    except FlickbookError as error:
        print(json.dumps([error.code, str(error)]))
assert "torch" not in sys.modules
"""


@pytest.fixture
def lora(work: Path) -> Path:
    (work / "style.safetensors").write_bytes(b"")
    return Path("style.safetensors")


@pytest.mark.parametrize(
    ("text", "weight"),
    [("", 1.0), (":0.8", 0.8), (":-1", -1.0), (":+.5", 0.5), (":2.", 2.0), (":1e-1", 0.1), (":0", 0)],
)
def test_a_path_with_a_weight_is_parsed(lora: Path, text: str, weight: float) -> None:
    assert locate(f"{lora}{text}") == (lora, weight)


@pytest.mark.parametrize("text", ["11", "-10.5", "1e999"])
def test_a_weight_out_of_range_is_refused(lora: Path, text: str) -> None:
    with pytest.raises(RequestError, match="weight must be -10 to 10") as caught:
        locate(f"{lora}:{text}")
    assert caught.value.field == "lora"


@pytest.mark.parametrize("text", ["strong", "", "nan", "0,8", "1:2x"])
def test_a_weight_that_is_not_a_number_is_refused(lora: Path, text: str) -> None:
    with pytest.raises(RequestError, match="not a number; write the weight as in PATH:0.8"):
        locate(f"{lora}:{text}")


@pytest.mark.skipif(os.name == "nt", reason="no colons in names there")
def test_colons_in_file_names_are_kept(work: Path) -> None:
    folder = work / "take:2"
    folder.mkdir()
    (folder / "a:b.safetensors").write_bytes(b"")
    assert locate("take:2/a:b.safetensors") == (Path("take:2/a:b.safetensors"), 1.0)
    assert locate("take:2/a:b.safetensors:0.5") == (Path("take:2/a:b.safetensors"), 0.5)
    assert locate("take:2") == (Path("take:2/a:b.safetensors"), 1.0)


@pytest.mark.parametrize("path", ["C:\\loras\\style.safetensors", "C:/loras/style.safetensors"])
def test_a_windows_drive_is_not_a_weight(path: str) -> None:
    for text in (path, f"{path}:0.5"):
        with pytest.raises(WeightsError, match="no such file") as caught:
            locate(text)
        assert caught.value.path == path


def test_the_home_directory_is_expanded(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(work))
    monkeypatch.setenv("USERPROFILE", str(work))
    (work / "style.safetensors").write_bytes(b"")
    assert locate("~/style.safetensors:2") == (work / "style.safetensors", 2.0)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["style.safetensors", "notes.txt", "._style.safetensors"], "style.safetensors"),
        (["pytorch_lora_weights.safetensors", "b.safetensors"], "pytorch_lora_weights.safetensors"),
        (["adapter_model.safetensors", "b.safetensors"], "adapter_model.safetensors"),
    ],
)
def test_the_single_lora_of_a_directory_is_found(work: Path, names: list[str], chosen: str) -> None:
    for name in names:
        (work / name).write_bytes(b"")
    assert locate(f"{work}:0.5") == (work / chosen, 0.5)


def test_a_directory_of_several_lists_them(work: Path) -> None:
    for number in range(10):
        (work / f"style{number}.safetensors").write_bytes(b"")
    with pytest.raises(RequestError, match="holds 10 LoRAs: style0.safetensors, .* and 2 more; name one of these"):
        locate(str(work))


def test_a_directory_without_a_lora_is_refused(work: Path) -> None:
    (work / "style.bin").write_bytes(b"")
    with pytest.raises(RequestError, match="holds no .safetensors file"):
        locate(str(work))


@pytest.mark.parametrize(
    "text",
    [
        "nothing.safetensors",
        "loras/nothing.safetensors",
        "./a/b",
        "../a/b",
        "/a/b",
        "nothing",
        "a//b",
        "x" * 5000,
        "ä/b",
    ],
)
def test_a_missing_file_is_refused(work: Path, text: str) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        locate(text)


def test_a_missing_file_in_a_directory_is_not_taken_for_a_repository(work: Path) -> None:
    (work / "loras").mkdir()
    with pytest.raises(WeightsError, match="no such file"):
        locate("loras/people/style.safetensors")


@pytest.mark.parametrize("name", ["style.pt", "style.bin", "style.ckpt", "style"])
def test_another_format_is_refused_unopened(work: Path, name: str) -> None:
    (work / name).write_bytes(b"")
    with pytest.raises(WeightsError, match="not a .safetensors file"):
        locate(name)


@pytest.mark.parametrize("text", ["", "  ", "a\0b"])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is not a path"):
        locate(text)


Ask = Callable[..., list[list[object]]]


@pytest.fixture
def ask(hub: Hub, tmp_path: Path) -> Ask:
    """`locate` in a process of its own: the hub's library reads its environment once."""

    def go(*texts: str, **environment: str) -> list[list[object]]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        clean |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        clean |= {"PYTHONPATH": str(Path(flickbook.__file__).parents[1]), **environment}
        words = [sys.executable, "-c", PROGRAM, *texts]
        done = subprocess.run(words, env=clean, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return go


@pytest.mark.slow
def test_a_repository_is_downloaded(hub: Hub, ask: Ask) -> None:
    ink = "more/ink [v1].safetensors"
    hub.repos["people/styles"] = {
        "README.md": b"# styles",
        "adapter_config.json": b"{}",
        "pytorch_lora_weights.safetensors": b"one",
        "checkpoint-5/pytorch_lora_weights.safetensors": b"early",
        ink: b"ink",
        "more/oil.safetensors": b"oil",
    }
    texts = ("people/styles:0.5", f"people/styles/{ink}", f"people/styles/{ink}:2", "people/styles/more", "people/none")
    usual, file, again, folder, nobody = ask(*texts)
    assert str(usual[0]).endswith("0123456789abcdef01234567/pytorch_lora_weights.safetensors") and usual[1] == 0.5
    assert str(file[0]).endswith(f"/{ink}") and again == [file[0], 2.0]
    assert folder[0] == "invalid_request" and f"holds 2 LoRAs: {ink}, more/oil.safetensors" in str(folder[1])
    assert nobody[0] == "hub"
    # What is not asked for does not come, and what is here does not come again.
    assert [hub.sent(name) for name in ("README.md", "more/oil.safetensors")] == [[], []]
    assert [hub.sent(name) for name in ("adapter_config.json", ink)] == [[""], [""]]
    # Without a network what was pulled is still found.
    assert ask(f"people/styles/{ink}", "people/other", HF_HUB_OFFLINE="1") == [[file[0], 1.0], ["hub", ANY]]
