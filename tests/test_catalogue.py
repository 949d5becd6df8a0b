"""The catalogue: what each entry says, and the models that are added here."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from flickbook import catalogue
from flickbook.catalogue import ADVISED, Model, find, list_models
from flickbook.errors import ModelNotFound, RequestError, SettingsError


def test_every_default_is_within_its_own_limits() -> None:
    for model in list_models():
        for name in ("num_frames", "num_inference_steps", "guidance_scale", "fps"):
            allowed = getattr(model, name)
            assert allowed.range[0] <= allowed.default <= allowed.range[1], (model.name, name)


def test_every_model_says_where_its_files_are_and_what_its_figures_rest_on() -> None:
    for model in list_models():
        assert bool(model.repo) != bool(model.directory), model.name
        assert model.commit == "unpinned" or re.fullmatch("[0-9a-f]{40}", model.commit), model.name
        assert set(model.seen) <= set(Model.model_fields), model.name
        assert model.good_at and model.faults and model.memory_gib, model.name
        assert any(model.bigger == other.name for other in list_models()), model.name
        width, height = model.sizes[0]
        if model.sides is not None:
            assert width % model.sides.multiple == height % model.sides.multiple == 0, model.name


def test_a_model_is_added_found_replaced_and_removed(data: Path) -> None:
    mine = find("builtin").model_copy(update={"name": "mine", "directory": "/somewhere"})
    catalogue.add(mine)
    assert find("mine") == mine and list_models()[-1] == mine
    catalogue.add(mine.model_copy(update={"title": "new"}))
    assert find("mine").title == "new" and [each.name for each in list_models()].count("mine") == 1
    assert catalogue.remove("mine").title == "new"
    with pytest.raises(ModelNotFound):
        find("mine")


@pytest.mark.parametrize("name", ["builtin", "", "Mine", "../mine", "a b", "x" * 65])
def test_names_that_no_model_can_have(data: Path, name: str) -> None:
    with pytest.raises(RequestError, match="^name="):
        catalogue.add(find("builtin").model_copy(update={"name": name}))
    assert not data.exists()


def test_a_shipped_model_cannot_be_removed(data: Path) -> None:
    with pytest.raises(RequestError, match="name=builtin: is part of Flickbook"):
        catalogue.remove("builtin")
    with pytest.raises(ModelNotFound):
        catalogue.remove("nothing")


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "x"}]', "3", "null"])
def test_a_damaged_list_of_added_models_is_named(data: Path, text: str) -> None:
    data.mkdir()
    (data / "models.json").write_text(text)
    with pytest.raises(SettingsError, match=r"^data_dir=.*cannot be read.*delete .*models\.json"):
        list_models()


def test_a_note_about_unlearned_words_names_them_and_a_bigger_model() -> None:
    model = find("builtin")
    assert model.unlearned("a red circle moving left from the right") == ""
    note = model.unlearned("A red walrus and a BALLON, a\u202ecircle")
    assert '"walrus"' in note and '"ballon" (nearest: "balloon")' in note and '"red"' not in note
    assert model.bigger in note and note.isprintable()
    assert "68 more" in model.unlearned(" ".join(f"w{number}" for number in range(100)))


def test_a_word_that_only_ever_named_something_else_is_told_unless_that_is_asked_for() -> None:
    model = find("builtin")
    note = model.unlearned("a rainy cyberpunk alley")
    assert '"alley"' in note and 'uses "cyberpunk" as a synonym of its neon city' in note
    assert 'uses "cyberpunk"' in model.unlearned("a cyberpunk city in the rain")
    assert model.unlearned("a cyberpunk neon city in the rain") == ""


def test_every_entry_recommends_what_is_advised_or_says_why_not() -> None:
    for model in list_models():
        recommended = model.recommended
        for name, (low, high) in ADVISED.items():
            allowed, value = getattr(model, name), getattr(recommended, name)
            assert allowed.range[0] <= value <= allowed.range[1], (model.name, name)
            assert (value - allowed.range[0]) % getattr(allowed, "every", 1) == 0 or name in ("guidance_scale", "fps")
            # `seen` is where a value was published or measured.
            why = name in model.seen and value == allowed.default
            assert low <= value <= high or why or allowed.range[0] == allowed.range[1], (model.name, name)
    for name in (
        "zeroscope-v2-576w",
        "zeroscope-v2-xl",
        "videocrafter2",
        "videocrafter1",
        "cogvideox-2b",
        "cogvideox-5b",
    ):
        recommended = find(name).recommended
        assert all(low <= getattr(recommended, field) <= high for field, (low, high) in ADVISED.items()), name
    film = find("text-to-video-ms-1.7b").recommended
    assert (film.num_frames, film.num_inference_steps, film.guidance_scale, film.fps) == (16, 25, 9.0, 8.0)
    assert film.negative_prompt == "blurry, low quality, distorted, artifacts, flicker, jitter"
    assert find("builtin").recommended.guidance_scale == 2.5


def test_a_number_without_a_source_follows_the_advice_by_the_models_own_rule() -> None:
    entry = find("builtin").model_dump(mode="json", exclude={"recommended"})
    entry |= {
        "seen": {},
        "num_frames": {"range": [1, 81], "default": 81, "every": 5},
        "num_inference_steps": {"range": [1, 4], "default": 4},
    }
    recommended = Model.model_validate(entry, strict=False).recommended
    assert (recommended.num_frames, recommended.num_inference_steps, recommended.guidance_scale, recommended.fps) == (
        26,
        4,
        7.0,
        8.0,
    )


def test_the_revision_follows_the_manifest(tmp_path: Path) -> None:
    model = find("builtin").model_copy(update={"directory": str(tmp_path)})
    assert model.revision() == "none"
    weights = tmp_path / "unet" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"12")
    first = model.revision()
    assert re.fullmatch("[0-9a-f]{12}", first) and model.revision() == first
    weights.write_bytes(b"123")
    assert model.revision() != first
    (tmp_path / "manifest.json").write_bytes(b'{"a": "b"}')
    assert model.revision() == hashlib.sha256(b'{"a": "b"}').hexdigest()[:12]


def test_a_model_survives_json() -> None:
    for model in list_models():
        assert Model.from_json(model.to_json()) == model
