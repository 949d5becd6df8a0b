"""Every side on the built-in model for four steps: the exact ones agree, the others say how far off they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from bench import growth, roofline, warm
from bench.rivals import ours, pab, stock, tuned
from bench.subject import Subject, best_threads, likeness, using

from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.text_to_video import TextToVideo


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    # Four steps: where their number does not divide 1000, the library's DDIM steps to other timesteps than it visits.
    directory = warm.comparable(tmp_path_factory.mktemp("comparable"))
    return Subject.of(directory, warm.PROMPT, warm.SEED, 4, warm.GUIDANCE, (4, 64, 64))


@pytest.mark.slow
def test_exact_sides_agree_and_the_hook_leaves_nothing_behind(subject: Subject) -> None:
    pipeline = stock.pipeline_of(subject)
    reference = stock.side(subject, pipeline).make()
    assert reference.shape == (4, 64, 64, 3)
    (mine,) = ours.sides(subject, torch.float32)
    assert likeness(mine.make(), reference)["psnr"] >= 60
    cached = pab.side(subject, pipeline)
    assert cached.lossy and likeness(cached.make(), reference)["psnr"] < 60
    assert likeness(stock.side(subject, pipeline).make(), reference) == {"psnr": 99.0, "ssim": 1.0}


@pytest.mark.slow
def test_in_bf16_both_are_near(subject: Subject) -> None:
    reference = stock.side(subject, stock.pipeline_of(subject)).make()
    for side in (*ours.sides(subject, torch.bfloat16), tuned.side(subject, tuned.pipeline_of(subject))):
        assert side.dtype == "bf16" and likeness(side.make(), reference)["psnr"] >= 30


@pytest.mark.slow
def test_turbo_runs_the_student_in_its_own_steps(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, turbo = ours.sides(Subject(**{**vars(subject), "steps": 2}), torch.float32, ("exact", "turbo"))
    steps: list[int] = []
    denoise = TextToVideo.denoise

    def counted(networks: TextToVideo, state: SamplerState, *rest: Any, **named: Any) -> Any:
        steps.append(state.total)
        return denoise(networks, state, *rest, **named)

    monkeypatch.setattr(TextToVideo, "denoise", counted)
    assert likeness(turbo.make(), exact.make())["psnr"] < 60 and turbo.lossy
    assert steps == [4, 2]


def test_steps_alone_are_compared_by_their_latents(subject: Subject) -> None:
    steps = Subject(**{**vars(subject), "whole": False})
    reference = stock.side(steps, stock.pipeline_of(subject)).make()
    (mine,) = ours.sides(steps, torch.float32)
    assert reference.shape == subject.latents.shape
    assert (
        likeness(mine.make(), reference)["error"] < 5e-3
    )  # three steps over all of the noise enlarge what one step rounds


@pytest.mark.slow
def test_operations_grow_as_they_must(subject: Subject) -> None:
    """Twice the frames are twice the work, nearly; four times the pixels somewhat more than that."""
    one, two, four = (
        roofline.operations(subject.directory, shape, 48)["step"]
        for shape in ((8, 8, 8, 8), (8, 16, 8, 8), (8, 8, 16, 16))
    )
    assert 1.95 < two / one < 2.1 and 3.9 < four / one < 4.6
    work = roofline.operations(subject.directory, (8, 16, 8, 8), 48)
    assert 0.8 < work["step, ours"] / work["step"] < 1


def test_peaks_are_rates() -> None:
    peaks = roofline.peaks(64, 2**16)
    assert set(peaks) >= {"matmul fp32, PyTorch's default", "matmul bf16, PyTorch's default", "copy, GB/s"}
    assert all(value > 0 for value in peaks.values())


def test_sizes_stand_once_and_the_base_first() -> None:
    assert growth.sizes((8, 16), (128, 256)) == [(16, 128, 128), (8, 128, 128), (16, 256, 256)]


def test_threads_are_what_they_were() -> None:
    before, seen = torch.get_num_threads(), []
    ticks: Iterator[int] = iter(range(1000))
    found = best_threads(lambda: seen.append(torch.get_num_threads()), (1, 2), lambda: float(next(ticks)), 2)
    assert set(seen) == {1, 2} and set(found) == {1, 2} and torch.get_num_threads() == before
    with using(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
