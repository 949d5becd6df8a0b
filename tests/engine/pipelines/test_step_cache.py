"""The caches of diffusers' transformers: on for one film, off for the next, and told where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests import tiny
from tests.contract.cases import WORDS

from flickbook.engine.pipelines import step_cache
from flickbook.engine.pipelines.registry import parameters
from flickbook.engine.pipelines.step_cache import CACHED, with_step_cache
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request

EXACT = resolve(Request.of(prompt="a red circle", seed=1))
BALANCED = resolve(Request.of(prompt="a red circle", seed=1, speed="balanced"))
#: A tiny pipeline of each class that is on the list.
BUILT = {
    "CogVideoXImageToVideoPipeline": tiny.cog_i2v,
    "CogVideoXPipeline": tiny.cog,
    "CogVideoXVideoToVideoPipeline": tiny.cog_v2v,
    "FluxPipeline": tiny.flux,
    "HunyuanVideoPipeline": tiny.hv,
    "LTXConditionPipeline": tiny.ltx_cond,
    "LTXImageToVideoPipeline": tiny.ltx_i2v,
    "LTXPipeline": tiny.ltx,
    "MochiPipeline": tiny.mochi,
    "WanImageToVideoPipeline": tiny.wan_i2v,
    "WanPipeline": tiny.wan,
}


def deeper(pipe: Any) -> Any:
    """The pipeline with three blocks, of which two can be left out."""
    transformer = pipe.transformer
    pipe.transformer = type(transformer).from_config({**transformer.config, "num_layers": 3}).eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def film(pipe: Any, plan: Plan) -> tuple[np.ndarray, str]:
    """What a pipeline makes at the speed of a plan, as latents, and what is told of it."""
    known = parameters(pipe)
    cog = type(pipe).__name__.startswith("CogVideoX")
    side = 16 if cog else 32
    picture = Image.new("RGB", (side, side), (200, 30, 30))
    values = {"prompt": "a red circle", "num_inference_steps": 6, "output_type": "latent", "return_dict": False}
    values |= {
        "image": picture,
        "video": [picture] * 9,
        "height": side,
        "width": side,
        "num_frames": 9,
        "strength": 1.0,
    }
    arguments: dict[str, Any] = {name: value for name, value in values.items() if name in known}
    arguments |= WORDS if cog else {}
    arguments["generator"] = torch.Generator().manual_seed(1)
    with torch.no_grad(), with_step_cache(pipe, plan) as how:
        (made, *_) = pipe(**arguments)
    return np.asarray(made), how


def test_every_cached_pipeline_class_has_a_test() -> None:
    assert set(BUILT) == CACHED


@pytest.mark.parametrize("name", sorted(CACHED))
def test_the_step_cache_is_enabled_for_one_film_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    build: Callable[[], Any] = BUILT[name]
    pipe = deeper(build())
    assert type(pipe).__name__ == name
    exact, nothing = film(pipe, EXACT)
    assert nothing == "" and np.isfinite(exact).all()
    monkeypatch.setattr(step_cache, "THRESHOLD", 1e9)
    cached, how = film(pipe, BALANCED)
    assert how == "speed balanced: a first-block cache, threshold 1e+09"
    assert not np.array_equal(cached, exact), "nothing was left out"
    again, _ = film(pipe, EXACT)
    assert np.array_equal(again, exact), "the cache is still on"


def test_a_pipeline_without_step_cache_is_noted() -> None:
    torch.manual_seed(0)
    lone = tiny.ltx()
    with with_step_cache(lone, BALANCED) as how:
        assert not lone.transformer.is_cache_enabled
    assert "no faster method is known for LTXPipeline; made with speed exact" in how
    with with_step_cache(object(), BALANCED) as how:
        assert how.startswith("speed balanced: no faster method is known")


def test_an_error_disables_the_step_cache() -> None:
    torch.manual_seed(0)
    pipe = deeper(tiny.wan())
    with pytest.raises(KeyError), with_step_cache(pipe, BALANCED):
        raise KeyError
    assert not pipe.transformer.is_cache_enabled
