"""A whole training in one directory: from nothing, gone on with, and from another model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import flickbook
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.errors import RequestError, WeightsError
from flickbook.hub.manifest import verify
from flickbook.learn import session
from flickbook.learn.config import from_dict
from flickbook.learn.dataset import GROUPS, pixels, training_scenes
from flickbook.learn.session import Session, main, newest_checkpoint, say
from flickbook.vocabulary import known_words, unknown_words
from flickbook.world.grammar import vocabulary
from flickbook.world.render import render


def toml(values: dict[str, Any], path: Path) -> Path:
    """Write plain values as TOML: its inline tables differ from JSON in the sign between key and value."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{key} = {text(each)}" for key, each in value.items()) + " }"
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        return json.dumps(value)

    path.write_text("".join(f"{key} = {text(value)}\n" for key, value in values.items()), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer and latent statistics from a few films; what is learned from how many is no matter here."""
    monkeypatch.setattr(session, "_TOKENIZER_FILMS", 20)
    monkeypatch.setattr(session, "_STATISTICS_FILMS", 2)


@pytest.fixture
def short(values: dict[str, Any], tmp_path: Path) -> Path:
    """The configuration of three steps, as a file."""
    values["stages"] = [{"name": "films", "steps": 3, "lr": 1e-3, "frames": {"4": 1.0}}]
    return toml(values, tmp_path / "run.toml")


@pytest.mark.slow
def test_from_nothing_to_a_model_and_on_from_any_part(short: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "small"
    model = main(short, out)
    manifest = verify(model)
    assert model == out / "model" and len(manifest) == 3
    networks = TextToVideo.load(model)
    assert networks.latent_shape(16, 128, 128) == (8, 16, 8, 8)
    assert unknown_words("a red panda", known_words(model / "tokenizer")) == ("panda",)
    log = (out / "diffusion" / "log.csv").read_text(encoding="utf-8").splitlines()
    assert len(log) == 2 and log[1].startswith("2,films,12,")
    newest = newest_checkpoint(out)
    assert newest is not None and newest.parent.name == "diffusion"
    # Run again, it finds everything.
    assert verify(main(short, out)) == manifest
    # Each part is made again from what is left of the ones before.
    for lost in (["diffusion", "model"], ["films", "diffusion"], ["autoencoder.safetensors", "model"]):
        for name in lost:
            place = out / name
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        assert verify(main(short, out)) == manifest


@pytest.mark.slow
def test_it_starts_from_another_model(values: dict[str, Any], published: Path, tmp_path: Path) -> None:
    """Without learning (a rate of nothing) the weights that come out are those that went in."""
    values["stages"] = [{"name": "films", "steps": 1, "lr": 0.0, "frames": {"4": 1.0}}]
    out = tmp_path / "out"
    model = main(toml(values, tmp_path / "run.toml"), out, init=published)
    assert verify(model) == verify(published)
    for name in ("vocab.json", "merges.txt"):
        assert (model / "tokenizer" / name).read_bytes() == (published / "tokenizer" / name).read_bytes()
    assert not (out / "autoencoder").exists()


def test_the_decoder_of_another_model_learns_on(values: dict[str, Any], published: Path, tmp_path: Path) -> None:
    values["autoencoder"]["refine"] = "decoder"
    made = Session(from_dict(values), tmp_path, init=published).autoencoder()
    before = TextToVideo.load(published).autoencoder
    images = pixels(render(next(training_scenes({"core": 1}))))[:2]
    with torch.no_grad():
        latents = before.encode(images).mean
        assert torch.allclose(made.encode(images).mean, latents, atol=1e-5)
        assert not torch.allclose(made.decode(latents), before.decode(latents), atol=1e-3)


def test_the_whole_autoencoder_of_another_model_learns_on(
    values: dict[str, Any], published: Path, tmp_path: Path
) -> None:
    values["autoencoder"]["refine"] = "whole"
    made = Session(from_dict(values), tmp_path, init=published).autoencoder()
    before = TextToVideo.load(published).autoencoder
    images = pixels(render(next(training_scenes({"core": 1}))))
    with torch.no_grad():
        latents = made.encode(images).mean
        assert not torch.allclose(latents, before.encode(images).mean, atol=1e-3)
    assert 0.1 < float(latents.std()) < 10, "the latents have unit size over the world, and about that over one film"


def test_an_unknown_part_of_the_autoencoder_is_refused(values: dict[str, Any]) -> None:
    values["autoencoder"]["refine"] = "encoder"
    with pytest.raises(RequestError, match=r"^autoencoder\.refine=encoder: must be one of none, decoder, whole"):
        from_dict(values)


@pytest.mark.slow
def test_two_processes_share_the_work(values: dict[str, Any], published: Path, tmp_path: Path) -> None:
    """One trains on half of each step's frames, the other on the other half, and both go the same way."""
    values["stages"] = [{"name": "films", "steps": 3, "lr": 1e-3, "frames": {"4": 1.0}}]
    out, config = tmp_path / "out", toml(values, tmp_path / "run.toml")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "flickbook"]
    words += ["train", str(config), "--out", str(out), "--init", str(published), "--accelerate"]
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out / "model")]
    log = (out / "diffusion" / "log.csv").read_text(encoding="utf-8").splitlines()
    assert len(log) == 2 and log[1].startswith("2,films,12,"), "3 steps of 16 frames, 4 to a clip, over both"
    assert "find_unused_parameters" not in done.stderr


