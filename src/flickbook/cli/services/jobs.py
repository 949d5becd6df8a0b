"""`flickbook jobs`: lists and controls the jobs of the queue."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.films import tracking
from flickbook.cli.films.making import require_model
from flickbook.cli.films.output_path import of_seed
from flickbook.cli.progress import ProgressLine
from flickbook.cli.services.options import Store
from flickbook.errors import Cancelled

if TYPE_CHECKING:
    from flickbook.jobs.backend import Backend
    from flickbook.store.base import Job

app = typer.Typer(help="List and control queued jobs.", no_args_is_help=True, rich_markup_mode=None)
Id = Annotated[str, typer.Argument(help="Id of a job, as shown by `flickbook jobs list`.")]
States = Annotated[list[str] | None, typer.Option("--state", help="List only jobs in this state; repeatable.")]
Limit = Annotated[int, typer.Option(help="Maximum number of jobs to list.")]
Before = Annotated[str | None, typer.Option(metavar="ID", help="Job to move it before; it moves to the end if unset.")]
Priority = Annotated[int | None, typer.Option(help="Priority, -100 to 100; higher runs first.")]
#: Seconds between two polls of a watched job.
_LOOK = 0.2


@contextmanager
def _backend(store: str) -> Iterator[Backend]:
    """Yield the queue at an address, after expired leases are released."""
    from flickbook import settings
    from flickbook.jobs.backend import Backend

    console.start(settings.load().log_level)
    with Backend.at(store) as backend:
        backend.ask(backend.queue.recover())
        tracking.release_dead(backend)
        yield backend


@app.command("list")
def list_(state: States = None, limit: Limit = 30, store: Store = "", as_json: options.AsJson = False) -> None:
    """List paused jobs first, then the newest others, one per line."""
    from flickbook.jobs.queue import states
    from flickbook.store.base import Query

    with _backend(store) as backend:
        paused = [] if state else backend.ask(backend.store.find(Query(states=("paused",), limit=limit)))
        newest = backend.ask(backend.store.find(Query(states=states(state or ()), limit=limit)))
        jobs = [*paused, *(job for job in newest if job not in paused)][:limit]
        if as_json:
            console.document({"jobs": [_document(backend, job) for job in jobs]})
            return
        for job in jobs:
            print(
                f"{job.id}  {_state(backend, job):<14}  {_age(job):>6}  {job.kind:<9}  {job.plan.model}  {_prompt(job)}"
            )
        if not jobs:
            console.note("there are no jobs yet" if not state else "there are no jobs in this state")
        _explain_paused([job for job in jobs if job.state == "paused"])


def _explain_paused(jobs: Sequence[Job]) -> None:
    """Print how to resume or cancel paused jobs: jobs of a killed command are not resumed automatically."""
    if jobs:
        id = jobs[0].id if len(jobs) == 1 else "ID"
        count = "1 job is" if len(jobs) == 1 else f"{len(jobs)} jobs are"
        console.note(f"{count} paused: `flickbook jobs resume {id}` continues, `flickbook jobs cancel {id}` discards")


@app.command("show")
def show(id: Id, store: Store = "", as_json: options.AsJson = False) -> None:
    """Describe one job: its progress, its result, and why it failed."""
    with _backend(store) as backend:
        job = backend.ask(backend.queue.job(id))
        document = _document(backend, job)
    if as_json:
        console.document(document)
        return
    plan = job.plan
    rows: dict[str, Any] = {
        "id": job.id,
        "state": f"running, will {job.wanted}" if job.state == "running" and job.wanted else job.state,
        "kind": job.kind,
        "prompt": _prompt(job),
        "film": f"{plan.model}, {plan.width}x{plan.height}, {plan.num_frames} frames, seed {plan.seed}",
        "runs": "by its command" if job.home == "command" else f"in the queue, priority {job.priority}",
        "attempts": f"{job.attempt}, {job.seconds:.1f} s in total",
        "progress": f"{100 * document['progress']:.0f} %" if job.state != "completed" else "",
        "left": "" if document["eta_seconds"] is None else f"{document['eta_seconds']:.0f} s",
        "error": job.error,
        "made": document["path"] or "",
        "files": str(document["files"]),
    }
    for name, value in rows.items():
        if value != "":
            print(f"{name:<9} {value}")


@app.command("watch")
def watch(id: Id, store: Store = "") -> int:
    """Show the progress of a job until it is done; exits with 0 if it is completed, 1 if it failed."""
    with _backend(store) as backend, ProgressLine() as line:
        try:
            job = _watched(backend, id, line)
        except KeyboardInterrupt:
            raise Cancelled("the job continues") from None
    if job.state == "cancelled":
        raise Cancelled
    made = "" if job.result is None else job.result.path
    print(f"{job.state}{f': {job.error}' if job.error else ''}", file=sys.stderr)
    if made:
        print(made)
    return 0 if job.state in ("completed", "paused") else 1


def _watched(backend: Backend, id: str, line: ProgressLine) -> Job:
    """Display the progress of a job until it is done or paused, and return it."""
    from flickbook.store.base import DONE

    began = time.monotonic()
    seen: dict[str, Any] = {}
    while True:
        job = backend.ask(backend.queue.job(id))
        if job.state in (*DONE, "paused"):
            return job
        progress = backend.artifacts.progress(id)
        if job.state == "running" and progress.get("attempt") == job.attempt and progress != seen:
            known = (progress["fraction"], progress["eta_seconds"])
            line.show(progress["phase"], progress["index"], progress["total"], time.monotonic() - began, known)
            seen = progress
        time.sleep(_LOOK)
        backend.ask(backend.queue.recover())


@app.command("pause")
def pause(id: Id, store: Store = "") -> None:
    """Pause a job; its progress is kept."""
    _apply(store, lambda backend: backend.ask(backend.queue.pause(id)))


@app.command("resume")
def resume(id: Id, store: Store = "", yes: options.Yes = False, as_json: options.AsJson = False) -> None:
    """Resume a paused job: in the queue, or here if a command started it."""
    with _backend(store) as backend:
        _again(backend, id, yes, as_json, lambda: backend.ask(backend.queue.resume(id)))


@app.command("retry")
def retry(id: Id, store: Store = "", yes: options.Yes = False, as_json: options.AsJson = False) -> None:
    """Retry a job that failed, was cancelled or expired."""
    with _backend(store) as backend:
        _again(backend, id, yes, as_json, lambda: backend.ask(backend.queue.retry(id)))


@app.command("cancel")
def cancel(id: Id, store: Store = "") -> None:
    """Cancel a job: immediately if it is queued, at its next step if it is running."""
    _apply(store, lambda backend: backend.ask(backend.queue.cancel(id)))


@app.command("reorder")
def reorder(id: Id, before: Before = None, priority: Priority = None, store: Store = "") -> None:
    """Move a queued job before another or to the end, or change its priority."""

    def change(backend: Backend) -> Job:
        if priority is None:
            return backend.ask(backend.queue.reorder(id, before))
        job = backend.ask(backend.queue.prioritise(id, priority))
        return job if before is None else backend.ask(backend.queue.reorder(id, before))

    _apply(store, change)


@app.command("logs")
def logs(id: Id, store: Store = "") -> None:
    """Print the logs of a job's attempts."""
    with _backend(store) as backend:
        job = backend.ask(backend.queue.job(id))
        print(backend.artifacts.read_log(job.id), end="")


