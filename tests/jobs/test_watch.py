"""What is told of a run while it goes: where it is, and what emerges as far as there is time for it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image
from tests.jobs.conftest import Small

from flickbook.engine.films import films
from flickbook.errors import Cancelled
from flickbook.jobs import watch
from flickbook.jobs.attempt import Attempt
from flickbook.jobs.desk import Desk
from flickbook.jobs.runner import means_for
from flickbook.jobs.watch import Watch
from flickbook.spec import Step
from flickbook.store.base import Job


@pytest.fixture
def job(desk: Desk, small: Small) -> Job:
    desk.ask(desk.queue.submit([small(num_inference_steps=4)]))
    found = desk.ask(desk.store.claim("a worker", 30.0))
    assert found is not None
    return found


@pytest.fixture
def attempt(desk: Desk, job: Job) -> Iterator[Attempt]:
    with Attempt(desk, [job]) as found:
        yield found


@pytest.fixture
def watching(desk: Desk, job: Job, attempt: Attempt) -> Watch:
    return Watch(desk, attempt, [job], means_for([job]), None)


def test_it_says_where_a_job_is(desk: Desk, job: Job, watching: Watch) -> None:
    watching(Step("denoise", 2, 4, 1.0))
    told = desk.shelf.progress(job.id)
    assert (told["phase"], told["index"], told["total"], told["attempt"]) == ("denoise", 2, 4, 1)
    assert 0.3 < told["fraction"] < 0.7
    with watching.writing():
        assert desk.shelf.progress(job.id)["phase"] == "write"


def test_what_another_has_taken_over_is_told_by_that_one(
    desk: Desk, job: Job, attempt: Attempt, watching: Watch
) -> None:
    attempt._lost = True
    watching(Step("denoise", 2, 4, 1.0))
    assert desk.shelf.progress(job.id) == {}


def test_polishing_is_broken_off_where_nobody_wants_the_film(attempt: Attempt, watching: Watch) -> None:
    watching(Step("polish", 1, 4, 1.0))
    attempt._lost = True
    with pytest.raises(Cancelled):
        watching(Step("polish", 2, 4, 1.0))


def test_a_preview_moves_and_one_that_fails_fails_no_film(
    desk: Desk, job: Job, watching: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "_UNSEEN", 1e9)  # there is time
    clip = next(films([job.plan], on_step=watching, previews=True))
    assert clip.recipe is not None
    preview = desk.shelf.preview(job.id)
    assert preview is not None
    assert Image.open(io.BytesIO(preview)).n_frames > 1  # type: ignore[attr-defined]
    watching(Step("denoise", 1, 4, 1.0, ["no latents"]))
    assert "no more previews of this film" in caplog.text
    watching(Step("denoise", 2, 4, 1.0, ["nor these"]))
    assert caplog.text.count("no more previews") == 1


def test_there_is_no_preview_without_time_for_it(
    desk: Desk, job: Job, watching: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_UNSEEN", 0.0)
    list(films([job.plan], on_step=watching, previews=True))
    assert desk.shelf.preview(job.id) is None
    # Somebody looks now, and is shown something at once; there is no time for more.
    monkeypatch.setattr(watch, "_SEEN", 0.0)
    desk.shelf.watch(job.id)
    shown = []
    monkeypatch.setattr(desk.shelf, "show", lambda id, picture: shown.append(picture))
    list(films([job.plan], on_step=watching, previews=True))
    assert len(shown) == 1
