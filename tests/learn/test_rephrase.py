"""New words for the built-in model's text encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flickbook.catalogue import find
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.hub.find import directory
from flickbook.learn import rephrase
from flickbook.world.scenes import sample

pytestmark = [pytest.mark.model, pytest.mark.slow]


def test_it_begins_as_the_model_learns_new_words_and_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rephrase, "_COUNTS", {"core": 3, "pair": 1, "digits": 1, "views": 1})
    few = {name: max(1, count // 4) for name, count in rephrase._WORDS.items()}
    monkeypatch.setattr(rephrase, "_WORDS", few)
    model = directory(find("builtin"))
    networks, tokenizer = TextToVideo.load(model), rephrase.vocabulary(tmp_path / "tokenizer")
    queries = rephrase.record(networks, [sample(1), sample(2)], 16)
    pupil = rephrase.Pupil(networks, tokenizer, queries, 60)
    unfamiliar, familiar = rephrase.likeness(pupil, pupil.encoder, 1)
    assert familiar < 1e-6 < unfamiliar, "captions in known words ask for the same film before the first step"
    texts = pupil.texts(0)
    first = float(pupil.loss(pupil.encoder, *texts, 0))
    for number in range(25):
        pupil.step(number)
    assert float(pupil.loss(pupil.encoder, *texts, 0)) < 0.9 * first
    rephrase.publish(model, pupil.averaged(), tmp_path / "tokenizer", tmp_path / "out")
    again = TextToVideo.load(tmp_path / "out")
    ids = tokenizer(["a crimson ball hopping"])
    with torch.inference_mode():
        expected = pupil.averaged()(ids)
    assert torch.allclose(again.embed(["a crimson ball hopping"]), expected, atol=0.02)
    assert "crimson" in (tmp_path / "out/tokenizer/words.txt").read_text().split()
    assert torch.equal(again.unet.conv_in.weight, networks.unet.conv_in.weight)
