"""What is held out, and the memory that examples take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flickbook.learn.tuning.data import cache
from flickbook.learn.tuning.data.buckets import Bucket
from flickbook.learn.tuning.data.dataset import TrainingClip

_HELD_OUT = """
from pathlib import Path
from flickbook.learn.tuning.data.cache import _rank
print(sorted({Path(f"s{n}/clip.mp4") for n in range(12)}, key=_rank)[0])
"""


class Encoder:
    """Latents of 2 channels and an eighth of the size, embeddings of 7 values."""

    def encode(self, frames: Any) -> torch.Tensor:
        return torch.zeros(2, len(frames), frames.shape[1] // 8, frames.shape[2] // 8)

    def embed(self, prompt: str) -> dict[str, torch.Tensor]:
        return {"embeddings": torch.zeros(7)}


def test_the_same_clips_are_held_out_in_each_process_where_all_have_one_name() -> None:
    chosen = {
        subprocess.run(
            [sys.executable, "-c", _HELD_OUT], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(chosen) == 1


def test_the_memory_of_examples_is_counted_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cache, "frames", lambda clip, bucket, *_: np.zeros((bucket.num_frames, 32, 64, 3), np.uint8))
    clips = []
    for name, frames in (("short", 4), ("long", 12)):
        (tmp_path / name).touch()
        clips.append(TrainingClip(tmp_path / name, name, frames, 8.0, 64, 32))
    encoder: Any = Encoder()
    groups = {Bucket(4, 64, 32): clips}
    made = cache.build(
        encoder,
        groups,
        tmp_path / "cache",
        fps=8.0,
        identity="",
        held_out=0.0,
        problems=[],
    )
    taken = sum(example.latents.nbytes for example in made.by_bucket[0]) + 2 * 7 * 4
    assert len(made) == 4 and cache.size(groups, 8.0, 2 / 64, 7 * 4) == taken
