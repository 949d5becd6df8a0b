"""/v1/models: what is here, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from tests.server.working import Working, working


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Working]:
    with working(tmp_path_factory.mktemp("models"), workers=0) as service:
        yield service


def test_installed_models_are_listed_with_their_limits(at: Working) -> None:
    models = list(at.sdk.models.list())
    assert [model.id for model in models] == ["builtin"]
    (model,) = models
    assert model.object == "model" and model.owned_by == "flickbook" and model.created > 0
    assert model.model_extra is not None and model.model_extra["sizes"] == ["128x128"]
    assert model.model_extra["num_frames"] == {"smallest": 1, "largest": 256, "default": 16, "every": 1}
    assert at.sdk.models.retrieve("builtin") == model


@pytest.mark.parametrize("name", ["sora-2", "wan-2.1-14b", "..%2fbuiltin", "%2e%2e%2fbuiltin", "\u00e9", "x" * 3000])
def test_models_that_are_not_installed_are_404(at: Working, name: str) -> None:
    with pytest.raises(openai.NotFoundError):
        at.sdk.models.retrieve(name)
