"""Directories of checkpoints become directories of safetensors, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from flickbook.catalogue import find
from flickbook.errors import OutputError, RequestError, WeightsError
from flickbook.hub import fetch as fetching
from flickbook.hub.fetch import convert_parts, fetch
from flickbook.hub.manifest import verify


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A model whose text encoder and U-Net are checkpoints, and whose autoencoder is not."""
    source = tmp_path / "published"
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        (source / part).mkdir(parents=True)
        (source / part / "config.json").write_text(json.dumps({"part": part}))
    (source / "model_index.json").write_text("{}")
    torch.save({"w": torch.arange(4.0)}, source / "unet" / "diffusion_pytorch_model.bin")
    torch.save({"t": torch.ones(2).half()}, source / "text_encoder" / "pytorch_model.bin")
    (source / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"as it is")
    return source


def test_checkpoints_are_converted_and_the_rest_is_copied(published: Path, tmp_path: Path) -> None:
    out = convert_parts(published, tmp_path / "made")
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        "manifest.json",
        "model_index.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert torch.equal(load_file(out / "unet" / "diffusion_pytorch_model.safetensors")["w"], torch.arange(4.0))
    assert load_file(out / "text_encoder" / "model.safetensors")["t"].dtype == torch.float16
    assert (out / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() == b"as it is"


def test_a_checkpoint_that_cannot_be_read_leaves_nothing(published: Path, tmp_path: Path) -> None:
    (published / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"no")
    with pytest.raises(WeightsError, match="not a PyTorch checkpoint"):
        convert_parts(published, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("no-")) == ["published"]
    with pytest.raises(WeightsError, match=r"model_index\.json"):
        convert_parts(tmp_path / "empty", tmp_path / "made")


def test_what_is_no_model_is_never_replaced(published: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(OutputError, match="exists and is no model"):
        convert_parts(published, mine)
    for place in (published, tmp_path):
        with pytest.raises(OutputError, match="holds what is to be converted"):
            convert_parts(published, place)
    assert (mine / "thesis.txt").read_text() == "years"
    out = convert_parts(published, tmp_path / "made")
    assert convert_parts(published, out) == out and verify(out)


def test_a_disk_without_room_is_refused(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OutputError, match="GB are free"):
        convert_parts(published, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("no-")) == ["published"]


def test_a_model_with_a_directory_has_nothing_to_pull() -> None:
    with pytest.raises(RequestError, match="model=builtin: has its files already"):
        fetch(find("builtin"))


def test_a_latent_upsampler_is_pulled_with_its_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own repository, or a folder of the model's at the same commit."""
    pulled: list[tuple[str, str, tuple[str, ...]]] = []

    def pull(repo: str, revision: str, variant: str, only: tuple[str, ...], *_: object) -> SimpleNamespace:
        pulled.append((repo, revision, only))
        return SimpleNamespace(directory=tmp_path)

    monkeypatch.setattr(fetching, "pull", pull)
    folder = ("latent_upsampler/*",)
    fetch(find("ltx-2"))
    fetch(find("ltx-video-13b-distilled"))
    assert [each for each in pulled if each[2] == folder] == [
        ("Lightricks/LTX-2", find("ltx-2").commit, folder),
        ("Lightricks/ltxv-spatial-upscaler-0.9.7", "main", folder),
    ]
