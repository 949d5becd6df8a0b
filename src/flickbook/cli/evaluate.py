"""`flickbook evaluate`: measures how often films show what their prompts say, and how near they are to true films."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.progress import ProgressLine
from flickbook.errors import OutputError, RequestError

PROMPTS_LIMIT = 100_000


SEED_LIMIT = 1000

_Model = Annotated[
    str | None, typer.Argument(help="Model, by name or directory, or a directory of films.", show_default="builtin")
]
_Prompts = Annotated[int | None, typer.Option(help="Number of prompts to evaluate a model with.", show_default="100")]
_Seed = Annotated[int, typer.Option(help=f"Another seed gives other prompts, 0 to {SEED_LIMIT}.")]
_Out = Annotated[
    Path | None,
    typer.Option(
        help="Also write report.json, report.md, report.html, where films play, rate.html, where people rate films "
        "blind, and contact sheets into this directory."
    ),
]
_Beside = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR", help="Mix films of this earlier report into rate.html; repeatable."),
]
_Curve = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="JSON",
        help="Draw the coverage curve of this report.json of a finished evaluation, and evaluate nothing; repeatable.",
    ),
]


def evaluate(
    model: _Model = None,
    prompts: _Prompts = None,
    seed: _Seed = 0,
    lora: options.Lora = None,
    model_dir: options.ModelDir = None,
    out: _Out = None,
    beside: _Beside = None,
    curve: _Curve = None,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure how well a model's films match their prompts, and print the table."""
    if prompts is not None and not 1 <= prompts <= PROMPTS_LIMIT:
        raise RequestError("prompts", prompts, f"must be 1 to {PROMPTS_LIMIT}", "ask for a number in that range")
    if not 0 <= seed <= SEED_LIMIT:
        raise RequestError("seed", seed, f"must be 0 to {SEED_LIMIT}", "0 gives the prompts of the published table")
    if out is not None and out.exists() and not out.is_dir():
        raise OutputError(out, "is not a directory", "choose another --out")
    _check_beside(beside or [], out)
    if curve:
        _draw_curve(model, curve, out, as_json)
        return
    name = model or "builtin"
    if not Path(name).is_dir():
        from flickbook.cli.films.making import require_model

        require_model(name, model_dir, yes)  # a wrong name is refused before heavy imports
    from flickbook.learn.evaluation.evaluate import main, table

    began = time.perf_counter()
    with ProgressLine(phases={"films": 1.0}) as progress:

        def show(done: int, total: int) -> None:
            progress.show("films", done, total, time.perf_counter() - began)

        chosen: dict[str, Any] = {"seed": seed, "loras": lora or (), "model_dir": model_dir, "beside": beside or ()}
        found = main(name, prompts, out, show, **chosen)
    if as_json:
        console.document(found)
    else:
        print(table(found))
    for each in found.get("skipped", ()):
        console.note(f"skipped {each}")
    for each in found.get("unprompted", ()):
        console.note(each)


def _check_beside(beside: list[Path], out: Path | None) -> None:
    """Refuse reports that cannot be mixed in."""
    for each in beside:
        if out is None:
            raise RequestError("beside", each, "has no effect without a page", "add --out")
        if not (each / "rate.html").is_file():
            raise RequestError("beside", each, "holds no rate.html", "name the --out directory of an evaluation")


def _draw_curve(model: str | None, curve: list[Path], out: Path | None, as_json: bool) -> None:
    """Print the coverage curve of several reports, and with `out` also write it."""
    if model is not None:
        raise RequestError("curve", curve[0], "evaluates no model", f"leave out {model}")
    from flickbook.learn.evaluation import coverage

    points = coverage.main(curve, out)
    if as_json:
        console.document({"points": points})
    else:
        print(coverage.table(points), end="")
