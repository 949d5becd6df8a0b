"""FramePack, whose parts lie in three repositories: the film is that of the same parts in one directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image
from tests.contract.cases import CASES

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.engine.films import films, forget, run_options_of
from flickbook.errors import ModelNotPulled, WeightsError
from flickbook.hub.find import cache_folder
from flickbook.media.clip import Clip
from flickbook.resolution import resolve
from flickbook.spec import Request

CASE = next(case for case in CASES if case.build == "framepack")
COMMIT = "0" * 40


@pytest.fixture
def whole(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """All parts in one directory."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    CASE.save(tmp_path / "whole")
    model = CASE.model(tmp_path / "whole")
    catalogue.add(model)
    return model


@pytest.fixture
def apart(whole: Model, tmp_path: Path) -> Model:
    """The same parts as they are published: transformer, image encoder, and all others."""
    build = next(case for case in CASES if case.build == "hv")
    build.save(tmp_path / "base")
    for folder in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"):
        shutil.rmtree(tmp_path / "base" / folder)
        shutil.copytree(whole.path() / folder, tmp_path / "base" / folder)
    catalogue.add(build.model(tmp_path / "base").model_copy(update={"name": "base"}))
    shutil.copytree(whole.path() / "transformer", tmp_path / "apart")
    snapshot = cache_folder("someone/vision") / "snapshots" / COMMIT
    for folder in ("image_encoder", "feature_extractor"):
        shutil.copytree(whole.path() / folder, snapshot / folder)
    changes = {"directory": str(tmp_path / "apart"), "base": "base", "pipeline": "HunyuanVideoFramepackPipeline"}
    changes |= {"name": "apart", "files": ("config.json",), "beside": {"someone/vision": COMMIT}}
    model = whole.model_copy(update=changes)
    catalogue.add(model)
    return model


def film(model: Model, tmp_path: Path) -> Clip:
    Image.new("RGB", (CASE.side, CASE.side), "red").save(tmp_path / "red.png")
    asked = Request.of(
        prompt="a bird", model=model.name, image=str(tmp_path / "red.png"), seed=7, num_inference_steps=2
    )
    plan = resolve(asked)
    forget()
    return next(films([plan], run_options_of(plan, asked)))


def test_the_film_is_that_of_the_same_parts_in_one_directory(whole: Model, apart: Model, tmp_path: Path) -> None:
    made, same = film(apart, tmp_path), film(whole, tmp_path)
    assert np.array_equal(made.frames, same.frames)
    assert made.recipe is not None and any(name.startswith("someone/vision/") for name in made.recipe.weights)


def test_a_missing_image_encoder_must_be_pulled_and_code_in_it_is_refused(apart: Model, tmp_path: Path) -> None:
    snapshot = cache_folder("someone/vision") / "snapshots" / COMMIT
    (snapshot / "model.py").write_text("print('run')")
    with pytest.raises(WeightsError, match="is code in the weights directory"):
        film(apart, tmp_path)
    shutil.rmtree(snapshot / "image_encoder")
    with pytest.raises(ModelNotPulled):
        film(apart, tmp_path)