def test_what_is_no_model_or_no_configuration_is_refused(short: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(WeightsError, match=r"model_index\.json"):
        main(short, out, init=tmp_path)
    with pytest.raises(RequestError, match="^config="):
        main(tmp_path / "missing.toml", out)
    assert not out.exists()


def test_a_tokenizer_too_large_for_the_text_encoder_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    values["vocab_size"] = 600
    with pytest.raises(RequestError, match=r"^text_encoder\.vocab_size=514: must hold"):
        Session(from_dict(values), tmp_path).tokenizer()


def test_a_training_on_all_groups_knows_the_whole_grammar(values: dict[str, Any], tmp_path: Path) -> None:
    """Twenty films say few of its words."""
    values["world"] = dict.fromkeys(GROUPS, 1)
    Session(from_dict(values), tmp_path / "all").tokenizer()
    assert vocabulary() <= (known_words(tmp_path / "all/tokenizer") or frozenset())
    values["world"].pop("book")
    Session(from_dict(values), tmp_path / "fewer").tokenizer()
    assert "panda" not in (known_words(tmp_path / "fewer/tokenizer") or ("panda",))


def test_a_half_copied_tokenizer_is_copied_again(values: dict[str, Any], published: Path, tmp_path: Path) -> None:
    for torn in ("tokenizer", "tokenizer.tmp"):
        (tmp_path / torn).mkdir()
        (tmp_path / torn / "vocab.json").write_text('{"a"', encoding="utf-8")
    found = Session(from_dict(values), tmp_path, init=published).tokenizer()
    assert found.encode("a red circle") == TextToVideo.load(published).tokenizer.encode("a red circle")


def test_the_films_latents_are_those_of_the_autoencoder(
    values: dict[str, Any], published: Path, tmp_path: Path
) -> None:
    values["world"] = {"core": 1}
    made = Session(from_dict(values), tmp_path, init=published)
    autoencoder = made.autoencoder()
    films = made.films(autoencoder)
    assert films.latents.shape == (1, 16, 8, 8, 8)
    with torch.no_grad():
        expected = autoencoder.encode(pixels(render(next(training_scenes({"core": 1}))))).mean
    # Encoded in bfloat16: 8 bits of a value.
    assert float((films.latents[0].float() - expected).abs().max()) < 0.03 * float(expected.abs().max())


def test_films_of_two_worlds_are_not_mixed(values: dict[str, Any], published: Path, tmp_path: Path) -> None:
    values["world"] = {"core": 1}
    made = Session(from_dict(values), tmp_path, init=published)
    made.films(made.autoencoder())
    other = Session(from_dict({**values, "world": {"core": 2}}), tmp_path, init=published)
    with pytest.raises(RequestError, match=r"world=.*must be that of the films in"):
        other.films(other.autoencoder())
    assert len(list((tmp_path / "films").glob("films-*"))) == 1
    fewer = Session(from_dict({**values, "coverage": 0.5}), tmp_path, init=published)
    with pytest.raises(RequestError, match="coverage"):
        fewer.films(fewer.autoencoder())
    with pytest.raises(RequestError, match="first_film"):
        Session(from_dict({**values, "first_film": 9}), tmp_path, init=published).films(made.autoencoder())


def test_first_film_names_other_films_of_the_world(values: dict[str, Any], published: Path, tmp_path: Path) -> None:
    values |= {"world": {"core": 1}, "first_film": 9}
    made = Session(from_dict(values), tmp_path, init=published)
    assert made.films(made.autoencoder()).scenes == list(training_scenes({"core": 10}))[9:]


def test_where_a_training_would_go_on(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "missing") is None
    for part in ("autoencoder", "diffusion"):
        (tmp_path / part).mkdir()
        for suffix in (".json", ".safetensors"):
            (tmp_path / part / f"checkpoint-00000001{suffix}").touch()
        newest = newest_checkpoint(tmp_path)
        assert newest is not None and newest.parent.name == part


def test_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("diffusion", {"step": 3, "stage": "films", "loss": 0.123456})
    assert capsys.readouterr() == ("", "diffusion: step=3 stage=films loss=0.1235\n")
