"""Making of films by commands: from options to Plans, to files, to output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flickbook.cli import console
from flickbook.cli.films import output_path
from flickbook.cli.progress import ProgressLine
from flickbook.engine.rows import size_of
from flickbook.errors import MissingExtra, RequestError

if TYPE_CHECKING:
    from flickbook.engine.films import RunOptions
    from flickbook.media.clip import Clip
    from flickbook.settings import Settings
    from flickbook.spec import Plan, Request, Step
    from flickbook.store.base import Job

COUNT_LIMIT = 1000
#: The scores of films of the built-in model's world: agreement with the prompt, and steadiness of the objects.
_OF_THE_WORLD = ("agreement", "steadiness")


@dataclass(frozen=True)
class Extras:
    """Options of a command that are not part of the Request: polish options, file format, model directory.

    With `yes`, model files are downloaded without confirmation.
    """

    polish: Mapping[str, Any]
    loras: Sequence[str] = ()
    model_dir: Path | None = None
    precision: str = "auto"
    retry_below: Sequence[str] = ()
    retries: int = 0
    yes: bool = False


@dataclass(frozen=True)
class Making:
    """Films about to be made: their Plans, which differ only in the seed, and what they share."""

    plans: list[Plan]
    request: Request
    run_options: RunOptions
    thresholds: dict[str, float]
    extras: Extras
    kind: Literal["shots"] | None = None

    def jobs(self, paths: Sequence[Path], overwrite: bool) -> list[Job]:
        """Return one job per film, to be run by this command."""
        from flickbook.conditioning import moved
        from flickbook.jobs import queue

        extras, home = self.extras, self.extras.model_dir
        shared: dict[str, Any] = {
            "kind": self.kind,
            "home": "command",
            "overwrite": int(overwrite),
            "precision": extras.precision,
            "model_dir": "" if home is None else str(home.absolute()),
            "networks": {digest: str(path.absolute()) for digest, path in self.run_options.networks.items()},
            "thresholds": self.thresholds,
            "retries": extras.retries,
        }
        # Independent of the working directory.
        request = moved(self.request, lambda _, path: str(Path(path).absolute()))
        found = [
            queue.job(plan, request.model_copy(update={"seed": plan.seed}), output=str(path.absolute()), **shared)
            for plan, path in zip(self.plans, paths, strict=True)
        ]
        leader = found[0].id if len(found) > 1 else ""
        return [job.model_copy(update={"leader": leader}) for job in found]


def fields(film: Mapping[str, Any], encoding: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
    """Return the fields of a Request set by options.FILM and options.ENCODING."""
    from flickbook import formats

    quality = encoding["quality"]
    from flickbook.conditioning import FILES, conditions_of

    paths: dict[str, Any] = {name: None if film[name] is None else str(film[name]) for name in FILES}
    paths["conditions"] = conditions_of(film["condition"] or []) or None
    paths["reference_images"] = tuple(str(path) for path in film["reference_image"] or []) or None
    others = ("size", "prompt_at", "lora", "condition", "reference_image", *FILES)
    plain = {name: film[name] for name in film if name not in others}
    written = {"codec": encoding["codec"], "pixel_format": encoding["pixel_format"]}
    written |= {"quality": None if quality is None else formats.quality_of(quality)}
    container = None if output is None else formats.container_of(output)
    return {**plain, **paths, **size_of(film["size"]), **written, "container": container}


def prepared(request: Request, extras: Extras, count: int = 1) -> tuple[Request, list[Plan], Any]:
    """Resolve `count` Plans that differ only in the seed, which increases by one; return also the polish networks.

    The returned Request contains the values that had to be resolved.
    """
    from flickbook.resolution import resolve, speed_of

    if not 1 <= count <= COUNT_LIMIT:
        raise RequestError("count", count, f"must be 1 to {COUNT_LIMIT}", f"ask for 1 to {COUNT_LIMIT} films")
    home = extras.model_dir
    if home is not None and not home.is_dir():
        raise RequestError("model_dir", home, "no such directory", "name a directory in diffusers' layout")
    if extras.loras or request.video:
        from flickbook.engine.films import located
        from flickbook.engine.sources import complete

        request = complete(request.model_copy(update={"loras": located(extras.loras) or request.loras}))
    level, _ = speed_of(extras.polish.get("speed"))
    request = request if level is None else request.model_copy(update={"speed": level})
    first = resolve(request, home)
    request, networks = polish_of(request, first, extras)
    # Keep a seed that was drawn.
    request = request.model_copy(update={"seed": first.seed})
    seeds = range(first.seed, first.seed + count)
    return request, [resolve(request.model_copy(update={"seed": seed}), home) for seed in seeds], networks


def words(polish: Mapping[str, Any]) -> Any:
    """Convert options.POLISH to the engine's Wishes."""
    return {**polish, "steady": 1.0 if polish["steady"] else None}


