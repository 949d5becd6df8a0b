"""The trainer of the book's judge: labels, spoiled films, and that what it trains is what the judge computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flickbook.learn.book import corruptions, recognise
from flickbook.learn.book.corruptions import IGNORED, NAMES, UNCLEAR, Spoiler, both, disorder, labels_of
from flickbook.learn.book.recognise import Bank, Network, save, tensor, train
from flickbook.world.book import read
from flickbook.world.render import render
from flickbook.world.scenes import sample

ACTION, DIRECTION = NAMES.index("action"), NAMES.index("direction")
RUN = {"subject": "dog", "action": "running", "place": "snow", "light": "day", "direction": "left"}
COUNTS = {"seen": 4, "held": 2, "twins": 4, "empty": 2, "strangers": 2}


def test_a_direction_is_a_label_only_where_the_action_goes_somewhere() -> None:
    assert labels_of(RUN)[DIRECTION] == 0
    assert labels_of({**RUN, "action": "standing"})[DIRECTION] == IGNORED


def test_two_films_in_one_are_unclear_where_they_differ() -> None:
    first, second = labels_of(RUN), labels_of({**RUN, "subject": "cat", "action": "jumping"})
    found = both(first, second)
    assert found.tolist() == [UNCLEAR[0], UNCLEAR[ACTION], first[2], first[3], IGNORED]


def test_disorder_makes_the_action_unclear_and_keeps_the_place() -> None:
    film = np.arange(16, dtype=np.uint8)
    for seed in range(12):
        shown, labels = disorder(film, labels_of(RUN), np.random.default_rng(seed))
        assert shown.tolist() != film.tolist()
        assert labels[ACTION] == UNCLEAR[ACTION] and (labels[2:4] == labels_of(RUN)[2:4]).all()


def test_mildly_spoiled_films_keep_their_words_and_their_look() -> None:
    film = read.small(render(sample(recognise.SEEN, "book")))
    films = tensor(np.repeat(film[None], 8, 0))
    labels = torch.from_numpy(np.tile(labels_of(RUN), (8, 1)))
    shown, targets = Spoiler(0.0)(films, labels, torch.Generator().manual_seed(0))
    assert (targets[:, :DIRECTION] == labels[:, :DIRECTION]).all()
    assert set(targets[:, DIRECTION].tolist()) == {0, 1}  # some are mirrored
    assert shown.shape == films.shape and float(shown.min()) >= 0 and float(shown.max()) <= 1
    assert float((shown.mean((1, 3, 4)) - films.mean((1, 3, 4))).abs().mean()) < 0.15
    _, unclear = Spoiler(10.0)(films, labels, torch.Generator().manual_seed(0))
    assert (unclear[:, ACTION] == UNCLEAR[ACTION]).any()


@pytest.mark.slow
def test_what_is_trained_is_what_the_judge_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Bank(tmp_path, COUNTS)
    assert Bank(tmp_path, COUNTS).films["twins"].shape == (4, 16, 64, 64, 3)
    rows = list(train(bank, 4))
    assert np.isfinite([loss for _, loss, _ in rows]).all()
    network = rows[-1][2]
    path = tmp_path / "read.safetensors"
    save(network.eval(), path, [0.5] * 5)
    monkeypatch.setattr(read, "WEIGHTS", path)
    read._weights.cache_clear()
    try:
        frames = render(sample(recognise.UNSEEN, "book"))
        with torch.inference_mode():
            expected = network(tensor(read.small(frames)[None]))[0].numpy()
        assert np.abs(read._logits(frames) - expected).max() < 0.02 * np.abs(expected).max() + 0.02
    finally:
        read._weights.cache_clear()


def test_the_network_takes_clips_of_any_length() -> None:
    assert Network().eval()(torch.rand(2, 4, 3, 64, 64)).shape == (2, int(corruptions.UNCLEAR.sum()) + 5)
