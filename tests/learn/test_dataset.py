"""Films to learn from: which scenes, how they are kept, and how a batch is drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flickbook.errors import MediaError
from flickbook.learn.dataset import (
    EVALUATION_SEEDS,
    GROUPS,
    Films,
    pixels,
    sentences,
    training_scenes,
    write_shards,
)
from flickbook.world.render import render
from flickbook.world.scenes import HELD_OUT_COLOUR_SHAPE, HELD_OUT_SHAPE_MOTION
from flickbook.world.words import BACKGROUNDS, SHAPES

WORLD = {"core": 400, "pair": 80, "several": 40, "digits": 70, "views": 130, "book": 80}


def test_held_out_pairs_are_never_shown() -> None:
    """3,000 scenes; a pair that is not held out turns up many times among them."""
    actors = [actor for scene in training_scenes({"core": 2000, "pair": 1000}) for actor in scene.actors]
    paints = Counter((actor.colour, actor.shape) for actor in actors)
    moves = Counter((actor.shape, actor.motion) for actor in actors)
    assert not HELD_OUT_COLOUR_SHAPE & set(paints) and not HELD_OUT_SHAPE_MOTION & set(moves)
    assert paints["red", "circle"] > 20 and moves["circle", "left"] > 20


def test_groups_are_mixed_and_counted() -> None:
    scenes = list(training_scenes(WORLD))
    groups = [scene.kind if scene.kind in WORLD else "views" for scene in scenes]
    assert Counter(groups) == WORLD
    for start in range(0, 800, 80):
        stretch = Counter(groups[start : start + 80])
        assert all(abs(stretch[group] - count / 10) <= 2 for group, count in WORLD.items())


def test_training_seeds_are_their_own_and_below_those_of_evaluation() -> None:
    scenes = list(training_scenes(WORLD))
    assert len({(scene.kind, scene.seed) for scene in scenes}) == len(scenes)
    assert max(scene.seed for scene in scenes) < EVALUATION_SEEDS
    later = list(training_scenes({"core": 5}, first=1000))
    assert [scene.seed for scene in later] == list(range(1000, 1005))


def test_pixels_span_minus_one_to_one() -> None:
    film = render(next(iter(training_scenes({"core": 1}))))
    found = pixels(film)
    assert found.shape == (16, 3, 128, 128) and found.dtype == torch.float32
    assert torch.equal(((found + 1) * 127.5).round().byte(), torch.from_numpy(film).permute(0, 3, 1, 2))


def encode(frames: Tensor) -> Tensor:
    """(16, 128, 128, 3) -> (16, 3, 8, 8)."""
    return F.avg_pool2d(pixels(frames), 16)


def test_shards_hold_latents_and_words_and_are_written_once(tmp_path: Path) -> None:
    scenes = list(training_scenes({"core": 5}))
    write_shards(tmp_path, scenes, encode, shard=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"films-{i:05d}.safetensors" for i in range(3)]
    films = Films.load(tmp_path)
    assert films.latents.shape == (5, 16, 3, 8, 8) and films.latents.dtype == torch.float16
    assert films.scenes == scenes
    for scene, latents in zip(scenes, films.latents, strict=True):
        assert torch.allclose(latents.float(), encode(torch.from_numpy(render(scene))), atol=1e-3)
    (tmp_path / names[1]).unlink()
    before = (tmp_path / names[0]).stat().st_mtime_ns
    write_shards(tmp_path, scenes, encode, shard=2)
    assert torch.equal(Films.load(tmp_path).latents, films.latents)
    assert (tmp_path / names[0]).stat().st_mtime_ns == before


def test_other_processes_render_the_same_shards(tmp_path: Path) -> None:
    """Three films to a shard, in processes that render several at once, and a last shard that is not full."""
    scenes = list(training_scenes({"core": 5}))
    for workers in (0, 2):
        write_shards(tmp_path / str(workers), scenes, encode, shard=3, workers=workers)
    alone, shared = (Films.load(tmp_path / str(workers)) for workers in (0, 2))
    assert torch.equal(alone.latents, shared.latents) and alone.scenes == shared.scenes


def test_films_of_an_emphasised_word_are_drawn_more_often(tmp_path: Path) -> None:
    """Films of one motion at four times the others' rate; without an emphasis, at their share of all films."""
    scenes = list(training_scenes({"core": 40}))
    write_shards(tmp_path, scenes, lambda frames: encode(frames)[:, :1, :1, :1], shard=40)
    spinning = [place for place, scene in enumerate(scenes) if scene.actors[0].motion == "spinning"]
    films = Films.load(tmp_path, {"spinning": 4.0})
    films.latents[:] = 0
    films.latents[spinning] = 1
    share = float(np.mean([films.batch(0, step, 64, 1)[0].mean() for step in range(40)]))
    expected = 4 * len(spinning) / (4 * len(spinning) + len(scenes) - len(spinning))
    assert spinning and abs(share - expected) < 0.03
    assert len(films.upto) == len(scenes) and Films.load(tmp_path).upto is None


