"""`flickbook explain`: shows what happened inside a run, as figures and as one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from flickbook.cli import console, options
from flickbook.cli.films import output_path
from flickbook.cli.films.making import Extras, fields, prepared, require_model
from flickbook.cli.films.reproduce import Inputs
from flickbook.cli.progress import ProgressLine
from flickbook.engine.rows import turns_of
from flickbook.errors import MediaError, MissingExtra, RequestError

if TYPE_CHECKING:
    from flickbook.engine.films import RunOptions
    from flickbook.explain.record import Record
    from flickbook.spec import Plan

_UNFINISHED: Final[Mapping[str, Any]] = {name: None for name in options.POLISH} | {"steady": False}
_UNWRITTEN: Final[Mapping[str, Any]] = dict.fromkeys(options.ENCODING)


@options.taking(film=options.FILM)
def explain(
    film: Any,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT|FILE", help="Description of a film, or a film that Flickbook made.")
    ],
    inputs: Inputs = None,
    model_dir: options.ModelDir = None,
    precision: options.Precision = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Directory to write; a name of time, prompt and seed if unset.")
    ] = None,
    overwrite: options.Overwrite = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what happens inside a run, step by step, as figures and a page, and print the page's path."""
    from flickbook import settings

    chosen = settings.load(model=film["model"])
    console.start(chosen.log_level)
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "gen")
    file = _file(prompt)
    if file is None:
        plan, run_options = _of_prompt(prompt, film, chosen.model, model_dir, precision)
    else:
        plan, run_options = _of_file(file, film, inputs or [], model_dir, precision)
    directory = output_path.directory(out, chosen.output_dir, plan.prompt, plan.seed, "explain")
    _check_directory(directory, overwrite)
    require_model(plan.model, model_dir, yes)
    from flickbook.explain.record import record
    from flickbook.explain.report import write
    from flickbook.explain.source import compared

    with ProgressLine() as progress:
        found = record(plan, run_options, on_step=progress)
    console.note("drawing the figures and the page")
    more = {} if file is None else {"compared": compared(file, plan, found.frames)}
    paths = write(found, directory, more=more, overwrite=overwrite)
    for text in found.notes:
        console.note(text)
    if as_json:
        console.document(_document(found, paths, more))
    else:
        print(paths[0])


def _document(found: Record, paths: list[Path], more: dict[str, Any]) -> dict[str, Any]:
    page, *others = map(str, paths)
    plan = found.plan.model_dump(mode="json")
    return {"page": page, "files": others, "seed": found.plan.seed, "plan": plan, "notes": found.notes, **more}


def _file(text: str) -> Path | None:
    """The film that `text` names; None for a prompt. Raises MediaError for a film that does not exist."""
    from flickbook.formats import SUFFIXES, is_frames

    path = Path(text)
    named = path.suffix.lower() in SUFFIXES and " " not in path.name
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # a long prompt is not a possible file name
        exists = False
    if exists or is_frames(path):
        return path
    if named:
        raise MediaError(path, "no such file", "name a film that Flickbook made, or write a prompt")
    return None


def _of_prompt(
    prompt: str, film: Mapping[str, Any], model: str, model_dir: Path | None, precision: str
) -> tuple[Plan, RunOptions]:
    from flickbook.engine.films import run_options_of
    from flickbook.spec import Request

    first, turns = turns_of(prompt, film["prompt_at"] or [])
    request_fields = fields(film, _UNWRITTEN, None) | {"model": model, "prompt_at": turns}
    extras = Extras(_UNFINISHED, film["lora"] or [], model_dir, precision)
    request, plans, _ = prepared(Request.of(prompt=first or "", **request_fields), extras)
    return plans[0], run_options_of(plans[0], request, model_dir, precision)


def _of_file(
    file: Path, film: Mapping[str, Any], inputs: list[Path], model_dir: Path | None, precision: str
) -> tuple[Plan, RunOptions]:
    """Raises RequestError for options that the film's recipe decides."""
    from flickbook.engine.films import run_options_of
    from flickbook.explain.source import planned

    for name, value in film.items():
        if value is not None:
            remedy = f"leave it out, or explain a prompt instead of {file.name}"
            raise RequestError(name, value, "is in the film's recipe", remedy)
    plan, request, networks = planned(file, inputs, model_dir)
    return plan, replace(run_options_of(plan, request, model_dir, precision), networks=networks)


def _check_directory(directory: Path, overwrite: bool) -> None:
    """Raises OutputError unless every file of a report could be written into the directory now."""
    from flickbook.explain.report import file_names

    output_path.check([], 0, [directory / name for name in file_names()], overwrite)
