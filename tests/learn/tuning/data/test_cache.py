"""What is held out, and the memory that examples take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from flickbook.learn.dataset import training_scenes
from flickbook.learn.tuning.data import cache
from flickbook.learn.tuning.data.buckets import Bucket
from flickbook.learn.tuning.data.dataset import TrainingClip
from flickbook.learn.tuning.prior import Known
from flickbook.world.render import render
from flickbook.world.scenes import FRAMES, SIZE

BUCKET = Bucket(4, 64, 32)


class Encoder:
    """Latents of 2 channels and an eighth of the size, all of the first pixel's value; embeddings of 7 values."""

    def encode(self, frames: Any) -> torch.Tensor:
        return torch.full((2, len(frames), frames.shape[1] // 8, frames.shape[2] // 8), float(frames.flat[0]))

    def embed(self, prompt: str) -> dict[str, torch.Tensor]:
        return {"embeddings": torch.zeros(7)}


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., cache.Examples]:
    """`build(clips, held_out)` of clips of 64x32 pixels, whose pixels have the number of frames as their value."""

    def filled(clip: TrainingClip, bucket: Bucket, *_: float) -> np.ndarray:
        return np.full((bucket.num_frames, 32, 64, 3), clip.num_frames, np.uint8)

    def built(clips: list[TrainingClip], held_out: float = 0.0) -> cache.Examples:
        encoder: Any = Encoder()
        how: dict[str, Any] = {"fps": 8.0, "identity": "", "held_out": held_out, "problems": []}
        return cache.build(encoder, {BUCKET: clips}, tmp_path / "cache", **how)

    monkeypatch.setattr(cache, "frames", filled)
    return built


def clip_of(path: Path, frames: int) -> TrainingClip:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return TrainingClip(path, path.name, frames, 8.0, 64, 32)


def test_of_clips_of_one_name_the_paths_decide_which_are_held_out(
    build: Callable[..., cache.Examples], tmp_path: Path
) -> None:
    clips = [clip_of(tmp_path / f"s{number:02d}" / "clip.mp4", number) for number in range(4, 16)]
    for order in (clips, clips[::-1]):
        assert {float(example.latents.max()) for example in build(order, 2 / 12).held_out} == {4.0, 5.0}


def test_the_memory_of_examples_is_counted_as_they_are(build: Callable[..., cache.Examples], tmp_path: Path) -> None:
    clips = [clip_of(tmp_path / "short", 4), clip_of(tmp_path / "long", 12)]
    made = build(clips)
    taken = sum(example.latents.nbytes for example in made.by_bucket[0]) + 2 * 7 * 4
    assert len(made) == 4 and cache.size({BUCKET: clips}, 8.0, 2 / 64, 7 * 4) == taken


def test_prior_examples_have_films_of_their_prompts_if_a_bucket_has_their_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cache, "frames", lambda clip, b, *_: np.full((b.num_frames, b.height, b.width, 3), 7, np.uint8))
    scene = next(training_scenes({"core": 1}))
    known = [Known("a red circle", scene), Known("", scene)]
    clips = [clip_of(tmp_path / "a", FRAMES)]
    seen: list[tuple[int, int]] = []
    for place, side in (("small", SIZE // 2), ("own", SIZE)):
        bucket, encoder = Bucket(FRAMES, side, side), cast(Any, Encoder())
        how: dict[str, Any] = {"fps": 8.0, "identity": "", "held_out": 0.0, "problems": [], "prior": known}
        made = cache.build(encoder, {bucket: clips}, tmp_path / place, **how, progress=lambda *at: seen.append(at))
        first, second = made.prior_batch(2, torch.Generator().manual_seed(0))
        assert first.latents.shape == second.latents.shape
        film = encoder.encode(render(scene))
        assert torch.equal(first.latents.float(), film.half().float()) == (side == SIZE)
        films = 0 if side != SIZE else 2 * 2 * film.numel()
        assert cache.size({bucket: clips}, 8.0, 2 / 64, 28, known) == 3 * 28 + 2 * first.latents.numel() + films
        assert made.one_shape()
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2
    small, own = Bucket(FRAMES, SIZE // 2, SIZE // 2), Bucket(FRAMES, SIZE, SIZE)
    made = cache.build(encoder, {small: clips, own: clips}, tmp_path / "both", **how)
    assert not made.one_shape()
