"""A model of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flickbook.catalogue import find
from flickbook.errors import ModelNotFound, RequestError, WeightsError
from flickbook.hub.add import describe


def layout(tmp_path: Path, kind: str) -> Path:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return tmp_path


def test_a_directory_takes_the_limits_of_its_kind(tmp_path: Path) -> None:
    model = describe("mine", str(layout(tmp_path, "TextToVideoSDPipeline")))
    assert (model.name, model.path(), model.repo, model.seen) == ("mine", tmp_path, "", {})
    assert model.sizes == find("text-to-video-ms-1.7b").sizes
    assert describe("small", str(tmp_path), like="builtin").sizes == ((128, 128),)


def test_a_repository_is_taken_as_it_is_named() -> None:
    model = describe("theirs", "somebody/films")
    assert (model.repo, model.directory, model.commit, model.licence) == ("somebody/films", "", "unpinned", "unknown")


def test_what_cannot_be_added_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model_index\.json"):
        describe("x", str(tmp_path))
    with pytest.raises(WeightsError, match="names the pipeline StrangePipeline; add it with --like and one of builtin"):
        describe("x", str(layout(tmp_path, "StrangePipeline")))
    with pytest.raises(RequestError, match="source=no/such/place"):
        describe("x", "no/such/place")
    with pytest.raises(ModelNotFound):
        describe("x", "owner/name", like="nothing")
