"""`flickbook generate --image / --video`: films that begin from something, and what is refused instead."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Command

from flickbook.media.clip import Clip
from flickbook.media.inspect import read_recipe
from flickbook.media.read import read_picture, read_video

PROMPT = "a red circle moving left on a blue background"
SHORT = ("--num-inference-steps", "4", "--seed", "3")


@pytest.fixture
def picture(work: Path) -> Path:
    """A photograph's size: 300x200, a red disc right of the middle."""
    yy, xx = np.mgrid[:200, :300]
    frame = np.full((200, 300, 3), (30, 60, 150), np.uint8)
    frame[(yy - 100) ** 2 + (xx - 190) ** 2 < 35**2] = (225, 32, 38)
    path = work / "photo.jpg"
    Image.fromarray(frame).save(path, quality=95)
    return path


@pytest.mark.slow
@pytest.mark.model
def test_a_film_begins_with_the_input_image(command: Command, picture: Path, work: Path) -> None:
    words = (PROMPT, "--image", picture.name, "--strength", "0.6", "--num-frames", "4", "--output", "film.mp4")
    done = command("generate", *words, *SHORT)
    assert done.returncode == 0, done.stderr
    frames, _ = read_video(work / "film.mp4")
    red = (frames[0].astype(int) - (225, 32, 38)).__abs__().max(-1) < 60
    assert frames.shape == (4, 128, 128, 3) and red.any()
    columns = np.nonzero(red)[1]
    # In the middle square of the photograph the disc stands at (190 - 50) / 200 of its width.
    assert abs(columns.mean() - 128 * 0.7) < 4
    recipe = read_recipe(work / "film.mp4")
    assert len(recipe.plan.image) == 64 and recipe.plan.strength == 0.6


@pytest.mark.slow
@pytest.mark.model
def test_an_image_is_made_from_an_input_image(command: Command, picture: Path, work: Path) -> None:
    done = command("generate", PROMPT, "--image", picture.name, "--strength", "0.5", "--output", "new.png", *SHORT)
    assert done.returncode == 0, done.stderr
    assert read_picture(work / "new.png").shape == (128, 128, 3)


@pytest.mark.slow
@pytest.mark.model
def test_an_input_video_sets_the_number_of_frames(command: Command, work: Path) -> None:
    Clip(np.zeros((6, 64, 96, 3), np.uint8), 16.0).save(work / "short.mp4")
    done = command("generate", PROMPT, "--video", "short.mp4", "--output", "film.mp4", *SHORT)
    assert done.returncode == 0, done.stderr
    frames, fps = read_video(work / "film.mp4")
    assert frames.shape == (3, 128, 128, 3) and fps == 8.0


@pytest.mark.slow
@pytest.mark.model
def test_a_numbered_sequence_is_a_video_and_the_film_can_be_reproduced(command: Command, work: Path) -> None:
    (work / "frames").mkdir()
    for number in range(1, 4):
        Image.new("RGB", (64, 64), (30, 60, 150)).save(work / "frames" / f"{number:05d}.png")
    done = command("generate", PROMPT, "--video", "frames/%05d.png", "--output", "film.mp4", *SHORT)
    assert done.returncode == 0, done.stderr
    assert read_video(work / "film.mp4")[0].shape == (3, 128, 128, 3)
    assert command("reproduce", "film.mp4").returncode == 0
    (work / "frames" / "00002.png").unlink()
    gap = command("generate", PROMPT, "--video", "frames/%05d.png", "--output", "other.mp4", *SHORT)
    assert gap.returncode == 2 and "00002.png is missing" in gap.stderr and not (work / "other.mp4").exists()


def bomb(side: int) -> bytes:
    """A PNG that says it is side x side and unpacks to nothing but zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "name", "content", "message"),
    [
        ("--image", "bomb.png", bomb(30_000), "900000000 pixels"),
        ("--image", "words.png", b"not a picture", "words.png"),
        ("--image", "cut.png", bomb(64)[:40], "cut.png"),
        ("--image", "missing.png", None, "No such file"),
        ("--video", "words.mp4", b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", "words.mp4"),
        ("--video", "text.mp4", b"to be or not to be\n" * 100, "text.mp4"),
        ("--video", "empty.mp4", b"", "empty.mp4"),
        ("--lora", "words.safetensors", b"not a LoRA", "words.safetensors"),
        ("--lora", "pickle.safetensors", b"\x80\x04\x95\x10\x00\x00\x00", "pickle.safetensors"),
        ("--lora", "missing.safetensors", None, "missing.safetensors"),
    ],
)
def test_an_unreadable_input_is_refused_and_nothing_is_written(
    command: Command, work: Path, option: str, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (work / name).write_bytes(content)
    before = sorted(work.iterdir())
    done = command("generate", PROMPT, option, name, "--output", "film.mp4")
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and message in done.stderr and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("note: ")]) == 1
    assert sorted(work.iterdir()) == before


def test_a_model_without_image_input_is_refused_with_alternatives(command: Command, picture: Path) -> None:
    done = command("generate", PROMPT, "--image", picture.name, "--model", "mochi")
    assert done.returncode == 2
    assert "mochi starts from text" in done.stderr and "builtin" in done.stderr
