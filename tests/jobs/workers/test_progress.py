"""What is told of a run while it goes: where it is, and what emerges as far as there is time for it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image
from tests.jobs.conftest import Small

from flickbook.engine.films import films
from flickbook.errors import Cancelled
from flickbook.jobs.backend import Backend
from flickbook.jobs.workers import progress
from flickbook.jobs.workers.batching import run_options_for
from flickbook.jobs.workers.lease import Attempt
from flickbook.jobs.workers.progress import Watch
from flickbook.spec import Step
from flickbook.store.base import Job


@pytest.fixture
def job(backend: Backend, small: Small) -> Job:
    backend.ask(backend.queue.submit([small(num_inference_steps=4)]))
    found = backend.ask(backend.store.claim("a worker", 30.0))
    assert found is not None
    return found


@pytest.fixture
def attempt(backend: Backend, job: Job) -> Iterator[Attempt]:
    with Attempt(backend, [job]) as found:
        yield found


@pytest.fixture
def watching(backend: Backend, job: Job, attempt: Attempt) -> Watch:
    return Watch(backend, attempt, [job], run_options_for([job]), None)


def test_progress_has_phase_step_and_fraction(backend: Backend, job: Job, watching: Watch) -> None:
    watching(Step("denoise", 2, 4, 1.0))
    progress = backend.artifacts.progress(job.id)
    assert (progress["phase"], progress["index"], progress["total"], progress["attempt"]) == ("denoise", 2, 4, 1)
    assert 0.3 < progress["fraction"] < 0.7
    with watching.writing():
        assert backend.artifacts.progress(job.id)["phase"] == "write"


def test_a_lost_attempt_reports_no_progress(backend: Backend, job: Job, attempt: Attempt, watching: Watch) -> None:
    attempt._lost = True
    watching(Step("denoise", 2, 4, 1.0))
    assert backend.artifacts.progress(job.id) == {}


def test_a_lost_attempt_stops_polishing(attempt: Attempt, watching: Watch) -> None:
    watching(Step("polish", 1, 4, 1.0))
    attempt._lost = True
    with pytest.raises(Cancelled):
        watching(Step("polish", 2, 4, 1.0))


@pytest.mark.slow
def test_previews_move_and_their_errors_do_not_fail_the_film(
    backend: Backend, job: Job, watching: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_UNSEEN", 1e9)  # there is time
    clip = next(films([job.plan], on_step=watching, previews=True))
    assert clip.recipe is not None
    preview = backend.artifacts.preview(job.id)
    assert preview is not None
    assert Image.open(io.BytesIO(preview)).n_frames > 1  # type: ignore[attr-defined]
    watching(Step("denoise", 1, 4, 1.0, ["no latents"]))
    assert "no more previews of this film" in caplog.text
    watching(Step("denoise", 2, 4, 1.0, ["nor these"]))
    assert caplog.text.count("no more previews") == 1


@pytest.mark.slow
def test_previews_are_made_only_within_their_time_budget(
    backend: Backend, job: Job, watching: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_UNSEEN", 0.0)
    list(films([job.plan], on_step=watching, previews=True))
    assert backend.artifacts.preview(job.id) is None
    # Somebody looks now, and is shown something at once; there is no time for more.
    monkeypatch.setattr(progress, "_SEEN", 0.0)
    backend.artifacts.watch(job.id)
    shown = []
    monkeypatch.setattr(backend.artifacts, "show", lambda id, picture: shown.append(picture))
    list(films([job.plan], on_step=watching, previews=True))
    assert len(shown) == 1
