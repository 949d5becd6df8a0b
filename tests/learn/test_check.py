"""What a training refuses before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.learn.test_session import toml

from flickbook.errors import RequestError
from flickbook.learn.check import check
from flickbook.learn.config import from_dict
from flickbook.learn.session import main


def test_an_autoencoder_that_never_sees_a_group_is_refused(
    values: dict[str, Any], published: Path, tmp_path: Path
) -> None:
    values["world"] = {"core": 2, "book": 1}
    with pytest.raises(
        RequestError, match=r"^autoencoder\.world=.*: lacks book, of which world has films; add book = "
    ):
        main(toml(values, tmp_path / "run.toml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    check(from_dict(values), tmp_path / "out", published)  # whose autoencoder is taken over


@pytest.mark.parametrize(
    ("table", "field", "value"), [("autoencoder", "whole_batch", 10**6), ("autoencoder", "crop_batch", 10**7)]
)
def test_an_autoencoder_that_needs_more_memory_than_is_free_is_refused(
    values: dict[str, Any], tmp_path: Path, table: str, field: str, value: int
) -> None:
    values[table][field] = value
    with pytest.raises(RequestError, match=rf"^{table}\.{field}={value}: the training needs about .* GiB of memory"):
        main(toml(values, tmp_path / "run.toml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_films_that_do_not_fit_in_memory_are_refused(values: dict[str, Any], published: Path, tmp_path: Path) -> None:
    values["world"] = {"core": 10**9}
    with pytest.raises(RequestError, match=r"^world=.*the training needs about .*; name fewer films"):
        check(from_dict(values), tmp_path, published)


def test_weights_of_another_network_are_refused_before_anything_is_made(
    values: dict[str, Any], published: Path, tmp_path: Path
) -> None:
    values["unet"]["layers_per_block"] = 3
    with pytest.raises(RequestError, match=r"^init=.*has unet.layers_per_block 1, and the configuration 3"):
        main(toml(values, tmp_path / "run.toml"), tmp_path / "out", init=published)
    assert not (tmp_path / "out").exists()
