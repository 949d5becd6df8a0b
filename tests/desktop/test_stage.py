"""The texts about a job on the stage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flickbook.desktop.sources.source import Entry
from flickbook.desktop.stage import Pace, buttons, duration, left, message, progress
from flickbook.resolution import resolve
from flickbook.spec import Request

RUNNING = Entry("job_0", "film", "running", resolve(Request.of(prompt="a red circle", seed=7)), 0.0, phase="denoise")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (12.4, "12 s"), (89, "89 s"), (200, "3 min"), (4800, "80 min"), (7260, "2 h 1 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert left(seconds) == ("nearly done" if seconds < 1 else f"about {text} left")


def test_where_it_is() -> None:
    assert progress(replace(RUNNING, index=3, total=25), 12.0) == "Denoising, step 3 of 25 · about 12 s left"
    assert progress(replace(RUNNING, phase="load")) == "Loading the model"
    assert progress(replace(RUNNING, kind="tune", phase="train", index=10, total=400)) == "Training, update 10 of 400"
    assert progress(replace(RUNNING, kind="tune", phase="encode", index=1, total=6)) == "Reading the clips, 1 of 6"
    assert progress(replace(RUNNING, stopping="cancel"), 12.0) == "Stopping"
    assert progress(replace(RUNNING, stopping="pause"), 12.0) == "Pausing"
    waiting = replace(RUNNING, state="queued", phase="")
    assert progress(waiting) == "Waiting in the queue"
    pulling = replace(waiting, phase="pull", index=1_200_000_000, total=3_400_000_000)
    assert progress(pulling) == "Downloading builtin: 1.20 of 3.40 GB"


def test_what_became_of_it() -> None:
    assert message(RUNNING) == "" and message(replace(RUNNING, state="completed", made=True)) == ""
    assert message(replace(RUNNING, state="failed", error="out of luck")) == "out of luck"
    paused = replace(RUNNING, state="paused")
    assert message(paused) == "Paused"
    assert message(replace(paused, by_command=True)) == "Paused; `flickbook jobs resume job_0` to resume"


def test_what_is_offered_for_it() -> None:
    paused = replace(RUNNING, state="paused")
    assert buttons(RUNNING, local=True) == ()
    assert buttons(paused, local=False) == ("resume", "cancel", "again")
    # Its command runs it, and nothing that the window could ask.
    assert buttons(replace(paused, by_command=True), local=True) == ("cancel", "again")
    assert buttons(replace(RUNNING, state="cancelled"), local=True) == ("again",)
    made = replace(RUNNING, state="completed", made=True)
    assert [buttons(made, local) for local in (True, False)] == [("save", "folder", "again"), ("save", "again")]


def test_the_time_left_of_one_without_its_like_is_told_from_what_is_seen() -> None:
    pace = Pace()
    assert pace.left(replace(RUNNING, fraction=0.1)) is None
    assert pace.left(replace(RUNNING, fraction=0.15)) is None
    assert pace.left(replace(RUNNING, fraction=0.5)) is not None
    assert pace.left(replace(RUNNING, fraction=0.5, eta=3.0)) == 3.0
    # How long it was paused says nothing of its speed.
    assert pace.left(replace(RUNNING, state="paused")) is None
    assert pace.left(replace(RUNNING, fraction=0.5)) is None
