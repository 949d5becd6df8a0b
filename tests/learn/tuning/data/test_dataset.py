"""Datasets: what is usable comes back with its facts, and every other clip with the rule that was applied."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.learn.tuning.data.clips import picture, text, video

from flickbook.errors import RequestError
from flickbook.learn.tuning.data.dataset import Dataset, TrainingClip, read


def told(dataset: Dataset) -> list[str]:
    return [str(problem) for problem in dataset.problems]


def test_clips_come_with_their_facts(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", frames=6, width=64, height=48, fps=8)
    picture(tmp_path / "b.png", 30, 50)
    text(tmp_path / "a.txt", "grey becomes lighter")
    text(tmp_path / "b.txt", "black and white")
    counts: list[tuple[int, int]] = []
    found = read(tmp_path, lambda done, total: counts.append((done, total)))
    assert found == Dataset(
        tmp_path,
        "pairs",
        (
            TrainingClip(tmp_path / "a.mp4", "grey becomes lighter", 6, 8.0, 64, 48),
            TrainingClip(tmp_path / "b.png", "black and white", 1, 0.0, 30, 50),
        ),
        (),
    )
    assert counts == [(0, 2), (1, 2), (2, 2)]


def test_bad_clips_are_told_with_what_is_done_about_them(tmp_path: Path) -> None:
    whole = video(tmp_path / "good.mp4", frames=20).read_bytes()
    text(tmp_path / "cut.mp4", whole[: len(whole) // 2])
    text(tmp_path / "cut.png", picture(tmp_path / "still.png").read_bytes()[:-30])
    text(tmp_path / "nothing.mp4", b"")
    text(tmp_path / "old.wmv", b"0&\xb2u\x8ef\xcf\x11")
    video(tmp_path / "short.mp4", frames=1)
    rows = [
        ("good.mp4", "one"),
        ("./good.mp4", "two"),
        ("good.mp4", "one"),
        ("still.png", "  "),
        ("short.mp4", "short"),
        *((name, "bad") for name in ("cut.mp4", "cut.png", "nothing.mp4", "old.wmv", "cut.mp4")),
    ]
    lines = [json.dumps({"file_name": name, "text": caption}) for name, caption in rows]
    text(tmp_path / "metadata.jsonl", "\n".join(lines))
    found = read(tmp_path)
    assert [(clip.path.name, clip.caption, clip.num_frames) for clip in found.clips] == [
        ("good.mp4", "one", 20),
        ("good.mp4", "two", 20),
        ("short.mp4", "short", 1),
    ]
    where = "metadata.jsonl line"
    usual = [problem for problem in told(found) if "cut" not in problem and "old" not in problem]
    assert usual == [
        f"{where} 4, still.png: its caption is empty: skipped",
        f"{where} 5, short.mp4: a video of one frame: used as a picture",
        f"{where} 8, nothing.mp4: empty, 0 bytes; fetch or export it again: skipped",
        f"{where} 3, good.mp4: listed before with the same caption ({where} 1, good.mp4): used once",
        f"{where} 1, good.mp4: has 2 captions: used once with each",
    ]
    # The reasons for the others come from the decoders; each is reported once.
    others = [problem for problem in found.problems if str(problem) not in usual]
    assert [(problem.where.split(", ")[1], problem.rule) for problem in others] == [
        ("cut.mp4", "skipped"),
        ("cut.png", "skipped"),
        ("old.wmv", "skipped"),
    ]


def test_two_caption_files_are_two_captions(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    text(tmp_path / "a.txt", "one")
    text(tmp_path / "a.caption", "two")
    video(tmp_path / "b.mp4")
    text(tmp_path / "b.txt", "same")
    text(tmp_path / "b.caption", "same")
    found = read(tmp_path)
    assert [(clip.path.name, clip.caption) for clip in found.clips] == [
        ("a.mp4", "two"),
        ("a.mp4", "one"),
        ("b.mp4", "same"),
    ]
    assert told(found) == [
        "b.mp4: listed before with the same caption: used once",
        "a.mp4: has 2 captions: used once with each",
    ]


def test_a_directory_without_a_usable_clip_is_refused_with_the_first_problem(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such directory; name the directory of the dataset"):
        read(tmp_path / "gone")
    with pytest.raises(RequestError, match="not a directory"):
        read(text(tmp_path / "file.txt", "x"))
    text(tmp_path / "set/a.mp4", b"")
    text(tmp_path / "set/a.txt", "a caption")
    text(tmp_path / "set/b.mp4", b"")
    with pytest.raises(RequestError) as caught:
        read(tmp_path / "set")
    assert caught.value.field == "dir"
    assert re.fullmatch(
        r"dir=\S+: has no usable clip: b.mp4: has no caption file b.txt or b.caption, and 1 more problem; "
        "correct these, and look again with --check",
        str(caught.value),
    )


def test_a_long_video_is_used_in_part_and_told(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", frames=3)
    text(tmp_path / "a.txt", "long")
    cache = tmp_path / "facts.json"
    read(tmp_path, cache=cache)
    # Encoding a long video would take seconds, so the remembered facts say that it is long.
    document = json.loads(cache.read_text())
    (values,) = document["files"].values()
    values[2] = 5000
    cache.write_text(json.dumps(document))
    assert told(read(tmp_path, cache=cache)) == ["a.mp4: has 5000 frames: its first 4096 frames are used"]
