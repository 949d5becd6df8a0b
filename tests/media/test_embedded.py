"""What stands in a film comes first, what stands beside it second, and neither is passed over if it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flickbook.engine.films import films
from flickbook.errors import MediaError
from flickbook.formats import frame_paths
from flickbook.media.clip import Clip, sidecar_path
from flickbook.media.embedded import carried
from flickbook.media.write import write
from flickbook.resolution import resolve
from flickbook.spec import Recipe, Request


@pytest.fixture(scope="module")
def clip() -> Clip:
    fields = {"prompt": "a red circle moving left", "num_frames": 4, "num_inference_steps": 2, "seed": 7}
    return next(films([resolve(Request.of(**fields))]))


@pytest.mark.parametrize("name", ["film.mp4", "film-%02d.png"])
def test_the_recipe_is_in_the_film_and_the_run_in_the_sidecar(tmp_path: Path, clip: Clip, name: str) -> None:
    path = clip.save(tmp_path / name)
    recipe, run = carried(path)
    # What a film is written as belongs to the file.
    assert isinstance(recipe, Recipe) and recipe.frames_sha256 == (clip.recipe or recipe).frames_sha256
    assert run == clip.run
    sidecar_path(path).unlink()
    assert carried(path) == (recipe, None)


def test_a_missing_recipe_is_read_from_the_sidecar(tmp_path: Path, clip: Clip) -> None:
    path = clip.save(tmp_path / "film.mp4")
    before = carried(path)
    write(path, clip.frames, clip.fps, None, overwrite=True)
    assert carried(path) == before
    sidecar_path(path).unlink()
    with pytest.raises(MediaError, match="carries no recipe"):
        carried(path)


def test_a_damaged_recipe_in_the_film_is_refused(tmp_path: Path, clip: Clip) -> None:
    path = clip.save(tmp_path / "film.mp4")
    write(path, clip.frames, clip.fps, '{"schema_version": 2, "plan": 3}', overwrite=True)
    with pytest.raises(MediaError, match="its recipe is damaged"):
        carried(path)


def test_a_newer_recipe_is_refused_in_film_and_sidecar(tmp_path: Path, clip: Clip) -> None:
    path = clip.save(tmp_path / "film-%d.png")
    beside = json.loads(sidecar_path(path).read_text())
    beside["recipe"]["schema_version"] = 99
    sidecar_path(path).write_text(json.dumps(beside))
    carried(path)
    first = frame_paths(path, 1)[0]
    write(first, clip.frames[:1], clip.fps, None, overwrite=True)
    with pytest.raises(MediaError, match="has schema 99, .*install a newer Flickbook"):
        carried(path)


def test_a_foreign_sidecar_is_refused_only_when_needed(tmp_path: Path, clip: Clip) -> None:
    path = clip.save(tmp_path / "film.mp4")
    sidecar_path(path).write_text("[]")
    assert carried(path)[1] is None
    write(path, clip.frames, clip.fps, None, overwrite=True)
    with pytest.raises(MediaError, match="not a sidecar that Flickbook wrote"):
        carried(path)
