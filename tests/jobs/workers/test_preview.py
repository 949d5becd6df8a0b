"""Previews: small, moving, at the film's own speed."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.jobs.conftest import Small

from flickbook.engine.films import RunOptions, engine_of
from flickbook.jobs.workers.progress import moving, webp
from flickbook.spec import Step


@pytest.mark.parametrize(("height", "width", "size"), [(64, 64, (64, 64)), (512, 1024, (256, 128)), (1, 900, (256, 1))])
def test_a_preview_is_small(height: int, width: int, size: tuple[int, int]) -> None:
    frames = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) * np.ones((1, height, width, 3), np.uint8) * 60
    image = Image.open(BytesIO(webp(frames, 8.0)))
    assert image.size == size and image.n_frames == 4
    image.load()
    assert image.info["duration"] == 125


@pytest.mark.slow
def test_a_film_has_previews_while_it_is_denoised(small: Small) -> None:
    job = small(num_frames=16)
    engine, previews = engine_of(job.plan, RunOptions()), []
    for event in engine.run([job.plan], previews=True):
        if isinstance(event, Step) and event.preview is not None:
            previews.append(Image.open(BytesIO(moving(engine, job.plan, event.preview[0]))))
    assert len(previews) == 3 and {image.n_frames for image in previews} == {8}  # type: ignore[attr-defined]