def _apply(store: str, change: Callable[[Backend], Job]) -> None:
    """Apply a change to a job and print its new state."""
    with _backend(store) as backend:
        job = change(backend)
        print(f"{job.id}  {_state(backend, job)}")


def _again(backend: Backend, id: str, yes: bool, as_json: bool, change: Callable[[], Job]) -> None:
    """Continue a job: a command's job and those that belong to it run here, all others go to the queue."""
    from flickbook.store.base import DONE, Query

    job = backend.ask(backend.queue.job(id))
    if job.home == "queue" or job.state == "running" or job.state == "completed":
        job = change()
        console.document(_document(backend, job)) if as_json else print(f"{job.id}  {_state(backend, job)}")
        return
    require_model(job.plan.model, Path(job.model_dir) if job.model_dir else None, yes)
    if job.state in DONE:
        job = change()
    jobs = backend.ask(backend.store.find(Query(leader=job.leader, order="old", limit=1000))) if job.leader else [job]
    documents = []
    unfinished = sum(each.state not in DONE for each in jobs)
    with ProgressLine(unfinished) as progress:
        for done in tracking.run(
            backend, jobs, progress, lambda job, clip: of_seed(Path(job.output), job.plan.seed, clip)
        ):
            assert done.result is not None
            path, sidecar = Path(done.result.path), done.result.sidecar
            documents.append({"id": done.id, **console.made(path, sidecar.recipe, sidecar.run)})
            if not as_json:
                print(path, flush=True)
    if as_json:
        console.document({"films": documents})


def _document(backend: Backend, job: Job) -> dict[str, Any]:
    """Return the `--json` document of a job."""
    progress = backend.artifacts.progress(job.id) if job.state in ("running", "paused") else {}
    result = job.result
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "wanted": job.wanted,
        "owner": job.owner,
        "home": job.home,
        "priority": job.priority,
        "attempt": job.attempt,
        "progress": 1.0 if job.state == "completed" else progress.get("fraction", job.reached),
        "phase": progress.get("phase"),
        "eta_seconds": progress.get("eta_seconds") if job.state == "running" else None,
        "created_at": job.created_at,
        "started_at": job.started_at or None,
        "finished_at": job.finished_at or None,
        "seconds": job.seconds,
        "error": {"code": job.error_code, "message": job.error} if job.error else None,
        "path": (result.path if result is not None else "") or job.output or None,
        "sha256": result.sha256 if result is not None and result.sha256 else None,
        "files": str(backend.artifacts.of(job.id)),
        "plan": job.plan.model_dump(mode="json"),
    }


def _state(backend: Backend, job: Job) -> str:
    """Return a job's state, with its progress if it has begun."""
    progress = backend.artifacts.progress(job.id) if job.state in ("running", "paused") else {}
    if job.state == "queued" and not job.model_dir and backend.artifacts.pulling(job.plan.model):
        return "queued, its model is being downloaded"
    share = f" {100 * progress['fraction']:.0f} %" if "fraction" in progress else ""
    return f"{job.state}{share}"


def _prompt(job: Job) -> str:
    """Return the prompt of a job; of a sequence, all prompts in order."""
    later = [text for _, text in job.plan.prompt_at] if job.kind == "sequence" else []
    return " → ".join([job.plan.prompt, *later])


def _age(job: Job) -> str:
    """Return the time since a job was created: "12 s", "5 min", "3 h", "9 d"."""
    seconds = max(0.0, time.time() - job.created_at)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
