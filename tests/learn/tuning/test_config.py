"""The settings of trainings: defaults by model, and which models can be trained."""

from __future__ import annotations

import pytest

from flickbook import catalogue
from flickbook.errors import RequestError
from flickbook.learn.tuning.config import (
    BATCH,
    PIPELINES,
    TuneConfig,
    changed,
    check_trainable,
    config_of,
    trainable_models,
)


def test_the_built_in_model_is_trained_more_strongly_than_others() -> None:
    own, other, full = config_of("builtin"), config_of("wan-2.1-1.3b"), config_of("builtin", full=True)
    assert (own.target_modules, own.train_text_encoder, own.lr) == ("all", True, 2e-3)
    assert (other.target_modules, other.train_text_encoder, other.lr) == ("attention", False, 1e-4)
    assert (full.train_text_encoder, full.lr) == (False, 1e-5)
    assert config_of("builtin", lr=1e-3, rank=None).lr == 1e-3
    assert TuneConfig(**changed(own)) == own


def test_prior_examples_are_usual_where_there_are_prompts_for_them() -> None:
    priors = (config_of(model, has_prompts=has).prior for model in ("builtin", "wan-2.1-1.3b") for has in (False, True))
    assert [*priors] == [BATCH, BATCH, 0, BATCH]
    assert config_of("wan-2.1-1.3b", has_prompts=True, prior=0).prior == 0
    with pytest.raises(RequestError, match="wan-2.1-1.3b has no captions of its own; give prompts"):
        config_of("wan-2.1-1.3b", prior=1)
    for given in ({"prior": 1}, {"has_prompts": True}):
        with pytest.raises(RequestError, match="cannot be combined with full"):
            config_of("builtin", full=True, **given)


def test_only_models_of_known_pipelines_can_be_trained() -> None:
    names = [model.name for model in trainable_models()]
    assert "builtin" in names and "wan-2.1-1.3b" in names
    with pytest.raises(RequestError, match="cannot be trained; choose one of"):
        check_trainable(catalogue.find("stable-video-diffusion"))


@pytest.mark.slow
def test_the_pipelines_named_here_are_those_that_are_implemented() -> None:
    from flickbook.learn.tuning.pipelines import CLASSES

    assert set(PIPELINES) == set(CLASSES)
