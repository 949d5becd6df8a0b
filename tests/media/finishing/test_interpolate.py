"""Frames between frames, measured on films whose missing frames are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from flickbook.errors import RequestError
from flickbook.media.finishing.interpolate import interpolate, is_cut, landed
from flickbook.media.finishing.rife import IFNet
from flickbook.world import render as renderer
from flickbook.world.render import render
from flickbook.world.scenes import sample

SEEDS = 900_000_000  # beyond those of training


def film(seed: int, group: str = "core") -> np.ndarray:
    return render(sample(SEEDS + seed, group))


def psnr(made: np.ndarray, truth: np.ndarray) -> float:
    error = np.mean((made.astype(np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def gains(films: Iterable[np.ndarray]) -> np.ndarray:
    """Of each film without every second frame, the PSNR of these: repeated, blended, interpolated; (n, 3) in dB."""
    rows = []
    for frames in films:
        last = (len(frames) - 1) // 2 * 2
        kept, truth = frames[: last + 1 : 2], frames[1:last:2]
        blend = ((kept[:-1].astype(np.uint16) + kept[1:] + 1) // 2).astype(np.uint8)
        made = interpolate(kept, 2)
        assert np.array_equal(made[::2], kept)
        rows.append([psnr(each, truth) for each in (kept[:-1], blend, made[1:-1:2])])
    return np.array(rows)


def place(picture: np.ndarray, ground: Iterable[int] = (30, 60, 150)) -> np.ndarray:
    """x and y of the middle of what is not `ground`."""
    weight = np.abs(picture.astype(np.float64) - tuple(ground)).sum(2)
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def disc(x: float, y: float) -> np.ndarray:
    rows, columns = np.mgrid[:128, :128]
    cover = np.clip(16.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
    return np.asarray(((1 - cover) * (30, 60, 150) + cover * (250, 215, 30)).round().astype(np.uint8))


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_interpolation_keeps_the_frames_and_the_duration(factor: int) -> None:
    frames = film(1)[:3]
    made = interpolate(frames, factor)
    assert made.shape == (3 * factor, 128, 128, 3) and made.dtype == np.uint8
    assert np.array_equal(made[::factor], frames)
    assert all(np.array_equal(each, frames[-1]) for each in made[-factor:])
    assert not any(np.array_equal(made[1], each) for each in frames)


@pytest.mark.slow
def test_interpolation_is_better_than_repeating_and_blending() -> None:
    found = gains(film(seed) for seed in range(6))
    assert (found[:, 2] > found[:, 1]).all()
    assert found[:, 2].mean() - found[:, 1].mean() > 8 and found[:, 2].mean() - found[:, 0].mean() > 11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "films", "over_blend", "over_repeat"),
    [
        ("core", 18, 10, 13),
        ("views", 8, 6.5, 9.5),
        *(pytest.param(*each, marks=pytest.mark.trial) for each in (("core", 54, 10, 13), ("views", 24, 6.5, 9.5))),
    ],
)
def test_interpolation_is_much_better_on_many_films(
    group: str, films: int, over_blend: float, over_repeat: float
) -> None:
    found = gains(film(seed, group) for seed in range(films))
    repeated, blended, made = found.mean(0)
    assert made - blended > over_blend and made - repeated > over_repeat
    assert (found[:, 2] > found[:, 1]).mean() > 0.95


@pytest.mark.trial
def test_interpolation_is_better_at_the_native_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world drawn with 31 frames: every second one is what the film of 16 shows."""
    scenes = [sample(SEEDS + seed, "core") for seed in range(54)]
    monkeypatch.setattr(renderer, "FRAMES", 31)
    found = gains(render(scene) for scene in scenes)
    repeated, blended, made = found.mean(0)
    assert made - blended > 9.5 and made - repeated > 13


def test_two_runs_are_equal_with_any_number_of_threads() -> None:
    frames, threads = film(3, "views")[:4], cv2.getNumThreads()
    once = interpolate(frames, 2)
    try:
        cv2.setNumThreads(5)
        assert np.array_equal(once, interpolate(frames, 2))
    finally:
        cv2.setNumThreads(threads)


def test_a_moving_disc_is_placed_between_frames() -> None:
    frames = np.stack([disc(30, 50), disc(42, 56), disc(54, 62)])
    made = interpolate(frames, 3)
    for step in range(7):
        assert np.abs(place(made[step]) - (30 + 4 * step, 50 + 2 * step)).max() < 0.4
        assert psnr(made[step], disc(30 + 4 * step, 50 + 2 * step)) > 35