def test_a_half_written_shard_does_not_count(tmp_path: Path) -> None:
    scenes = list(training_scenes({"core": 1}))
    (tmp_path / "films-00000.tmp").write_bytes(b"half")
    write_shards(tmp_path, scenes, encode, shard=1)
    assert [path.name for path in tmp_path.iterdir()] == ["films-00000.safetensors"]


def test_missing_and_damaged_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no films-\*\.safetensors"):
        Films.load(tmp_path)
    (tmp_path / "films-00000.safetensors").write_bytes(b"half a film")
    with pytest.raises(MediaError, match=r"films-00000\.safetensors: damaged"):
        Films.load(tmp_path)


@pytest.fixture
def telling() -> Films:
    """Films whose latents say which film and which frame they are."""
    latents = torch.zeros(6, 16, 2, 1, 1)
    latents[:, :, 0, 0, 0] = torch.arange(6.0)[:, None]
    latents[:, :, 1, 0, 0] = torch.arange(16.0)
    return Films(latents.half(), list(training_scenes({"core": 6})))


def test_a_batch_follows_from_seed_and_step_alone(telling: Films) -> None:
    first, words = telling.batch(3, 7, 5, 4)
    again, same = telling.batch(3, 7, 5, 4)
    assert torch.equal(first, again) and words == same
    assert first.shape == (5, 2, 4, 1, 1) and first.dtype == torch.float32
    others = [telling.batch(3, 8, 5, 4), telling.batch(4, 7, 5, 4)]
    assert all(not torch.equal(first, other) or words != texts for other, texts in others)


@pytest.mark.parametrize(("frames", "places"), [(16, list(range(16))), (4, [0, 5, 10, 15]), (2, [0, 15])])
def test_a_short_clip_spans_the_whole_film(telling: Films, frames: int, places: list[int]) -> None:
    found, _ = telling.batch(0, 0, 3, frames)
    assert found[:, 1, :, 0, 0].tolist() == [places] * 3


def test_a_still_comes_from_anywhere(telling: Films) -> None:
    found, _ = telling.batch(0, 0, 400, 1)
    assert set(found[:, 1, 0, 0, 0].tolist()) == set(range(16))


@pytest.mark.parametrize("frames", [4, 8])
def test_the_frames_of_a_consecutive_clip_follow_one_another(telling: Films, frames: int) -> None:
    found, _ = telling.batch(0, 0, 400, frames, consecutive=0.5)
    places = found[:, 1, :, 0, 0]
    following = (places.diff(dim=1) == 1).all(1)
    assert float(following.float().mean()) == pytest.approx(0.5, abs=0.08)
    assert set(places[following][:, 0].tolist()) == set(range(16 - frames + 1))


def test_captions_belong_to_their_film_and_some_are_brief_or_empty(telling: Films) -> None:
    latents, texts = telling.batch(0, 0, 3000, 1)
    empty, short, whole = 0, [], []
    for film, text in zip(latents[:, 0, 0, 0, 0].tolist(), texts, strict=True):
        actor = telling.scenes[int(film)].actors[0]
        if not text:
            empty += 1
            continue
        assert any(noun in text for noun in SHAPES[actor.shape]), (text, actor)
        (
            whole if any(ground in text for ground in BACKGROUNDS[telling.scenes[int(film)].background]) else short
        ).append(text)
    assert empty / 3000 == pytest.approx(0.10, abs=0.03)
    assert len(short) / 3000 > 0.05 and len(whole) / 3000 > 0.7
    assert len(set(whole)) > 0.9 * len(whole), "captions are drawn anew for every clip"


def test_a_vocabulary_is_learned_from_every_group() -> None:
    texts = " ".join(sentences(list(training_scenes({group: 6 for group in GROUPS}))))
    assert "two " in texts or "three " in texts or " 2 " in texts
    assert "digit" in texts and "background" in texts and "sunset" in texts
