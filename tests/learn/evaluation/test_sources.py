"""Evaluation of films that exist, and of models that the engine runs."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.contract.cases import CASES

from flickbook import catalogue
from flickbook.errors import MediaError, RequestError, WeightsError
from flickbook.learn.evaluation.adherence import OTHER
from flickbook.learn.evaluation.collect import Collector, Shot
from flickbook.learn.evaluation.evaluate import main
from flickbook.learn.evaluation.report import table
from flickbook.learn.evaluation.sources import EngineFilms, FilmFiles, film_files, model_of
from flickbook.learn.tuning.adapter import NAME
from flickbook.learn.tuning.record import RECORD, record
from flickbook.media.clip import Clip
from flickbook.world.captions import captions
from flickbook.world.detect import fitted
from flickbook.world.render import render
from flickbook.world.scenes import FPS, Actor, Scene

RED = Scene("core", 5, "blue", (Actor("circle", "red", "left", "medium"),))
PROMPT = captions(RED)[0]


def saved(directory: Path, name: str, frames: np.ndarray, caption: str | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    Clip(frames, FPS).save(directory / name)
    if caption is not None:
        (directory / name).with_suffix(".txt").write_text(caption, encoding="utf-8")
    return directory / name


def test_a_film_is_cropped_scaled_and_resampled_for_the_judge() -> None:
    film = render(RED)
    assert np.array_equal(fitted(film), film)
    wide = np.pad(film.repeat(2, 1).repeat(2, 2).repeat(3, 0), ((0, 0), (0, 0), (40, 40), (0, 0)))
    back = fitted(wide, whole=True)
    assert back.shape == film.shape and np.abs(back[0].astype(int) - film[0]).max() <= 1
    short = film[:2, :64, :64]
    assert fitted(short, whole=True).shape == film.shape and fitted(short).shape == (2, *film.shape[1:])


def test_the_copy_of_a_long_film_shows_all_of_it() -> None:
    """In fewer frames, for the same time."""
    frames = np.full((81, 32, 32, 3), 20, np.uint8)
    frames[-1] = 220
    collector = Collector(1)
    collector.add(OTHER, Shot(frames, 16, "a long film"))
    data, _, _ = collector.shown[OTHER][0]
    film = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))
    seconds, last = 0.0, np.zeros(3)
    for place in range(film.n_frames):
        film.seek(place)
        last = np.asarray(film.convert("RGB")).mean((0, 1))
        seconds += film.info["duration"] / 1000
    assert abs(seconds - 81 / 16) < 0.2 and last.mean() > 200


@pytest.mark.slow
def test_films_are_scored_as_they_are_and_bad_ones_are_named(tmp_path: Path) -> None:
    films = tmp_path / "films"
    film = render(RED)
    saved(films, "a.mp4", film.repeat(2, 1).repeat(2, 2), PROMPT)
    saved(films, "b.mp4", film[::-1], PROMPT)
    saved(films, "c.mp4", film, "a dog surfs")
    saved(films, "d.mp4", film, " \n")
    saved(films, "e.mp4", film)
    saved(films, "f.gif", film[:1])
    (films / "g.mp4").write_bytes(b"not a film")
    (films / "notes.txt").write_text("a film", encoding="utf-8")
    seen: list[tuple[int, int]] = []
    found = main(str(films), out=tmp_path / "out", progress=lambda *done: seen.append(done))
    assert seen[-1] == (7, 7) and found["source"] == "films" and found["prompts"] == 5
    rows = {row["label"]: row for row in found["films"]}
    assert rows["a.mp4"]["right"] is True, "twice the size is the same film"
    assert rows["b.mp4"]["wrong"] == ["motion"]
    assert all(rows[name]["group"] == OTHER and "right" not in rows[name] for name in ("c.mp4", "d.mp4", "e.mp4"))
    assert set(found["groups"]) == {"core"} and found["groups"]["core"]["motion"]["right"] == 1
    assert found["unjudged"] == 3 and "distance" not in found
    assert [each.partition(":")[0].rpartition("/")[2] for each in found["skipped"]] == ["f.gif", "g.mp4"]
    assert "one frame" in found["skipped"][0] and all("\n" not in each for each in found["skipped"])
    assert [each.partition(":")[0] for each in found["unprompted"]] == ["d.mp4", "e.mp4"]
    assert "is empty" in found["unprompted"][0] and "neither a recipe nor a caption" in found["unprompted"][1]
    assert found["diversity"]["prompts"] == 1 and found["diversity"]["films"]["pixels"] > 0
    assert found["temporal"]["films"]["films"] == 5 and found["temporal"]["true films"]["films"] == 2
    text = table(found)
    assert text.startswith("5 films") and "They have no adherence score." in text and "f.gif" in text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.json", "report.md", "report.html", "rate.html", "rate-key.csv"} <= names
    assert json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(found))
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 5 and "a dog surfs" in page and "<script" not in page


def test_a_directory_of_unreadable_films_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a film")
    with pytest.raises(MediaError, match="holds no film that can be measured"):
        main(str(tmp_path), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [{"prompts": 3}, {"seed": 1}, {"loras": ["a.safetensors"]}])
def test_what_only_a_model_can_follow_is_refused_with_films(option: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(RequestError, match="has no effect on films"):
        main(str(tmp_path), **option)  # type: ignore[arg-type]


def test_the_films_of_a_training_are_not_measured(tmp_path: Path) -> None:
    record(tmp_path, {"model": "builtin"})
    for name in ("with.mp4", "without.mp4", NAME):
        (tmp_path / name).touch()
    with pytest.raises(RequestError, match="run `flickbook evaluate builtin --lora"):
        main(str(tmp_path))


def test_a_recipe_or_a_caption_gives_the_words(tmp_path: Path) -> None:
    saved(tmp_path, "a.mp4", render(RED)[:4], PROMPT)
    ((group, shot),) = [found for found in FilmFiles(film_files(tmp_path)).shots() if found]
    assert group == "core" and shot.prompt == PROMPT and shot.scene is not None and len(shot.frames) == 4
    assert shot.named == frozenset({"colour", "shape", "motion", "background", "count", "size"})


def test_the_class_of_a_pipeline_names_the_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither films nor a model"):
        model_of(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"_class_name": "CogVideoXPipeline"}), encoding="utf-8")
    assert model_of(tmp_path).name == "cogvideox-2b" and model_of(tmp_path).path() == tmp_path
    index.write_text(json.dumps({"_class_name": "TextToVideoSDPipeline"}), encoding="utf-8")
    assert model_of(tmp_path).name == "text-to-video-ms-1.7b"
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer/words.txt").write_text("red\n", encoding="utf-8")
    assert model_of(tmp_path).name == "builtin"
    index.write_text(json.dumps({"_class_name": "NoPipeline"}), encoding="utf-8")
    with pytest.raises(RequestError, match="--model-dir"):
        model_of(tmp_path)


@pytest.mark.parametrize(
    ("kind", "base"), [("WanPipeline", "wan-2.1-14b"), ("TextToVideoSDPipeline", "zeroscope-v2-576w")]
)
def test_a_fine_tuned_model_is_measured_with_the_settings_of_its_own_base(kind: str, base: str, tmp_path: Path) -> None:
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"_class_name": kind}), encoding="utf-8")
    assert model_of(tmp_path).name != base
    record(tmp_path, {"model": base})
    found = model_of(tmp_path)
    assert found == catalogue.find(base).at(tmp_path) and EngineFilms.of(found, tmp_path).plan.model == base
    (tmp_path / RECORD).write_text('{"model": "forgotten"}', encoding="utf-8")
    assert model_of(tmp_path).pipeline in (kind, ""), "the class says what a model is that is not in the catalogue"


@pytest.mark.parametrize("name", ["stable-video-diffusion", "sdxl"])
def test_a_model_that_makes_no_films_from_words_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=r"makes (stills|no film)"):
        EngineFilms.of(catalogue.find(name))


@pytest.mark.slow
@pytest.mark.model
def test_the_engine_makes_films_with_the_models_own_settings() -> None:
    films = EngineFilms.of(catalogue.find("builtin"))
    films.plan = films.plan.model_copy(update={"num_inference_steps": 1, "num_frames": 4})
    (shot,) = films.shots([RED])
    assert shot.frames.shape == (4, 128, 128, 3) and shot.prompt == PROMPT and shot.scene == RED
    assert films.seconds > 0 and films.peak_memory > 0 and films.device
    assert films.settings()["num_inference_steps"] == 1


@pytest.mark.slow
def test_a_model_of_diffusers_is_measured_with_its_own_settings(data: Path, tmp_path: Path) -> None:
    case = next(each for each in CASES if each.build == "wan")
    case.save(tmp_path / "wan")
    catalogue.add(case.model(tmp_path / "wan"))
    found = main("tiny-wan", 1, tmp_path / "out")
    settings = found["settings"]
    assert (settings["width"], settings["num_frames"], settings["num_inference_steps"]) == (64, 5, 3)
    assert found["groups"]["core held out"]["all correct"]["total"] == 1 and "scaled to 128 pixels" in found["protocol"]
    assert found["ceiling"]["core"].keys() == {"raw"}, "its autoencoder is not measured"
    assert found["cost"]["seconds_per_film"] > 0 and found["diversity"]["films"]["pixels"] > 0
    assert "64x64, 5 frames" in table(found) and (tmp_path / "out/report.html").is_file()