def test_a_curved_path_is_followed() -> None:
    def at(time: float) -> tuple[float, float]:
        return 64 + 30 * np.cos(0.7 * time), 64 + 30 * np.sin(0.7 * time)

    made = interpolate(np.stack([disc(*at(time)) for time in range(4)]), 2)
    straight = (np.array(at(1)) + at(2)) / 2
    assert np.linalg.norm(straight - at(1.5)) > 1.5  # what a straight line would miss it by
    assert np.linalg.norm(place(made[3]) - at(1.5)) < 0.5


def test_a_foreground_object_leaves_no_ghost_or_hole() -> None:
    noise = np.random.default_rng(0).random((2, 128, 128, 3), np.float32)
    ground, foreground = (np.asarray(cv2.GaussianBlur(each, (0, 0), 2.0) - 0.5) * 4 + 0.5 for each in noise)
    ground, foreground = ((each.clip(0, 1) * 255).astype(np.uint8) for each in (ground, foreground))

    def at(x: int) -> np.ndarray:
        picture = ground.copy()
        picture[44:84, x : x + 40] = foreground[:40, :40]
        return picture

    frames = np.stack([at(30), at(42)])
    made = interpolate(frames, 2)[1]
    blend = frames.mean(0).round().astype(np.uint8)
    assert psnr(made, at(36)) > 33 > 26 > psnr(blend, at(36))
    for side in (np.s_[44:84, 30:36], np.s_[44:84, 76:82]):  # seen in the second frame alone, and in the first
        assert psnr(made[side], at(36)[side]) > max(19.5, psnr(blend[side], at(36)[side]) + 1)
    assert np.array_equal(made[:30], ground[:30])


def test_a_cut_is_kept_and_both_sides_are_interpolated() -> None:
    first, second = film(0)[:3], film(4, "views")[:3]
    made = interpolate(np.concatenate([first, second]), 3)
    assert all(np.array_equal(each, first[-1]) for each in made[6:9])
    assert np.array_equal(made[:6], interpolate(first, 3)[:6])
    assert np.array_equal(made[9:], interpolate(second, 3))


def test_cuts_are_detected_between_films_only() -> None:
    scenes = [film(seed, "views")[:9:4] for seed in range(12)]
    assert not any(is_cut(a, b) for frames in scenes for a, b in zip(frames[:-1], frames[1:], strict=True))
    kinds = {sample(SEEDS + seed, "views").kind: scenes[seed][0] for seed in range(12)}
    pictures = list(kinds.values())
    assert len(pictures) > 3
    assert all(is_cut(a, b) for a in pictures for b in pictures if a is not b)
    assert not is_cut(pictures[0], np.roll(pictures[0], 30, axis=1))  # a pan shows other pixels in the same colours


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (7, 5), (200, 3), (65, 127)])
def test_every_size_can_be_interpolated(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(100, 130, (3, *size, 3), np.uint8)
    made = interpolate(frames, 2)
    assert np.array_equal(made[::2], frames)
    assert made.min() >= frames.min() and made.max() <= frames.max()


def test_a_still_film_stays_still() -> None:
    frames = np.repeat(film(2)[:1], 3, axis=0)
    assert np.array_equal(interpolate(frames, 4), np.repeat(frames, 4, axis=0))


def test_splatted_pixels_are_shared_by_four_neighbours() -> None:
    ends = np.array([[[0.25, 0.5], [1, 0], [5, 0]], [[0, 1], [1, 1], [-1, 1]]], np.float32)  # two of them leave
    sums = landed(ends, np.full((2, 3, 1), 10, np.float32), np.ones((2, 3), np.float32))
    assert np.allclose(sums[0], [[0.375, 1.125, 0], [1.375, 1.125, 0]])
    assert np.allclose(sums[1], 10 * sums[0])


@pytest.mark.parametrize("factor", [1, 0, 9, 2.0, True, "2"])
def test_other_factors_are_refused(factor: object) -> None:
    with pytest.raises(RequestError, match="factor=.*whole, 2 to 8"):
        interpolate(np.zeros((2, 8, 8, 3), np.uint8), factor)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8), np.uint8), [[1]]],
)
def test_other_frames_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(RequestError, match="frames="):
        interpolate(frames, 2)


def test_a_network_keeps_frames_and_cuts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "rife.safetensors"
    save_file(IFNet().state_dict(), path)
    frames = np.concatenate([film(0)[:2], film(4, "views")[:2]])
    made = interpolate(frames, 3, model=path)
    assert np.array_equal(made[::3], frames) and not np.array_equal(made[1], frames[0])
    assert np.array_equal(made[3:6], np.repeat(frames[1:2], 3, axis=0))  # the cut
    assert not np.array_equal(made[7], made[6]) and np.array_equal(made[9:], np.repeat(frames[3:], 3, axis=0))
    assert np.array_equal(made, interpolate(frames, 3, model=str(path)))
