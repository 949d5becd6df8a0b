"""`flickbook models`: what there is, and how files come here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import Command
from tests.loopback_hub import SHA, Hub

from flickbook import catalogue
from flickbook.catalogue import find, list_models
from flickbook.cli.app import run
from flickbook.hub.add import describe


def test_the_list_has_a_line_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [model.name for model in list_models()]


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in models] == [model.name for model in list_models()]
    assert (models[0]["name"], models[0]["sizes"], models[0]["schedulers"][0]) == (
        "builtin",
        [[128, 128]],
        "ddim",
    )
    assert models[0]["here"] and models[1]["repo"] == "ali-vilab/text-to-video-ms-1.7b"


def test_show_prints_the_limits_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "builtin"]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["num_frames"] == "1 to 256; 16 if unset   (as trained)"
    assert rows["size"] == "128x128"
    assert rows["scheduler"] == "ddim, dpm++, unipc; ddim if unset"


def test_show_names_the_base_of_a_motion_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "animatediff"]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert (rows["pipeline"], rows["base"], rows["inputs"]) == ("AnimateDiffPipeline", "sd15", "text, video")
    assert rows["strength"] == "0.05 to 1; 0.8 if unset"
    assert rows["memory_gib"].endswith("(believed)") and not rows["num_frames"].endswith("(believed)")


def test_show_json_has_the_revision(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "builtin", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["revision"] == find("builtin").revision()


def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", "buildin"]) == 2
    assert "did you mean builtin?" in capsys.readouterr().err


@pytest.fixture
def online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub on loopback, reached as people reach theirs: through the environment."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return hub


@pytest.fixture
def repository(online: Hub) -> Hub:
    """The built-in model as a repository."""
    home = find("builtin").path()
    names = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    online.repos["somebody/tiny"] = {name: (home / name).read_bytes() for name in names}
    return online


@pytest.mark.slow
def test_the_image_encoder_of_another_repository_is_pulled_too(repository: Hub, command: Command, data: Path) -> None:
    pulled = {"image_encoder/config.json": b"{}", "image_encoder/model.safetensors": b"eye" * 99}
    rest = {"transformer/diffusion_pytorch_model.safetensors": b"large" * 99}
    repository.repos["someone/vision"] = {**pulled, "feature_extractor/preprocessor_config.json": b"{}", **rest}
    model = describe("pair", "somebody/tiny", "builtin")
    catalogue.add(model.model_copy(update={"beside": {"someone/vision": SHA}}))
    done = command("models", "pull", "pair")
    assert done.returncode == 0, done.stderr
    assert repository.sent("image_encoder/model.safetensors") and not repository.sent(next(iter(rest)))


@pytest.mark.slow
@pytest.mark.model
def test_a_model_is_added_pulled_verified_used_and_removed(repository: Hub, command: Command, work: Path) -> None:
    assert command("models", "add", "tiny", "somebody/tiny", "--like", "builtin").stdout == "tiny\n"
    missing = command("generate", "a red circle", "--model", "tiny")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("error: tiny is not on this machine yet: size unknown, licence unknown; ")
    pulled = command("models", "pull", "tiny")
    assert pulled.returncode == 0, pulled.stderr
    directory = Path(pulled.stdout.strip())
    assert (directory / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    hashes = json.loads(command("models", "verify", "tiny", "--json").stdout)
    assert hashes == json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    film = ["--num-frames", "2", "--num-inference-steps", "1", "--seed", "1", "--output", "film.mp4"]
    made = command("generate", "a red circle", "--model", "tiny", *film)
    assert made.returncode == 0, made.stderr
    assert command("models", "remove", "tiny").stdout == "tiny\n"
    assert "tiny" not in command("models", "list").stdout and directory.exists()


@pytest.mark.slow
def test_a_gated_or_missing_repository_is_one_line(online: Hub, command: Command) -> None:
    name = "text-to-video-ms-1.7b"
    found = command("models", "pull", name)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert found.stderr.startswith("error: ali-vilab/text-to-video-ms-1.7b: no such repository")
    online.repos["ali-vilab/text-to-video-ms-1.7b"] = {"model_index.json": b"{}"}
    online.gated.add("ali-vilab/text-to-video-ms-1.7b")
    found = command("models", "pull", name)
    assert found.returncode == 2 and "accept its licence at http" in found.stderr and "HF_TOKEN" in found.stderr


@pytest.mark.slow
def test_a_checkpoint_is_converted(command: Command, work: Path) -> None:
    torch.save({"state_dict": {"w": torch.arange(3.0)}}, work / "old.ckpt")
    done = command("models", "convert", "old.ckpt", "--output", "new.safetensors")
    assert (done.returncode, done.stdout) == (0, "new.safetensors\n"), done.stderr
    assert torch.equal(load_file(work / "new.safetensors")["w"], torch.arange(3.0))
    again = command("models", "convert", "old.ckpt", "--output", "new.safetensors")
    assert again.returncode == 2 and "new.safetensors: exists" in again.stderr
    assert command("models", "convert", "old.ckpt", "--output", "new.safetensors", "--overwrite").returncode == 0
    wrong = command("models", "convert", "old.ckpt", "--output", "new.bin")
    assert wrong.returncode == 2 and "must end in .safetensors" in wrong.stderr
    (work / "evil.ckpt").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    refused = command("models", "convert", "evil.ckpt", "--output", "evil.safetensors")
    assert refused.returncode == 2 and "not a PyTorch checkpoint" in refused.stderr
    assert sorted(path.name for path in work.iterdir()) == ["evil.ckpt", "new.safetensors", "old.ckpt"]
