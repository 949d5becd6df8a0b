"""Where a model's files lie on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from flickbook.catalogue import Model, find
from flickbook.errors import HubError, WeightsError
from flickbook.hub.find import converted, directory, latent_upsampler


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and an empty data directory."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "hub"


def snapshot(cache: Path, model: Model, commit: str) -> Path:
    made = cache / f"models--{model.repo.replace('/', '--')}" / "snapshots" / commit
    made.mkdir(parents=True)
    (made / "model_index.json").write_text("{}")
    return made


def test_a_model_that_is_not_here_says_the_command_that_brings_it(cache: Path) -> None:
    message = (
        r"^text-to-video-ms-1\.7b is not on this machine yet: 3\.67 GB, CC BY-NC 4\.0 .*; run `flickbook models pull"
    )
    with pytest.raises(HubError, match=message):
        directory(find("text-to-video-ms-1.7b"))
    assert directory(find("builtin")).name == "builtin"
    with pytest.raises(WeightsError, match=r"nowhere/manifest\.json: no such file; install the package again"):
        directory(find("builtin").model_copy(update={"directory": "nowhere"}))


def test_the_pinned_commit_is_found_and_no_other(cache: Path) -> None:
    model = find("text-to-video-ms-1.7b")
    snapshot(cache, model, "0" * 40)
    with pytest.raises(HubError):
        directory(model)
    assert directory(model.model_copy(update={"commit": "0" * 40})).name == "0" * 40
    made = snapshot(cache, model, model.commit)
    assert directory(model) == made


def test_an_unpinned_model_is_what_was_pulled_last(cache: Path) -> None:
    model = find("text-to-video-ms-1.7b").model_copy(update={"commit": "unpinned"})
    with pytest.raises(HubError):
        directory(model)
    made = snapshot(cache, model, "1" * 40)
    refs = made.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("1" * 40)
    assert directory(model) == made


def test_converted_files_win(cache: Path) -> None:
    model = find("zeroscope-v2-576w")
    snapshot(cache, model, model.commit)
    with pytest.raises(HubError):
        directory(model)
    place = converted(model)
    place.mkdir(parents=True)
    (place / "model_index.json").write_text("{}")
    assert directory(model) == place


def test_a_motion_adapter_is_here_when_its_base_is_too(cache: Path) -> None:
    adapter, base = find("animatediff"), find("sd15")
    made = snapshot(cache, adapter, adapter.commit)
    (made / "model_index.json").rename(made / "config.json")  # an adapter alone is no pipeline
    both = adapter.download_gb + base.download_gb
    with pytest.raises(HubError, match=f"^animatediff is not on this machine yet: {both:g} GB, .* pull animatediff`"):
        directory(adapter)
    snapshot(cache, base, base.commit)
    assert directory(adapter) == made


def test_a_model_is_here_without_its_latent_upsampler(cache: Path) -> None:
    model = find("ltx-2")
    made = snapshot(cache, model, model.commit)
    assert directory(model) == made and latent_upsampler(model) is None
    folder = made / "latent_upsampler"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert latent_upsampler(model) == folder
    assert latent_upsampler(find("builtin")) is None
