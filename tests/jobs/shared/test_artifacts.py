"""Machines that share storage: a job begins on one, continues on another, and a third one serves its film."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.jobs.conftest import Small
from tests.patience import until

from flickbook.jobs.artifacts import CHECKPOINT, LOG
from flickbook.jobs.backend import Backend
from flickbook.jobs.queue import LEASE
from flickbook.jobs.shared.artifacts import SharedArtifacts
from flickbook.jobs.workers.runner import Runner
from flickbook.spec import Step
from flickbook.store.base import Job

Machine = Callable[[str], Backend]


@pytest.fixture
def machine(tmp_path: Path, s3: str, request: pytest.FixtureRequest) -> Machine:
    """Makes a machine with a directory of its own, on one store and one storage."""

    def make(name: str) -> Backend:
        found = Backend.at(f"sqlite:///{tmp_path}/jobs.db", tmp_path / name, s3)
        request.addfinalizer(found.close)
        return found

    return make


def claimed(backend: Backend, worker: str) -> Job:
    job = backend.ask(backend.store.claim(worker, LEASE))
    assert job is not None
    return job


def test_a_job_continues_on_another_machine_from_its_checkpoint(machine: Machine, small: Small) -> None:
    one, two, server = machine("one"), machine("two"), machine("server")
    whole = small(num_inference_steps=6)
    one.ask(one.queue.submit([whole]))
    (expected,) = Runner(one).run([claimed(one, "one")])
    assert expected.result is not None and expected.result.sidecar.recipe is not None

    job = small(num_inference_steps=6)
    one.ask(one.queue.submit([job]))
    runner = Runner(one)

    def stop_after_three(step: Step) -> None:
        if step.phase == "denoise" and step.index == 3:
            runner.leave()

    (left,) = runner.run([claimed(one, "one")], on_step=stop_after_three)
    assert left.state == "queued"

    steps: list[int] = []
    (done,) = Runner(two).run(
        [claimed(two, "two")], on_step=lambda step: steps.append(step.index) if step.phase == "denoise" else None
    )
    assert steps and min(steps) > 3, "the other machine starts where the first one stopped"
    assert done.result is not None and done.result.sidecar.recipe is not None
    assert done.result.sidecar.recipe.frames_sha256 == expected.result.sidecar.recipe.frames_sha256

    film = server.artifacts.of(job.id) / Path(done.result.path).name
    with server.artifacts.opened(film).file as file:
        assert file.read() == Path(done.result.path).read_bytes()
    assert not film.exists(), "the server reads it from the storage"
    assert isinstance(server.artifacts, SharedArtifacts)
    names = [name.rpartition("/")[2] for name in server.artifacts.remote.names(job.id[-2:])]
    assert CHECKPOINT not in names and film.name in names, "the checkpoint is removed, the film is kept"
    assert f"{LOG}" in names


@pytest.mark.slow
def test_inputs_reach_a_machine_with_other_directories(machine: Machine, small: Small, tmp_path: Path) -> None:
    server, worker = machine("server"), machine("worker")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    job = small(image=str(tmp_path / "red.png"))
    place = server.artifacts.made(job.id) / "given-image.png"
    place.write_bytes((tmp_path / "red.png").read_bytes())
    job = job.model_copy(update={"request": job.request.model_copy(update={"image": str(place)})})
    server.artifacts.upload(job.id)
    server.ask(server.queue.submit([job]))
    place.unlink()
    (done,) = Runner(worker).run([claimed(worker, "worker")])
    assert done.state == "completed", done.error
    assert (worker.artifacts.of(job.id) / "given-image.png").exists()


@pytest.mark.slow
def test_a_server_sees_the_progress_of_another_machine(machine: Machine, small: Small) -> None:
    server, worker = machine("server"), machine("worker")
    job = small()
    with worker.artifacts.mirrored([job.id], lambda: True):
        worker.artifacts.write_progress(job.id, phase="denoise", index=2)
        worker.artifacts.show(job.id, b"preview")
        until(lambda: server.artifacts.progress(job.id).get("index") == 2)
        until(lambda: server.artifacts.preview(job.id) == b"preview")
        server.artifacts.watch(job.id)
        until(lambda: worker.artifacts.watched(job.id))


def test_a_worker_that_lost_its_lease_sends_nothing(machine: Machine, small: Small) -> None:
    server, worker = machine("server"), machine("worker")
    job = small()
    with worker.artifacts.mirrored([job.id], lambda: False):
        worker.artifacts.made(job.id).joinpath(CHECKPOINT).write_bytes(b"old")
    server.artifacts.fetch_job(job.id)
    assert not server.artifacts.checkpoint(job.id).exists()


def test_a_deleted_job_is_gone_everywhere(machine: Machine, small: Small) -> None:
    server, worker = machine("server"), machine("worker")
    job = small()
    server.ask(server.queue.submit([job]))
    Runner(worker).run([claimed(worker, "worker")])
    server.ask(server.queue.remove(job.id))
    assert isinstance(server.artifacts, SharedArtifacts)
    assert server.artifacts.remote.names(job.id[-2:]) == []


def test_a_batch_is_known_to_every_machine(machine: Machine, small: Small) -> None:
    one, two = machine("one"), machine("two")
    jobs = one.ask(one.queue.submit([small(1), small(2)]))
    batch = one.artifacts.gather(jobs)
    assert two.artifacts.batch(jobs[1].id) == (batch, jobs)
    assert two.artifacts.batch(jobs[0].id)[0] == batch
    two.artifacts.leave(jobs[0].id)
    assert one.artifacts.members(batch) == [jobs[1].id]
    one.artifacts.leave(jobs[1].id)
    assert two.artifacts.members(batch) == []


def test_a_reader_with_the_same_directory_leaves_a_log_alone(machine: Machine, small: Small) -> None:
    worker, server = machine("one"), machine("one")
    job = small()
    with worker.artifacts.mirrored([job.id], lambda: True):
        worker.artifacts.log(job.id, "sent")
    with open(worker.artifacts.of(job.id) / LOG, "a", encoding="utf-8") as log:
        assert "sent" in server.artifacts.read_log(job.id)
        log.write("written meanwhile\n")
    assert "written meanwhile" in (worker.artifacts.of(job.id) / LOG).read_text(encoding="utf-8")


def test_a_name_in_the_storage_cannot_leave_the_directory(machine: Machine, small: Small, tmp_path: Path) -> None:
    server, job = machine("server"), small()
    assert isinstance(server.artifacts, SharedArtifacts)
    server.artifacts.remote.put_bytes(b"bad", f"{job.id[-2:]}/{job.id}/../../../outside")
    server.artifacts.fetch_job(job.id)
    assert not list(tmp_path.rglob("outside"))
