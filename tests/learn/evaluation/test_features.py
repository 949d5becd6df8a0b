"""The features of films: small weights, and what they separate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flickbook.learn.evaluation.features import FEATURES, HEADS, WEIGHTS, FilmNetwork, features, tensor, words_of
from flickbook.learn.evaluation.train_features import labels, normalise, save, scenes, train
from flickbook.learn.evaluation.validate import CLEAN, GRADED, RANKED, blur, faults, grain, measure, recolour, shuffle
from flickbook.world.render import render
from flickbook.world.scenes import sample


def test_the_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size < 1 << 20


def test_every_scene_has_words_of_the_heads() -> None:
    for group in ("core", "pair", "several", "digits", "views", "book"):
        for seed in range(20):
            words = words_of(sample(seed, group))
            assert "kind" in words and all(word in HEADS[name] for name, word in words.items()), words
    pair = words_of(sample(1, "pair"))
    assert set(pair) == {"kind", "background"}, "two objects share no other word"


@pytest.mark.slow
def test_features_of_true_films_are_near_the_unit_normal_and_equal_in_any_batch() -> None:
    films = [render(sample(seed, group)) for group in ("core", "book", "views") for seed in range(8)]
    found = features(films)
    assert found.shape == (24, FEATURES) and np.abs(found.mean(0)).mean() < 0.5 and 0.5 < found.std() < 1.5
    assert np.allclose(features(films[:1]), found[:1], atol=1e-4)
    assert features([]).shape == (0, FEATURES)


@pytest.mark.slow
def test_fvd_w_ranks_corruptions_by_their_harm() -> None:
    """At 64 films mild blur is below the noise of the floor; docs/reports/evaluation has all rows at 2048."""
    (found,) = measure(64, 128, seeds=1)
    rows = found["rows"]
    assert set(RANKED) <= set(rows) and len(rows) == 2 + sum(len(strengths) for strengths, _ in GRADED.values())
    order = [CLEAN, "blur, sigma in pixels: 4", *RANKED[2:]]
    for kind in ("fvd_w", "mmd"):
        values = [rows[name][kind][0] for name in order]
        assert values == sorted(values), (kind, values)
    assert not [fault for fault in faults(rows) if "blur" not in fault]


def test_corruptions_change_what_they_say() -> None:
    film, rng = render(sample(3)), np.random.default_rng(0)
    assert np.array_equal(np.sort(shuffle(film, rng).sum((1, 2, 3))), np.sort(film.sum((1, 2, 3))))
    assert not np.array_equal(shuffle(film, rng), film)
    assert np.array_equal(recolour(film, 1.0)[..., 0], film[..., 1]) and np.array_equal(recolour(film, 0.0), film)
    soft = blur(film, 2.0)
    assert np.abs(np.diff(soft.astype(int), axis=2)).max() < np.abs(np.diff(film.astype(int), axis=2)).max()
    assert 3 < np.abs(grain(film, rng, 8.0).astype(int) - film).mean() < 9


@pytest.mark.slow
def test_the_network_learns_and_is_saved(tmp_path: Path) -> None:
    listed = scenes({("core", False): 6, ("book", False): 4})
    films = np.stack([render(scene)[:, ::2, ::2] for scene in listed])
    torch.manual_seed(0)
    network = FilmNetwork()
    losses = [loss for _, loss in train(network, films, labels(listed), 6)]
    assert len(losses) == 6 and losses[-1] < losses[0]
    normalise(network, films)
    with torch.inference_mode():
        assert float(network(tensor(films)).mean(0).abs().max()) < 1e-3
    path = tmp_path / "features.safetensors"
    save(network, path)
    assert path.stat().st_size < 1 << 20
