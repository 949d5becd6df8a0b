"""The report of `--check`: as JSON, and as lines."""

from __future__ import annotations

import json
from pathlib import Path

from flickbook.learn.tuning.data.buckets import buckets
from flickbook.learn.tuning.data.dataset import Dataset, TrainingClip
from flickbook.learn.tuning.data.entries import Problem
from flickbook.learn.tuning.data.summary import lines, summary

CLIPS = (
    TrainingClip(Path("a.mp4"), "a red circle, sks style", 40, 16.0, 64, 48),
    TrainingClip(Path("a.mp4"), "sks", 40, 16.0, 64, 48),
    TrainingClip(Path("b.mp4"), "the blue square in sks style", 9, 8.0, 640, 640),
    TrainingClip(Path("c.png"), "a circle", 1, 0.0, 640, 640),
)
#: Clips of one bucket each.
SIZE = {"num_frames": 17, "width": 96, "height": 96, "multiple": 8, "frame_step": 4, "fps": 16.0}


def test_the_report_counts_files_and_captions(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, "pairs", CLIPS, (Problem("d.mp4", "damaged", "skipped"),))
    report = summary(dataset, buckets(CLIPS, **SIZE), 16)
    assert report == json.loads(json.dumps(report))
    assert report == {
        "directory": str(tmp_path),
        "layout": "pairs",
        "clips": 3,
        "videos": 2,
        "pictures": 1,
        "captions": 4,
        "seconds": {"total": 3.625, "median": 1.812},
        "sizes": {"640x640": 2, "64x48": 1},
        "words": {"least": 1, "median": 3.5, "most": 6},
        "frequent_words": {"sks": 3, "circle": 2, "style": 2, "red": 1, "blue": 1, "square": 1},
        "buckets": [
            {"num_frames": 17, "width": 96, "height": 96, "captions": 1},
            {"num_frames": 17, "width": 112, "height": 80, "captions": 2},
            {"num_frames": 1, "width": 96, "height": 96, "captions": 1},
        ],
        "enlarged": {"clips": 1, "factor": 1.75},
        "cropped": 0.048,
        "slow": 1,
        "stills": 0,
        "problems": [{"where": "d.mp4", "reason": "damaged", "rule": "skipped"}],
    }


def test_the_lines_hold_the_facts_and_at_most_20_problems(tmp_path: Path) -> None:
    problems = tuple(Problem(f"{number}.mp4", "damaged", "skipped") for number in range(25))
    report = summary(Dataset(tmp_path, "lists", CLIPS, problems), buckets(CLIPS, **SIZE), 16)
    found = lines(report)
    assert found[:12] == [
        "Layout     lists",
        "Clips      2 videos, 1 picture, 4 captions",
        "Duration   3.6 s in all, 1.8 s the median video",
        "Sizes      640x640 (2), 64x48 (1)",
        "Captions   1 to 6 words, median 3.5",
        "Words      sks (3), circle (2), style (2), red (1), blue (1), square (1)",
        "Buckets    17 frames of 96x96: 1 caption",
        "           17 frames of 112x80: 2 captions",
        "           1 frame of 96x96: 1 caption",
        "Enlarged   1 clip smaller than the bucket, up to 1.75 times",
        "Cropped    up to 5% of a picture",
        "Repeated   frames of 1 video with a lower frame rate than the model's",
    ]
    assert found[12] == "Problems   25"
    assert found[13] == "  0.mp4: damaged: skipped"
    assert found[-2:] == ["  19.mp4: damaged: skipped", "  and 5 more"]


def test_videos_that_are_too_short_for_the_model_are_reported(tmp_path: Path) -> None:
    clips = (TrainingClip(Path("a.mp4"), "sks", 4, 16.0, 96, 96),)
    found = lines(summary(Dataset(tmp_path, "pairs", clips, ()), buckets(clips, **SIZE), 16))
    assert found[-3:] == [
        "Buckets    1 frame of 96x96: 1 caption",
        "Stills     one frame of 1 video is used",
        "Problems   none",
    ]
