"""`flickbook draft` and `flickbook finish`: start several films, and complete the chosen ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.films import tracking
from flickbook.cli.films.making import Extras, fields, paths_of, prepared, require_model
from flickbook.cli.progress import ProgressLine
from flickbook.engine.rows import turns_of
from flickbook.errors import JobConflict, RequestError

if TYPE_CHECKING:
    from flickbook.store.base import Job

Seeds = Annotated[int, typer.Option(help="Number of drafts; the seed increases by one from each to the next.")]
Until = Annotated[
    float, typer.Option(help="Share of the denoising steps after which a draft stops, above 0 and below 1.")
]
Sheet = Annotated[Path | None, typer.Option(help="Also write a PNG with all drafts.")]
Ids = Annotated[list[str], typer.Argument(help="Ids of drafts, as printed by `flickbook draft`.")]


@options.taking(film=options.FILM, polish=options.FINISH, encoding=options.ENCODING)
def draft(
    film: Any,
    polish: Any,
    encoding: Any,
    prompt: Annotated[str, typer.Argument(help="Description of the film.")],
    seeds: Seeds = 8,
    until: Until = 0.4,
    model_dir: options.ModelDir = None,
    precision: options.Precision = "auto",
    sheet: Sheet = None,
    overwrite: options.Overwrite = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Start several films as drafts and print a preview of each; `flickbook finish` completes the chosen ones."""
    from flickbook import settings
    from flickbook.cli.films.making import making
    from flickbook.media.write import check_target
    from flickbook.spec import Request

    chosen = settings.load(model=film["model"])
    console.start(chosen.log_level)
    if not 0 < until < 1:
        raise RequestError("until", until, "must be above 0 and below 1", "ask for --until 0.4")
    if sheet is not None:
        if sheet.suffix.lower() != ".png":
            raise RequestError("sheet", sheet.name, "must end in .png", "name it drafts.png")
        check_target(sheet, overwrite=overwrite)
    first, turns = turns_of(prompt, film["prompt_at"] or [])
    request_fields = fields(film, encoding, None) | {"model": chosen.model, "prompt_at": turns}
    extras = Extras(polish, film["lora"] or [], model_dir, precision, yes=yes)
    request, plans, networks = prepared(Request.of(prompt=first or "", **request_fields), extras, seeds)
    if plans[0].num_frames == 1:
        raise RequestError("num_frames", 1, "a draft needs 2 frames or more", "ask for more frames")
    made = making(request, plans, networks, extras)
    jobs = [
        job.model_copy(update={"kind": "draft", "until": until, "output": ""})
        for job in made.jobs([Path("draft")] * len(plans), overwrite=False)
    ]
    documents = []
    with tracking.backend() as backend, ProgressLine(len(jobs)) as progress:
        for job in tracking.run(backend, backend.ask(backend.queue.submit(jobs)), progress):
            assert job.result is not None
            documents.append({"id": job.id, "seed": job.plan.seed, "preview": job.result.path})
            if not as_json:
                print(f"{job.id}  seed {job.plan.seed}  {job.result.path}", flush=True)
    if sheet is not None:
        _write_sheet(documents, sheet, overwrite)
    if as_json:
        console.document({"drafts": documents})


def finish(
    ids: Ids,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Finish drafts and print the paths of their films."""
    from flickbook import settings

    chosen = settings.load()
    console.start(chosen.log_level)
    documents = []
    with tracking.backend() as backend:
        drafts = [backend.ask(backend.queue.job(id)) for id in ids]
        for each in drafts:
            if each.kind != "draft" or each.state != "completed":
                raise JobConflict(each.id, f"a {each.state} {each.kind}", "finished", "name a completed draft")
        jobs, paths = [], []
        for number, each in enumerate(drafts, 1):
            place = output
            if output is not None and len(drafts) > 1:
                place = output.with_name(f"{output.stem}-{number}{output.suffix}")
            paths += paths_of([each.plan], chosen, place, overwrite)
            jobs.append(_finishing(each, paths[-1], overwrite))
        for each in drafts:
            require_model(each.plan.model, Path(each.model_dir) if each.model_dir else None, yes)
        if len(jobs) > 1:
            jobs = [job.model_copy(update={"leader": jobs[0].id}) for job in jobs]
        with ProgressLine(len(jobs)) as progress:
            for job, path in zip(backend.ask(backend.queue.submit(jobs)), paths, strict=True):
                for done in tracking.run(backend, [job], progress):
                    assert done.result is not None
                    sidecar = done.result.sidecar
                    documents.append({"id": done.id, **console.made(path, sidecar.recipe, sidecar.run)})
                    if not as_json:
                        print(path, flush=True)
    if as_json:
        console.document({"films": documents})


def _finishing(draft: Job, path: Path, overwrite: bool) -> Job:
    """Return the job that finishes a draft, with its film at `path`."""
    from flickbook.jobs import queue

    kept = {name: getattr(draft, name) for name in ("precision", "model_dir", "networks")}
    target: dict[str, Any] = {"output": str(path.absolute()), "overwrite": int(overwrite)}
    return queue.job(draft.plan, draft.request, home="command", parent=draft.id, **target, **kept)


def _write_sheet(documents: list[dict[str, Any]], path: Path, overwrite: bool) -> None:
    """Write a sheet of all drafts, one per row, each with its seed."""
    import numpy as np

    from flickbook.media.read import read_any
    from flickbook.media.sheet import contact_sheet
    from flickbook.media.write import write_png

    rows = [read_any(each["preview"])[0] for each in documents]
    image = contact_sheet(rows, [f"seed {each['seed']} · {each['id']}" for each in documents])
    write_png(path, np.asarray(image), None, overwrite=overwrite)
    console.note(f"the sheet of the drafts is {path}")
