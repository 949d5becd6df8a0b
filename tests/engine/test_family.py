"""The table of families, and that each keeps what the Protocol promises."""

from __future__ import annotations

import inspect

import pytest

from flickbook.catalogue import Model, list_models
from flickbook.engine.family import Family, Setup, loader
from flickbook.engine.pipelines.family import PipelineFamily
from flickbook.engine.unet.family import UNetFamily
from flickbook.spec import Placement


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_every_model_has_a_family_that_can_load_it(model: Model) -> None:
    setup, *others = inspect.signature(loader(model.family)).parameters.values()
    assert setup.name == "setup" and all(each.default is not inspect.Parameter.empty for each in others)


@pytest.mark.parametrize("family", [UNetFamily, PipelineFamily])
def test_families_implement_the_protocol(family: type) -> None:
    methods = {name: each for name, each in vars(Family).items() if inspect.isfunction(each) and name[0] != "_"}
    assert len(methods) >= 5
    for name, each in methods.items():
        assert list(inspect.signature(getattr(family, name)).parameters) == list(inspect.signature(each).parameters)


def test_the_loader_returns_the_family() -> None:
    (model,) = [each for each in list_models() if each.name == "builtin"]
    family = loader(model.family)(Setup(model, model.path(), Placement()))
    assert isinstance(family, UNetFamily)
    assert set(family.weights) >= {"unet/diffusion_pytorch_model.safetensors"}


def test_an_unknown_family_is_a_catalogue_error() -> None:
    with pytest.raises(KeyError):
        loader("pipelines")
