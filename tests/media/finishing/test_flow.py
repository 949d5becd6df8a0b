"""The motion between two pictures, on pictures whose motion is known."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from flickbook.media.finishing.flow import length, one_thread, warped, ways


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft blotches of colour, (h, w, 3) uint8."""
    noise = np.random.default_rng(seed).random((height, width, 3), np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.asarray(((soft - soft.min()) / np.ptp(soft) * 255).astype(np.uint8))


def disc(x: float, y: float, radius: float = 14, ink: tuple[int, int, int] = (225, 32, 38)) -> np.ndarray:
    """A disc on blue, (128, 128, 3) uint8, its edge soft over a pixel."""
    rows, columns = np.mgrid[:128, :128]
    cover = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
    return np.asarray(((1 - cover) * (30, 60, 150) + cover * ink).round().astype(np.uint8))


@pytest.mark.parametrize("step", [(0, 0), (3, 0), (-2, 5), (7, -4)])
@pytest.mark.parametrize("size", [(96, 128), (256, 256)])
def test_flow_follows_a_shifted_image(step: tuple[int, int], size: tuple[int, int]) -> None:
    whole = texture(size[0] + 20, size[1] + 20)
    x, y = step
    a = whole[10:-10, 10:-10]
    b = whole[10 - y : 10 - y + size[0], 10 - x : 10 - x + size[1]]
    there, back = ways(a, b)
    middle = np.s_[15:-15, 15:-15]
    assert np.median(length(there.flow[middle] - np.float32(step))) < 0.1
    assert np.median(length(back.flow[middle] + np.float32(step))) < 0.1
    assert there.seen[middle].mean() > 0.9 and there.like[middle].mean() > 0.8 and there.unlike < 0.05


def test_flow_sees_colours_of_equal_brightness() -> None:
    """Grey would show nothing: 0.299 R + 0.587 G + 0.114 B is the same in the disc and around it."""
    ink = (118, 36, 43)
    assert abs(float(np.dot(np.array(ink) - (30, 60, 150), (0.299, 0.587, 0.114)))) < 0.1
    there, _ = ways(disc(50, 64, ink=ink), disc(56, 64, ink=ink))
    assert np.abs(there.flow[60:68, 46:54] - (6, 0)).max() < 0.7


@pytest.mark.parametrize("step", [(45, 0), (0, -50), (32, 32), (-60, 10)])
def test_flow_finds_motion_larger_than_the_object(step: tuple[int, int]) -> None:
    begin = np.array([64, 64]) - np.array(step) // 2
    end = begin + step
    there, back = ways(disc(*begin), disc(*end))
    at = np.s_[begin[1] - 8 : begin[1] + 9, begin[0] - 8 : begin[0] + 9]
    assert np.median(length(there.flow[at] - np.float32(step))) < 1
    at = np.s_[end[1] - 8 : end[1] + 9, end[0] - 8 : end[0] + 9]
    assert np.median(length(back.flow[at] + np.float32(step))) < 1


def test_covered_areas_have_low_confidence() -> None:
    ground, foreground = texture(128, 128), texture(40, 40, 1)
    a, b = ground.copy(), ground.copy()
    a[44:84, 20:60], b[44:84, 32:72] = foreground, foreground
    there, back = ways(a, b)
    assert there.seen[50:78, 63:70].mean() < 0.3 < 0.8 < there.seen[50:78, 25:55].mean()
    assert back.seen[50:78, 23:30].mean() < 0.3  # laid bare: seen in the second picture alone
    assert there.seen[:30].mean() > 0.9


def test_unrelated_images_have_low_similarity() -> None:
    same, other = ways(disc(60, 60), disc(66, 60)), ways(disc(60, 60), 255 - texture(128, 128) // 2)
    assert max(way.unlike for way in same) < 0.02
    assert min(way.unlike for way in other) > 0.4


def test_flow_is_independent_of_the_number_of_threads() -> None:
    a, b = texture(200, 300), texture(200, 300, 1)
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            found.append(ways(a, b)[0].flow)
            assert cv2.getNumThreads() == threads
        assert np.array_equal(*found)
        with pytest.raises(ZeroDivisionError), one_thread():
            assert cv2.getNumThreads() == 1
            raise ZeroDivisionError
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_warping_samples_along_the_flow() -> None:
    ramp = np.tile(np.arange(20, dtype=np.float32), (10, 1))
    flow = np.full((10, 20, 2), (2.5, 0), np.float32)
    assert np.allclose(warped(ramp, flow)[:, :17], ramp[:, :17] + 2.5)
    assert np.allclose(warped(ramp, flow)[:, 18:], 19)


def test_without_opencv_the_error_names_the_package() -> None:
    program = """
import sys
sys.modules["cv2"] = None
import numpy as np
from flickbook.errors import MissingExtra
from flickbook.media.finishing.interpolate import interpolate
try:
    interpolate(np.zeros((2, 8, 8, 3), np.uint8), 2)
except MissingExtra as error:
    print(error, "torch" in sys.modules)
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == 'opencv-python-headless: not installed; run `pip install "flickbook[finish]"` False\n'