def polish_of(request: Request, plan: Plan, extras: Extras) -> tuple[Request, Any]:
    """Return the Request with the requested Polish, validated against the frames and rate of the first Plan.

    Unset options keep the Request's value: a variation of a film keeps its polish.
    """
    from flickbook.resolution import speed_of

    _, played = speed_of(extras.polish.get("speed"))
    options = {**words(extras.polish), "speed": played}
    named: Any = {name: value for name, value in options.items() if value is not None}
    if not named:
        return request, {}
    from flickbook.engine.polish import parse_polish

    polish, networks = parse_polish(plan.num_frames, plan.fps, named)
    changes = {name: getattr(polish, name) for name in named}
    return request.model_copy(update={"polish": plan.polish.model_copy(update=changes)}), networks


def making(request: Request, plans: list[Plan], networks: Any, extras: Extras) -> Making:
    """Return the films of `plans`, with the model's files present. Raises as `require`.

    Prints the resources that they need on stderr.
    """
    from flickbook.engine.films import estimate_plan, run_options_of

    thresholds = _thresholds(extras)
    plan, home = plans[0], extras.model_dir
    require_model(plan.model, home, extras.yes)
    run_options = replace(run_options_of(plan, request, home, extras.precision), networks=networks)
    console.note(estimate_plan(plan, home, extras.precision).line())
    return Making(plans, request, run_options, thresholds, extras)


def require_model(name: str, home: Path | None, yes: bool) -> None:
    """`require` for a model by its name; `home` is the directory of its files, if not the catalogue's."""
    from flickbook.catalogue import find
    from flickbook.cli.pulling import require

    model = find(name)
    require(model if home is None else model.at(home), yes)


def _thresholds(extras: Extras) -> dict[str, float]:
    if not extras.retry_below:
        if extras.retries:
            raise RequestError("retries", extras.retries, "has no effect alone", "add --retry-below NAME:VALUE")
        return {}
    if not 1 <= extras.retries <= 100:
        raise RequestError("retries", extras.retries, "must be 1 to 100", "add --retries 3")
    from flickbook.media.metrics.quality import threshold

    return dict(threshold(each, _OF_THE_WORLD) for each in extras.retry_below)


def paths_of(
    plans: list[Plan],
    chosen: Settings,
    output: Path | None,
    overwrite: bool,
    steps_sheet: Path | None = None,
    retried: bool = False,
) -> list[Path]:
    """Return the path of each Plan's film. Refuses early what could not be written later."""
    plan = plans[0]
    paths = output_path.targets(output, chosen.output_dir, plan.prompt, [plan.seed for plan in plans], plan.container)
    sheets = []
    if steps_sheet is not None:
        if steps_sheet.suffix.lower() != ".png":
            raise RequestError("steps_sheet", steps_sheet.name, "must end in .png", "name it steps.png")
        if find_spec("matplotlib") is None:
            raise MissingExtra("matplotlib", "gen")
        if retried:
            raise RequestError(
                "steps_sheet", steps_sheet.name, "cannot show several attempts", "leave out --retry-below"
            )
        sheets = [steps_sheet]
    output_path.check_plan(plan, paths, sheets, overwrite)
    return paths


def films(made: Making, paths: list[Path], overwrite: bool, steps_sheet: Path | None = None) -> list[dict[str, Any]]:
    """Make and save the films one after the other; return the documents to print. Complete films are kept on Ctrl-C."""
    from flickbook.cli.films import tracking

    output_path.announce(paths)
    documents: list[dict[str, Any]] = []
    previews: list[tuple[int, Any, Any]] = []
    with tracking.backend() as backend, ProgressLine(len(paths)) as progress:

        def on_step(step: Step) -> None:
            # The sheet shows the first film; in a batch that is the first row of the preview.
            if step.preview is not None and not documents:
                previews.append((step.index, step.preview[0], None if step.noisy is None else step.noisy[0]))
            progress(step)

        jobs = made.jobs(paths, overwrite)
        earlier = tracking.interrupted(backend, jobs[0]) if made.kind == "shots" else None
        jobs = backend.ask(backend.queue.submit(jobs)) if earlier is None else [earlier]
        planned = {job.id: path for job, path in zip(jobs, paths, strict=True)}

        def path_of(job: Job, clip: Clip) -> Path:
            planned[job.id] = output_path.of_seed(planned[job.id], job.plan.seed, clip)
            return planned[job.id]

        for job in tracking.run(backend, jobs, on_step, path_of, steps_sheet is not None):
            if steps_sheet is not None and not documents:
                _write_sheet(made.plans[0], previews, steps_sheet, overwrite, made.run_options)
            assert job.result is not None
            documents.append(console.made(planned[job.id], job.result.sidecar.recipe, job.result.sidecar.run))
    for text in dict.fromkeys(text for film in documents for text in film["run"]["notes"]):
        console.note(text)
    return documents


def tell(films: list[dict[str, Any]], as_json: bool) -> None:
    """Print what was made: paths, or one JSON document."""
    if as_json:
        console.document({"films": films})
        return
    for film in films:
        print(film["path"])


def _write_sheet(
    plan: Plan, previews: list[tuple[int, Any, Any]], path: Path, overwrite: bool, run_options: RunOptions
) -> None:
    from flickbook.engine.films import steps_sheet

    if not previews:
        console.note(f"{plan.model} reports no steps, so no steps sheet was written")
        return
    steps_sheet(plan, previews, path, run_options=run_options, overwrite=overwrite)
    console.note(f"the steps sheet is {path}")
