"""The queue of this machine as the window asks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.desktop.conftest import SOURCE, until
from tests.loopback_hub import Hub
from tests.server.api.test_pulls import online

from flickbook.desktop.sources.local import Local
from flickbook.errors import FlickbookError, HubError, JobConflict, OutputError, RequestError, StoreError
from flickbook.files import sha256
from flickbook.jobs import queue
from flickbook.jobs.backend import Backend
from flickbook.resolution import resolve
from flickbook.spec import Request

__all__ = ["online"]
QUICK = {"prompt": "a red circle moving left", "num_inference_steps": 2, "num_frames": 4, "seed": 7}


@pytest.mark.slow
@pytest.mark.model
def test_a_job_from_its_asking_to_its_file(place: Path) -> None:
    source = Local()
    assert any(offer.here for offer in source.open())
    made = source.make(Request.of(**QUICK))
    assert made.state == "queued" and not made.over
    done = until(lambda: (found := source.entry(made.id)).over and found)
    assert (done.state, done.made, done.suffix) == ("completed", True, ".mp4")
    assert source.recent() == [done]
    path = source.film(done)
    assert path.parent == source.folder(done) and max(source.still(done, 40).size) == 40
    path.unlink()
    assert not source.entry(made.id).made
    with pytest.raises(OutputError, match="its file was deleted; make it again"):
        source.film(done)
    source.close()
    source.close()
    with pytest.raises(StoreError, match="is not open"):
        source.recent()


def test_a_job_has_its_own_copy_of_a_picture(backend: Backend, tmp_path: Path) -> None:
    source = Local(workers=0)
    source.open()
    start = tmp_path / "red.png"
    Image.new("RGB", (64, 48), "red").save(start)
    digest = sha256(start)
    made = source.make(Request.of(**QUICK, image=str(start)))
    start.unlink()
    job = backend.ask(backend.queue.job(made.id))
    assert made.plan.image == digest and job.request.image is not None and sha256(job.request.image) == digest
    before = backend.artifacts.ids()
    for wrong in (start, Path(__file__)):
        with pytest.raises(FlickbookError):
            source.make(Request.of(**QUICK, last_image=str(wrong)))
    assert backend.artifacts.ids() == before


def test_what_runs_by_another_window_or_command_is_listed_too(backend: Backend) -> None:
    source = Local(workers=0)
    source.open()
    first, second = (source.make(Request.of(**QUICK | {"seed": seed})) for seed in (1, 2))
    assert [entry.id for entry in source.recent()] == [second.id, first.id]
    claimed = backend.ask(backend.store.claim("a test", 60.0, first.id))
    assert claimed is not None
    backend.artifacts.write_progress(
        first.id, phase="denoise", index=3, total=10, fraction=0.3, eta_seconds=7.5, attempt=1
    )
    running = source.entry(first.id)
    assert (running.phase, running.index, running.total, running.fraction, running.eta) == ("denoise", 3, 10, 0.3, 7.5)
    backend.artifacts.show(first.id, b"RIFF")
    assert source.preview(first.id) == b"RIFF" and backend.artifacts.watched(first.id)
    assert source.pause(first.id).stopping == "pause"
    assert source.cancel(first.id).stopping == "cancel"
    # What an attempt before said counts no more.
    backend.artifacts.write_progress(
        first.id, phase="denoise", index=9, total=10, fraction=0.9, eta_seconds=1.0, attempt=0
    )
    assert source.entry(first.id).index == 0
    source.close()


def test_what_waits_is_paused_and_resumed_and_a_job_of_a_command_only_paused(backend: Backend) -> None:
    source = Local(workers=0)
    source.open()
    made = source.make(Request.of(**QUICK))
    assert source.pause(made.id).state == "paused" and source.entry(made.id).over
    resumed = source.resume(made.id)
    assert (resumed.state, resumed.over, resumed.by_command) == ("queued", False, False)
    with pytest.raises(JobConflict, match="is queued and cannot be resumed"):
        source.resume(made.id)
    source.cancel(made.id)
    with pytest.raises(JobConflict, match="is cancelled and cannot be paused"):
        source.pause(made.id)
    request = Request.of(**QUICK)
    (job,) = backend.ask(backend.queue.submit([queue.job(resolve(request), request, home="command")]))
    assert source.entry(job.id).by_command and source.resume(job.id).state == "paused"
    source.close()


def test_what_cannot_be_made_is_refused_now(place: Path) -> None:
    source = Local(workers=0)
    offers = {offer.model.name: offer for offer in source.open()}
    with pytest.raises(RequestError, match="num_frames=999"):
        source.make(Request.of(**QUICK | {"num_frames": 999}))
    away = next(name for name, offer in offers.items() if not offer.here and offer.fits(picture=False))
    model = offers[away].model
    size = f"{model.download_gb:g} GB, "
    with pytest.raises(
        HubError, match=f"{away} is not on this machine yet: {size}.*; run `flickbook models pull {away}`"
    ):
        source.make(Request.of(prompt="a panda", model=model.name))
    assert source.recent() == []
    source.close()


#: In a process of its own, because the hub's library reads its environment once.
PROGRAM = """
import sys, time
from flickbook.desktop.sources.local import Local
from flickbook.spec import Request
source = Local()
source.open()
for name in sys.argv[1:]:
    made = source.make(Request.of(prompt="a red circle", model=name, num_inference_steps=1, num_frames=2))
    while not (entry := source.entry(made.id)).over:
        time.sleep(0.05)
    print(entry.state, entry.error)
source.close()
"""


@pytest.mark.slow
@pytest.mark.model
def test_with_the_setting_auto_a_job_waits_for_its_model(online: Hub) -> None:
    """What cannot be downloaded fails the job; what can be is downloaded, and the film is made."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "FLICKBOOK_PULL": "auto"}
    words = [sys.executable, "-c", PROGRAM, "lost", "tiny"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    lost, tiny = done.stdout.splitlines()
    assert lost.startswith("failed lost could not be downloaded: somebody/lost: no such repository")
    assert tiny == "completed "
