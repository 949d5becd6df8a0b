"""The window as somebody uses it: typed into, looked at, closed in the middle of a film."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import psutil
import pytest
from tests.desktop.conftest import Screen, only, seen, shown, until

from flickbook.jobs.backend import Backend
from flickbook.media.read import read_video

PROMPT = "a red circle moving left on a blue background"


def ask(screen: Screen, frames: int, steps: int) -> None:
    """Say what it shows and how much of it, by the keyboard alone."""
    screen.type(PROMPT)
    screen.press("Tab", "Tab")
    screen.type(str(frames))
    screen.press("Tab")
    screen.type(str(steps))
    screen.press("Return")


def under_way(backend: Backend) -> bool:
    """Whether the one job is in the middle of its steps."""
    job = only(backend)
    progress = {} if job is None else backend.artifacts.progress(job.id)
    return (
        job is not None
        and job.state == "running"
        and progress.get("phase") == "denoise"
        and progress.get("index", 0) > 1
    )


def state(backend: Backend) -> str:
    job = only(backend)
    return "" if job is None else job.state


@pytest.mark.slow
@pytest.mark.model
def test_what_is_typed_becomes_a_film_that_is_seen(display: str, backend: Backend) -> None:
    with shown(display) as screen:
        ask(screen, 4, 8)
        job: Any = until(lambda: (job := only(backend)) is not None and job.state == "completed" and job)
        assert (job.plan.prompt, job.plan.num_frames, job.plan.num_inference_steps) == (PROMPT, 4, 8)
        frames, _ = read_video(job.result.path)
        # The background is most of the film, and its colour nowhere in an empty window.
        colour = np.median(frames.reshape(-1, 3), axis=0)
        assert colour[2] > colour[0]
        until(lambda: seen(screen.grab(), colour) > 0.05)
        assert not [each.path for each in psutil.Process(screen.process.pid).memory_maps() if "libtorch" in each.path]
        screen.press("ctrl+q")
        assert screen.end() == (0, "")


@pytest.mark.slow
@pytest.mark.model
def test_escape_cancels(display: str, backend: Backend) -> None:
    with shown(display) as screen:
        ask(screen, 16, 100)
        until(lambda: under_way(backend))
        screen.press("Escape")
        until(lambda: state(backend) == "cancelled")
        screen.press("ctrl+q")
        assert screen.end() == (0, "")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("way", ["key", "signal", "killed"])
def test_closed_during_a_run_it_goes_on_at_the_next_start(way: str, display: str, backend: Backend) -> None:
    with shown(display) as screen:
        ask(screen, 4, 100)
        until(lambda: under_way(backend))
        if way == "key":
            screen.press("ctrl+w")
        else:
            screen.process.send_signal(signal.SIGINT if way == "signal" else signal.SIGKILL)
        assert screen.end() == (-9 if way == "killed" else 0, "")
    until(lambda: state(backend) == "queued")  # one that was killed leaves that to its worker
    job = only(backend)
    assert job is not None and (job.stalls, job.worker) == (0, "")
    assert backend.artifacts.checkpoint(job.id).exists()
    with shown(display) as screen:
        until(lambda: state(backend) == "running")
        until(lambda: state(backend) == "completed")
        screen.press("ctrl+q")
        assert screen.end() == (0, "")
    done = only(backend)
    assert done is not None and done.result is not None and done.result.sidecar.run is not None
    assert any("resumed from step" in note for note in done.result.sidecar.run.notes)
