"""Pulling from a hub on loopback, and everything that can go wrong there."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.loopback_hub import SHA, Hub
from tests.patience import PATIENCE, until

import flickbook
from flickbook.hub.pull import File, choose

REPO = "somebody/films"
FILES = {
    "model_index.json": b'{"_class_name": "TextToVideoSDPipeline"}',
    "README.md": b"# films",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": bytes(range(256)) * 2000,
    "unet/diffusion_pytorch_model.fp16.safetensors": bytes(range(256)) * 1000,
    "unet/diffusion_pytorch_model.bin": b"old" * 100_000,
    "vae/diffusion_pytorch_model.safetensors": b"vae" * 50_000,
    "assets/film.mp4": b"film" * 1000,
    ".gitattributes": b"*.bin",
}
PROGRAM = """
import json, sys
from flickbook.errors import FlickbookError
from flickbook.hub.pull import pull
seen = []
try:
    found = pull(*json.loads(sys.argv[1]), on_bytes=lambda *each: seen.append(each))
except FlickbookError as error:
    print(json.dumps({"error": str(error), "code": error.code}))
else:
    names = [file.name for file in found.files]
    print(json.dumps({"directory": str(found.directory), "revision": found.revision, "files": names, "seen": seen}))
"""

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def start(hub: Hub, tmp_path: Path) -> Start:
    """`pull` begun in a process of its own: the library reads its environment once."""

    def go(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        clean |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        clean |= {"PYTHONPATH": str(Path(flickbook.__file__).parents[1]), **environment}
        words = [sys.executable, "-c", PROGRAM, json.dumps(arguments or (REPO,))]
        return subprocess.Popen(words, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return go


@pytest.fixture
def run(start: Start) -> Run:
    """`pull` to its end: what it found, or its error."""

    def go(*arguments: str, **environment: str) -> dict[str, Any]:
        with start(*arguments, **environment) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return dict(json.loads(out.splitlines()[-1]))

    return go


@pytest.mark.slow
def test_a_whole_pull_takes_one_set_of_safetensors(hub: Hub, run: Run) -> None:
    hub.repos[REPO] = FILES
    found = run(REPO, "main", "fp16")
    assert found["revision"] == SHA and found["files"] == [
        "README.md",
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    for name in found["files"]:
        assert (Path(found["directory"]) / name).read_bytes() == FILES[name]
    total = sum(len(FILES[name]) for name in found["files"] if name.endswith(".safetensors"))
    assert found["seen"][-1] == [total, total]
    before = len(hub.requests)
    # Once more, nothing is fetched again.
    assert run(REPO, "main", "fp16")["directory"] == found["directory"]
    assert not [path for method, path, _ in hub.requests[before:] if method == "GET" and "/resolve/" in path]


#: The library writes pieces of 10 MB.
PIECE = 10 << 20
LARGE, LARGE_NAME = bytes(range(256)) * 100_000, "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.slow
def test_a_line_that_breaks_is_taken_up_where_it_broke(hub: Hub, run: Run) -> None:
    hub.repos[REPO] = {"model_index.json": b"{}", LARGE_NAME: LARGE}
    hub.cut_after[LARGE_NAME] = 15_000_000
    found = run()
    assert (Path(found["directory"]) / LARGE_NAME).read_bytes() == LARGE
    first, second = hub.sent(LARGE_NAME)
    assert first == "" and second.startswith("bytes=1")


@pytest.mark.slow
def test_a_pull_that_was_killed_goes_on_where_it_was(hub: Hub, run: Run, start: Start, tmp_path: Path) -> None:
    hub.repos[REPO] = {"model_index.json": b"{}", LARGE_NAME: LARGE}
    hub.stall_after[LARGE_NAME] = 15_000_000
    with start() as process:
        assert hub.stalled.wait(PATIENCE)
        # A piece that was received whole is in the unfinished file.
        until(lambda: sum(each.stat().st_size for each in (tmp_path / "hf").rglob("*.part")) >= PIECE)
        process.kill()
    found = run()
    assert (Path(found["directory"]) / LARGE_NAME).read_bytes() == LARGE
    first, second = hub.sent(LARGE_NAME)
    assert first == "" and second.startswith("bytes=1")


@pytest.mark.slow
def test_a_gated_repository_says_the_next_step_and_opens_with_a_token(hub: Hub, run: Run) -> None:
    hub.repos[REPO], hub.gated = FILES, {REPO}
    found = run()
    assert found["code"] == "hub" and found["error"].startswith(f"{REPO}: gated")
    assert f"{hub.url}/{REPO}" in found["error"] and "HF_TOKEN" in found["error"]
    assert hub.token not in found["error"]
    assert run(HF_TOKEN=hub.token)["revision"] == SHA
    assert f"Bearer {hub.token}" in hub.tokens


def test_a_repository_that_moved_is_found(hub: Hub, run: Run) -> None:
    hub.repos["new/place"], hub.renamed = FILES, {REPO: "new/place"}
    assert (Path(run()["directory"]) / "model_index.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("somebody/else",), "somebody/else: no such repository, or a private one"),
        ((REPO, "v9"), f"{REPO}: has no revision v9"),
        (("three/part/name",), "three/part/name: not the name of a repository"),
        (("somebody/empty",), "somebody/empty: holds no weights"),
    ],
)
def test_what_is_not_there_is_named(hub: Hub, run: Run, arguments: tuple[str, ...], says: str) -> None:
    hub.repos = {REPO: FILES, "somebody/empty": {"README.md": b"soon"}}
    assert run(*arguments)["error"].startswith(says)


@pytest.mark.slow
def test_offline_and_unreachable(hub: Hub, run: Run) -> None:
    hub.repos[REPO] = FILES
    assert "HF_HUB_OFFLINE" in run(HF_HUB_OFFLINE="1")["error"]
    found = run(HF_ENDPOINT="http://127.0.0.1:9")
    assert found["code"] == "hub" and "pull again" in found["error"]


@pytest.mark.slow
def test_a_corrupt_file_is_named_deleted_and_pulled_again(hub: Hub, run: Run, tmp_path: Path) -> None:
    name = "vae/diffusion_pytorch_model.safetensors"
    hub.repos[REPO], hub.corrupt = FILES, {name}
    expected = hashlib.sha256(FILES[name]).hexdigest()
    error = run()["error"]
    assert f"{name} is corrupt: SHA-256 should be {expected}, is " in error
    assert not list((tmp_path / "hf" / "hub").glob(f"models*/**/*{expected}*"))
    hub.corrupt = set()
    assert (Path(run()["directory"]) / name).read_bytes() == FILES[name]


def test_of_a_folder_without_safetensors_the_checkpoint_is_taken() -> None:
    files = [File(name, 1) for name in ("model.ckpt", "model_index.json", "unet/a.safetensors", "unet/a.bin", "x.py")]
    assert [file.name for file in choose(files)] == ["model.ckpt", "model_index.json", "unet/a.safetensors"]


def test_shards_and_their_index_stay_together() -> None:
    parts = [f"t/model{v}-0000{i}-of-00002.safetensors" for v in ("", ".fp16") for i in (1, 2)]
    index = ["t/model.safetensors.index.json", "t/model.safetensors.index.fp16.json"]
    names = [file.name for file in choose([File(name, 1) for name in (*parts, *index)], "fp16")]
    assert names == sorted([*parts[2:], *index])
    names = [file.name for file in choose([File(name, 1) for name in (*parts, *index)])]
    assert names == sorted([*parts[:2], *index])


def test_only_what_is_asked_for_and_nothing_outside() -> None:
    files = [File(name, 1) for name in ("a/x.safetensors", "b/y.safetensors", "../z.json", "/etc/w.json", "c.json")]
    assert [file.name for file in choose(files)] == ["a/x.safetensors", "b/y.safetensors", "c.json"]
    assert [file.name for file in choose(files, only=["a/*", "*.json"])] == ["a/x.safetensors", "c.json"]
