"""Latent upsampling is refused before computing where a model cannot do it, with the models that can."""

from __future__ import annotations

from typing import Any

import pytest

from flickbook.errors import RequestError
from flickbook.resolution import resolve
from flickbook.spec import Request


def refused(**fields: Any) -> str:
    with pytest.raises(RequestError) as caught:
        resolve(Request.of(prompt="a red circle", **fields))
    return str(caught.value)


def test_a_model_with_a_latent_upsampler_makes_a_plan_of_the_whole_size() -> None:
    asked = Request.of(prompt="a fox", model="ltx-2.3-distilled", width=1536, height=1024, latent_upsample="refine")
    plan = resolve(asked)
    assert (plan.width, plan.height, plan.latent_upsample) == (1536, 1024, "refine")
    assert resolve(asked.model_copy(update={"latent_upsample": None})).latent_upsample == ""


@pytest.mark.parametrize("kind", ["plain", "refine"])
def test_models_without_one_are_refused_with_those_that_have_one(kind: str) -> None:
    message = refused(model="wan-2.1-1.3b", latent_upsample=kind)
    able = ["ltx-video-13b-distilled", *(["ltx-2"] if kind == "plain" else []), "ltx-2.3-distilled"]
    assert "wan-2.1-1.3b has no latent upsampler" in message and message.endswith(f"can: {', '.join(able)}")


def test_a_model_that_cannot_refine_offers_plain() -> None:
    assert "ask for plain, or choose a model that can: ltx-video" in refused(model="ltx-2", latent_upsample="refine")


@pytest.mark.parametrize(
    ("width", "height", "named", "near"),
    [(800, 512, "width", 768), (1024, 480, "height", 512), (512, 256, "height", 512)],
)
def test_half_of_the_size_must_be_one_that_the_model_makes(width: int, height: int, named: str, near: int) -> None:
    message = refused(model="ltx-2", width=width, height=height, latent_upsample="plain")
    assert message.startswith(named) and f"ask for {near}, or leave" in message
    assert "at least 512 and a multiple of 64" in message
