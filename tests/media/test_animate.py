"""Films and pictures through Pillow: every frame, its time, its colours and what it says of itself come back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flickbook.errors import OutputError, RequestError
from flickbook.formats import encoding
from flickbook.media.animate import durations, exif, palette
from flickbook.media.read import read_picture, read_video
from flickbook.media.write import MAX_COMMENT_BYTES, MAX_JPEG_COMMENT_BYTES, write

MOVING = ("gif", "webp", "apng")
STILL = ("png", "jpg", "webp", "avif", "gif", "apng")


def soft(frames: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    """A soft diagonal ramp that moves, (frames, height, width, 3) uint8."""
    t, y, x = np.ogrid[:frames, :height, :width]
    planes = [x * 2 + 0 * (t + y), y * 3 + t * 2 + 0 * x, 200 - x - t * 4 + 0 * y]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def noise(frames: int = 4, height: int = 33, width: int = 35) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def shown(path: Path) -> tuple[np.ndarray, list[float]]:
    """The frames as a viewer composes them, and how long each is shown in milliseconds."""
    with Image.open(path) as image:
        frames, times = [], []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
            times.append(image.info.get("duration", 0))
        return np.stack(frames), times


@pytest.mark.parametrize("container", MOVING)
@pytest.mark.parametrize("size", [(48, 64), (33, 35), (1, 1)])
def test_every_frame_is_close_to_the_source(tmp_path: Path, container: str, size: tuple[int, int]) -> None:
    frames = soft(6, *size)
    write(tmp_path / f"film.{container}", frames, 8)
    back, _ = shown(tmp_path / f"film.{container}")
    assert back.shape == frames.shape
    assert all(psnr(*pair) > 33 for pair in zip(back, frames, strict=True))


@pytest.mark.parametrize("container", MOVING)
@pytest.mark.parametrize("fps", [8, 7.5, 24, 30, 50, 0.5])
def test_frame_durations_add_up(tmp_path: Path, container: str, fps: float) -> None:
    write(tmp_path / f"film.{container}", soft(30, 8, 8), fps)
    _, times = shown(tmp_path / f"film.{container}")
    unit = 10 if container == "gif" else 1
    assert abs(sum(times) - 30_000 / fps) <= unit / 2
    assert all(abs(time - 1000 / fps) < unit for time in times) and min(times) >= 20


@given(count=st.integers(1, 300), fps=st.floats(0.1, 50), unit=st.sampled_from([1, 10]))
def test_frame_durations_keep_every_frame_near_its_time(count: int, fps: float, unit: int) -> None:
    times = durations(count, Fraction(fps), unit)
    assert len(times) == count and all(time > 0 and time % unit == 0 for time in times)
    ends = np.cumsum(times)
    assert np.abs(ends - 1000 * np.arange(1, count + 1) / fps).max() <= unit / 2 + 1e-6


@pytest.mark.parametrize("container", MOVING)
def test_repeated_frames_are_kept(tmp_path: Path, container: str) -> None:
    frames = np.concatenate([soft(1)] * 3 + [noise(1, 48, 64)] * 2 + [soft(1)])
    write(tmp_path / f"film.{container}", frames, 8, encoding=encoding(container))  # type: ignore[arg-type]
    back, times = shown(tmp_path / f"film.{container}")
    assert len(back) == 6 and np.array_equal(back[0], back[2]) and np.array_equal(back[3], back[4])
    assert psnr(back[5], frames[5]) > 30, "nothing of the noise shines through"
    assert abs(sum(times) - 750) <= 5


@pytest.mark.parametrize(("container", "quality"), [("webp", "lossless"), ("apng", None)])
@pytest.mark.parametrize("count", [1, 4])
def test_lossless_formats_keep_every_bit(tmp_path: Path, container: Any, quality: Any, count: int) -> None:
    path = tmp_path / f"film.{container}"
    write(path, noise(count), 8, encoding=encoding(container, None, quality))
    assert np.array_equal(shown(path)[0], noise(count))


def test_a_gif_of_few_colours_is_lossless(tmp_path: Path) -> None:
    colours = noise(1, 1, 255).reshape(255, 3)
    frames = colours[np.random.default_rng(1).integers(0, 255, (5, 40, 40))]
    write(tmp_path / "film.gif", frames, 8)
    back = shown(tmp_path / "film.gif")[0]
    assert psnr(back, frames) > 35


def test_a_gif_has_one_palette_and_still_areas_do_not_flicker(tmp_path: Path) -> None:
    frames = np.concatenate([soft(1)] * 8)
    frames[:, 20:28, 20:28] = noise(8, 8, 8)  # a noisy patch would move the colours of a palette for each frame
    write(tmp_path / "film.gif", frames, 8)
    back, _ = shown(tmp_path / "film.gif")
    still = np.ones(back.shape[1:3], bool)
    still[20:28, 20:28] = False
    assert (back[:, still] == back[0, still]).all()
    assert (tmp_path / "film.gif").read_bytes().count(b"!\xf9\x04") == 8
    alone = np.concatenate([soft(1)] * 2)
    write(tmp_path / "still.gif", alone, 8)
    write(tmp_path / "one.gif", alone[:1], 8)
    grown = (tmp_path / "still.gif").stat().st_size - (tmp_path / "one.gif").stat().st_size
    assert grown < 64, "a frame holds only what changed"


def test_the_palette_is_better_than_an_octree() -> None:
    frames = soft(8, 96, 128)
    colours, table = palette(frames, 255)
    ours = np.stack([colours[table.of(frame)] for frame in frames])
    tall = Image.fromarray(frames.reshape(-1, 128, 3))
    octree = np.asarray(tall.quantize(255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB"))
    assert len(colours) <= 255
    assert psnr(ours, frames) > psnr(octree.reshape(frames.shape), frames) + 5, "without its moves it gains 4.5 dB"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 255), st.integers(2, 255))
def test_any_film_has_a_palette(count: int, height: int, width: int, high: int, colours: int) -> None:
    frames = np.random.default_rng(high).integers(0, high + 1, (count, height, width, 3), dtype=np.uint8)
    found, table = palette(frames, colours)
    assert 1 <= len(found) <= colours and found.dtype == np.uint8
    assert all(table.of(frame).max() < len(found) for frame in frames)


@pytest.mark.parametrize("container", STILL)
def test_images_are_close_to_the_source(tmp_path: Path, container: str) -> None:
    frame = soft(1)
    write(tmp_path / f"still.{container}", frame, 8)
    back, _ = shown(tmp_path / f"still.{container}")
    assert back.shape == frame.shape and psnr(back, frame) > 33


@pytest.mark.parametrize(("container", "pixel_format"), [("jpg", "yuv420p"), ("jpg", "yuv422p"), ("avif", "yuv420p")])
def test_chroma_subsampling_is_used_on_request(tmp_path: Path, container: Any, pixel_format: str) -> None:
    frame = np.zeros((1, 32, 32, 3), np.uint8)
    frame[:, :, ::2] = (255, 0, 0)
    path = tmp_path / f"still.{container}"
    write(path, frame, 8)
    full = psnr(shown(path)[0], frame)
    write(path, frame, 8, encoding=encoding(container, None, None, pixel_format), overwrite=True)
    assert psnr(shown(path)[0], frame) < full - 6


@pytest.mark.parametrize("container", ["gif", "webp", "jpg", "avif"])
def test_more_quality_is_closer(tmp_path: Path, container: Any) -> None:
    frames = soft(1, 96, 128)
    likeness = []
    for quality in (0, 50, 100):
        path = tmp_path / f"{quality}.{container}"
        write(path, frames, 8, encoding=encoding(container, None, quality))
        likeness.append(psnr(shown(path)[0], frames))
    assert likeness == sorted(likeness) and likeness[2] > likeness[0] + 6


@pytest.mark.parametrize("container", ["gif", "webp", "apng", "png", "jpg", "avif"])
def test_equal_frames_are_equal_files(tmp_path: Path, container: str) -> None:
    frames = noise(4 if container in MOVING else 1, 96, 128)
    write(tmp_path / f"a.{container}", frames, 8, "x")
    write(tmp_path / f"other.{container}", np.asfortranarray(frames), 8, "x")
    assert (tmp_path / f"a.{container}").read_bytes() == (tmp_path / f"other.{container}").read_bytes()


def test_numbered_frames_are_lossless_and_the_first_has_the_comment(tmp_path: Path) -> None:
    frames = noise(12)
    write(tmp_path / "shots" / "shot-%04d.png", frames, 8, '{"a":1}')
    paths = sorted((tmp_path / "shots").iterdir())
    assert [path.name for path in paths] == [f"shot-{number:04d}.png" for number in range(1, 13)]
    assert all(np.array_equal(read_picture(path), frame) for path, frame in zip(paths, frames, strict=True))
    with Image.open(paths[0]) as first, Image.open(paths[1]) as second:
        assert first.text == {"comment": '{"a":1}'} and second.text == {}


def test_numbered_frames_appear_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "shot-3.png").write_text("precious")
    with pytest.raises(OutputError, match=r"shot-3\.png: exists already"):
        write(tmp_path / "shot-%d.png", noise(4), 8)
    assert [path.name for path in tmp_path.iterdir()] == ["shot-3.png"]
    write(tmp_path / "shot-%d.png", noise(4), 8, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("container", ["gif", "webp"])
def test_a_rate_that_players_would_slow_down_is_refused(tmp_path: Path, container: str) -> None:
    with pytest.raises(RequestError, match="^fps=60"):
        write(tmp_path / "new" / f"film.{container}", soft(), 60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["film.webp", "still.webp", "still.jpg", "still.avif"])
def test_the_comment_is_in_the_exif_description(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, soft(4 if name.startswith("film") else 1), 8, '{"seed":7}')
    with Image.open(tmp_path / name) as image:
        assert image.getexif()[0x010E] == '{"seed":7}'


def test_a_gif_has_a_comment_block(tmp_path: Path) -> None:
    text = "x" * 600  # of more than one block
    write(tmp_path / "film.gif", soft(), 8, text)
    with Image.open(tmp_path / "film.gif") as image:
        assert image.info["comment"] == text.encode() and image.info["loop"] == 0


@pytest.mark.parametrize("text", ["", "a", "abc", "abcd", "abcde", "❄" * 50])
def test_pillow_reads_the_exif_block(text: str) -> None:
    if not text:
        assert exif(text) == exif(None) == b""
        return
    read = Image.Exif()
    read.load(b"Exif\0\0" + exif(text))
    assert read[0x010E].encode("latin-1").decode() == text and len(read) == 1


def test_a_comment_that_a_jpeg_cannot_hold_is_refused_before_writing(tmp_path: Path) -> None:
    write(tmp_path / "still.jpg", soft(1), 8, "x" * MAX_JPEG_COMMENT_BYTES)
    with Image.open(tmp_path / "still.jpg") as image:
        assert len(image.getexif()[0x010E]) == MAX_JPEG_COMMENT_BYTES
    with pytest.raises(OutputError, match=r"in jpg be at most 65500 bytes.*\.png"):
        write(tmp_path / "new" / "still.jpg", soft(1), 8, "x" * (MAX_JPEG_COMMENT_BYTES + 1))
    with pytest.raises(OutputError, match="comment"):
        write(tmp_path / "new" / "still.webp", soft(1), 8, "x" * (MAX_COMMENT_BYTES + 1))
    assert [path.name for path in tmp_path.iterdir()] == ["still.jpg"]


def test_animations_are_read_back(tmp_path: Path) -> None:
    for container in ("gif", "webp"):
        write(tmp_path / f"film.{container}", soft(8), 8)
        frames, fps = read_video(tmp_path / f"film.{container}")
        assert frames.shape == soft(8).shape and fps == pytest.approx(8)
