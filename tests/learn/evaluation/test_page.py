"""The report of an evaluation: one file, with films that play."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from flickbook.learn.evaluation.page import animation, page

ROW = {"right": 3, "total": 4, "share": 0.75, "low": 0.3, "high": 0.95}
RESULT = {
    "prompts": 4,
    "settings": {"num_inference_steps": 25, "guidance_scale": 2.5, "scheduler": "ddim"},
    "groups": {"core": {"all correct": ROW}},
    "steadiness": {"core": {"share": 0.912}},
    "seconds_per_film": 1.25,
}


def film() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3)).astype(np.uint8)


def test_a_film_plays_for_as_long_as_it_lasts() -> None:
    found = re.fullmatch(r"data:image/webp;base64,(.*)", animation(film()))
    assert found is not None
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        assert image.n_frames == 16 and image.info["loop"] == 0
        image.seek(1)
        image.load()
        assert image.info["duration"] == 125


def test_the_page_shows_the_table_and_the_films() -> None:
    text = page(RESULT, {"core": [(film(), 'a <red> "circle"', ["shape"])]}, "my & model")
    assert "Evaluation of my &amp; model" in text and "&lt;red&gt;" in text and "<red>" not in text
    assert "3/4" in text and "75.0 %" in text and "30.0 % to 95.0 %" in text and "0.912" in text
    assert text.count("<img ") == 1 and "wrong: shape" in text
    assert "http" not in text and "<script" not in text, "it needs nothing else"
    assert "<h2>Turbo</h2>" not in text


def test_the_page_shows_a_student_beside_its_teacher() -> None:
    turbo = {
        "num_inference_steps": 4,
        "groups": {"core": {"all correct": {**ROW, "share": 0.5}}},
        "motion": 0.97,
        "diversity": 0.93,
        "seconds_per_film": 0.2,
    }
    text = page({**RESULT, "turbo": turbo}, {}, "m")
    assert "<h2>Turbo</h2>" in text and "motion 0.97 and diversity 0.93" in text and "<td>50.0 %</td>" in text
