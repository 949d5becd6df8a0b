"""What texts mean, kept on disk: the same bits, no text in it, within its limit, whatever lies there."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flickbook import settings
from flickbook.catalogue import find
from flickbook.diffusion.text import TextEncoder
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.family import Setup
from flickbook.engine.unet.family import UNetFamily
from flickbook.engine.unet.prompt_cache import PromptCache
from flickbook.spec import Placement, Plan

MakePlan = Callable[..., Plan]

IDS = torch.arange(48).view(1, 48)
HERE = Placement()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where they are kept."""
    monkeypatch.setenv("FLICKBOOK_TEXT_CACHE_MIB", "1")
    return settings.load().cache_dir / "texts"


def embedding(seed: int = 0, width: int = 64) -> Tensor:
    return torch.randn(1, 48, width, generator=torch.Generator().manual_seed(seed))


def loaded() -> UNetFamily:
    return UNetFamily.load(Setup(find("builtin"), find("builtin").path(), HERE))


def has_encoder(family: UNetFamily) -> bool:
    return any(isinstance(network, TextEncoder) for network in family.networks.in_memory())


def film(plan: Plan) -> tuple[Engine, np.ndarray]:
    engine = Engine(find("builtin"), HERE)
    return engine, np.concatenate([event.frames for event in engine.run([plan]) if isinstance(event, Frames)])


@pytest.mark.slow
def test_cached_prompts_give_the_same_film_without_the_text_encoder(plan: MakePlan) -> None:
    first, frames = film(plan())
    again, same = film(plan())
    assert np.array_equal(frames, same)
    assert has_encoder(first.loaded()) and not has_encoder(again.loaded())  # type: ignore[arg-type]
    other, _ = film(plan(prompt="a green star"))
    assert has_encoder(other.loaded())  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_film_is_the_same_without_the_cache(plan: MakePlan, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    film(plan())
    _, kept = film(plan())
    monkeypatch.setenv("FLICKBOOK_TEXT_CACHE_MIB", "0")
    engine, frames = film(plan())
    assert has_encoder(engine.loaded()) and np.array_equal(frames, kept)  # type: ignore[arg-type]


def test_a_disabled_cache_writes_nothing(plan: MakePlan, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("FLICKBOOK_TEXT_CACHE_MIB", "0")
    loaded().encode([plan()])
    assert not folder.exists()


def test_the_cache_holds_no_text_and_is_private(plan: MakePlan, folder: Path) -> None:
    loaded().encode([plan(prompt="a red circle", negative_prompt="blue")])
    files = list(folder.iterdir())
    assert len(files) == 2 and all(len(file.stem) == 64 for file in files)
    assert not any(word in file.read_bytes() for file in files for word in (b"red", b"circle", b"blue"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b"{}"])
def test_a_damaged_cache_file_is_replaced(plan: MakePlan, folder: Path, damage: bytes) -> None:
    before = loaded().encode([plan()])
    whole = {file: file.read_bytes() for file in folder.iterdir()}
    for file in whole:
        file.write_bytes(damage)
    after = loaded().encode([plan()])
    assert torch.equal(before.contexts[0], after.contexts[0]) and torch.equal(before.negative, after.negative)
    assert {file: file.read_bytes() for file in folder.iterdir()} == whole


def test_a_cache_file_of_other_tokens_is_ignored(folder: Path) -> None:
    kept = PromptCache(folder, 1 << 20, {})
    kept.keep(IDS, HERE, embedding()[:, :5])
    assert kept.find(IDS, HERE) is None


def test_cache_entries_are_separate_per_model_and_placement(folder: Path) -> None:
    kept = PromptCache(folder, 1 << 20, {"weights": "a"})
    kept.keep(IDS, HERE, embedding())
    found = kept.find(IDS, HERE)
    assert found is not None and torch.equal(found, embedding())
    assert kept.find(IDS.flip(1), HERE) is None
    assert kept.find(IDS, Placement(dtype="bfloat16")) is None
    assert PromptCache(folder, 1 << 20, {"weights": "b"}).find(IDS, HERE) is None


def test_the_least_recently_used_entries_are_removed(folder: Path) -> None:
    kept = PromptCache(folder, 40_000, {})  # three of them, of 12 kB each
    for seed in range(3):
        kept.keep(IDS + seed, HERE, embedding(seed))
    assert kept.find(IDS, HERE) is not None  # so that the second is the oldest
    kept.keep(IDS + 3, HERE, embedding(3))
    assert [seed for seed in range(4) if kept.find(IDS + seed, HERE) is not None] == [0, 2, 3]
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 40_000


def test_an_unwritable_cache_folder_causes_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept = PromptCache(tmp_path / "file" / "texts", 1 << 20, {})
    kept.keep(IDS, HERE, embedding())
    assert kept.find(IDS, HERE) is None


def test_parallel_writes_of_one_entry_are_safe(folder: Path) -> None:
    def work(number: int) -> bool:
        kept = PromptCache(folder, 1 << 20, {})
        kept.keep(IDS, HERE, embedding())
        found = kept.find(IDS, HERE)
        return found is not None and torch.equal(found, embedding())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(32)))
    assert len(list(folder.iterdir())) == 1
