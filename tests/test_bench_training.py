"""The benchmark of training steps: both sides learn from the same latents and captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench.training import Lesson

from flickbook.catalogue import find
from flickbook.learn.train import Trainer


@pytest.mark.slow
def test_a_lesson_has_captions_that_the_trainer_learns_from(tmp_path: Path) -> None:
    lesson = Lesson.of(find("builtin").path(), batch=2, frames=4)
    latents, captions = lesson.films.batch(0, 0, 2, 4)
    assert latents.shape == (2, 8, 4, 8, 8) and len(captions) == 2
    row = Trainer(lesson.config, lesson.films, lesson.tokenizer, tmp_path).step()
    assert row["frames"] == 4 and torch.isfinite(torch.tensor(row["loss"]))
