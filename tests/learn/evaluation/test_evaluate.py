"""Evaluation: whose prompts, what is counted, and the table of a small model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.loras import adapter, write

from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.errors import ModelNotFound, WeightsError
from flickbook.learn.dataset import EVALUATION_SEEDS
from flickbook.learn.evaluation import evaluate as evaluation
from flickbook.learn.evaluation.evaluate import (
    GROUPS,
    Settings,
    Stopwatch,
    Tally,
    draw,
    evaluate,
    main,
    prompts,
    reconstruct,
    table,
)
from flickbook.world.detect import Verdict, wilson
from flickbook.world.render import render
from flickbook.world.scenes import held_out, sample


def test_a_thousand_prompts_are_shared_out_as_published() -> None:
    chosen = prompts(1000)
    assert {name: len(scenes) for name, scenes in chosen.items()} == {
        "core": 360,
        "core held out": 200,
        "two objects": 60,
        "several": 40,
        "digits": 60,
        "scenes": 100,
        "book": 120,
        "book held out": 60,
    }
    assert all(held_out(scene.actors[0]) for scene in chosen["core held out"])
    assert not any(held_out(actor) for name in ("core", "two objects") for s in chosen[name] for actor in s.actors)
    assert min(scene.seed for scenes in chosen.values() for scene in scenes) >= EVALUATION_SEEDS
    assert all(len(scene.actors) == 2 for scene in chosen["two objects"])


@given(st.integers(1, 300))
def test_as_many_prompts_as_asked_for(count: int) -> None:
    assert sum(map(len, prompts(count).values())) == count


def test_a_tally_counts_every_word_and_all_together() -> None:
    tally = Tally()
    tally.add(Verdict({"colour": True, "motion": True}, {"size": False}))
    tally.add(Verdict({"colour": True, "motion": False}, {"size": True}))
    rows = tally.rows()
    assert {word: (row["right"], row["total"]) for word, row in rows.items()} == {
        "colour": (2, 2),
        "motion": (1, 2),
        "size": (1, 2),
        "all correct": (1, 2),
    }
    assert (rows["motion"]["low"], rows["motion"]["high"]) == wilson(1, 2)


@pytest.fixture(scope="module")
def networks(published: Path) -> TextToVideo:
    return TextToVideo.load(published)


@pytest.mark.slow
def test_a_small_model_gets_its_table(networks: TextToVideo, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = evaluate(
        networks, 8, Settings(num_inference_steps=2), tmp_path, lambda *done: calls.append(done), calibration=1
    )
    assert calls == [(number, 8) for number in range(1, 9)] and found["prompts"] == 8
    assert {name: rows["all correct"]["total"] for name, rows in found["groups"].items()} == {
        "core": 3,
        "core held out": 1,
        "two objects": 1,
        "digits": 1,
        "scenes": 1,
        "book": 1,
    }
    assert set(found["steadiness"]) == {"core", "core held out", "two objects", "digits"}
    assert all(0.85 < each["true films"] <= 1 for each in found["steadiness"].values())
    for rows in found["groups"].values():
        for row in rows.values():
            assert (row["low"], row["high"]) == wilson(row["right"], row["total"])
    assert set(found["ceiling"]) == set(GROUPS)
    assert all(each["raw"]["all correct"]["right"] == 1 for each in found["ceiling"].values())
    text = table(found)
    assert text.startswith("8 prompts, 2 steps, guidance 2.5, ddim")
    low, high = (100 * end for end in wilson(found["groups"]["core"]["colour"]["right"], 3))
    (line,) = [
        each for each in text.splitlines() if each.startswith("core ") and " colour" in each and "held" not in each
    ]
    assert f"{low:.1f} to {high:.1f} %" in line and "100.0 %" in line
    assert "Autoencoder: True films" in text and "dB" in text
    assert "steadiness, core:" in text and " seconds a film" in text
    sheets = sorted(path.name for path in tmp_path.iterdir())
    assert all(name.endswith(("-wins.png", "-failures.png")) for name in sheets if name != "report.html")
    assert len(sheets) > 1
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/webp;base64,") == 8 and "<h2>Book</h2>" in report and "Turbo" in report
    with Image.open(tmp_path / "core-failures.png") as image:
        assert image.width > 1000


@pytest.mark.slow
def test_a_student_is_measured_beside_its_teacher(networks: TextToVideo) -> None:
    found = evaluate(networks, 3, Settings(num_inference_steps=2), calibration=1, student=(networks, 1))
    turbo = found["turbo"]
    assert turbo["num_inference_steps"] == 1 and turbo["motion"] > 0 and turbo["diversity"] > 0
    assert {name: rows["all correct"]["total"] for name, rows in turbo["groups"].items()} == {
        name: rows["all correct"]["total"] for name, rows in found["groups"].items()
    }
    text = table(found)
    assert "turbo, 1 steps:" in text and "turbo, core: all correct" in text


def test_a_stopwatch_counts_what_the_iterator_takes_and_not_its_consumer() -> None:
    busy = [0]

    def films() -> Iterator[np.ndarray]:
        for _ in range(3):
            busy[0] += 1
            yield np.zeros(1)

    spent, seen = Stopwatch(), []
    for _ in spent.over(films()):
        before = spent.seconds
        sum(range(200_000))  # the consumer's work
        seen.append(spent.seconds - before)
    assert busy == [3] and seen == [0.0] * 3 and spent.seconds > 0


@pytest.mark.slow
def test_the_same_films_whatever_the_batch(networks: TextToVideo) -> None:
    scenes = [sample(EVALUATION_SEEDS + i) for i in range(3)]
    films = [list(draw(networks, scenes, Settings(num_inference_steps=2, batch=size))) for size in (1, 3)]
    for alone, together in zip(*films, strict=True):
        assert alone.shape == (16, 128, 128, 3) and alone.dtype == np.uint8
        assert np.abs(alone.astype(int) - together).mean() <= 1
    assert not np.array_equal(films[0][0], films[0][1])


def test_a_reconstruction_is_a_film(networks: TextToVideo) -> None:
    film = render(sample(1))
    found = reconstruct(networks, film)
    assert found.shape == film.shape and found.dtype == np.uint8
    latents = networks.autoencoder.encode(torch.from_numpy(film[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1).mode()
    expected = networks.autoencoder.decode(latents)[0].permute(1, 2, 0) * 127.5 + 127.5
    assert np.abs(found[0] - expected.detach().clamp(0, 255).numpy()).max() <= 1


@pytest.mark.parametrize(("name", "error"), [("bultin", ModelNotFound), (".", WeightsError)])
def test_what_is_no_model_is_refused(
    name: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        main(name, 1)


@pytest.mark.slow
def test_a_lora_changes_the_films_that_are_measured(
    published: Path, networks: TextToVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "Settings", partial(Settings, num_inference_steps=2))
    monkeypatch.setattr(evaluation, "_FEWEST", 1)
    torch.manual_seed(1)
    file = write(tmp_path / "tuned.safetensors", adapter(networks.unet), "diffusers")
    plain, tuned = main(str(published), 1), main(str(published), 1, loras=[f"{file}:0.5"])
    assert tuned["model"].endswith("tuned.safetensors:0.5") and plain["model"] == str(published)
    assert (
        plain["temporal"]["films"]["flickering_of_all_films"] != tuned["temporal"]["films"]["flickering_of_all_films"]
    )
    assert plain["temporal"]["true films"] == tuned["temporal"]["true films"]
