"""`flickbook evaluate`: measures how often a model's films show what the prompt says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from flickbook.cli import console, options
from flickbook.cli.progress import ProgressLine
from flickbook.errors import RequestError

PROMPTS_LIMIT = 100_000


def evaluate(
    model: Annotated[str, typer.Argument(help="Model, by name or directory.")] = "builtin",
    prompts: Annotated[int, typer.Option(help="Number of prompts to evaluate.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write report.html, where films play, and contact sheets into this directory."),
    ] = None,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure how well a model's films match their prompts, and print the table."""
    if not 1 <= prompts <= PROMPTS_LIMIT:
        raise RequestError("prompts", prompts, f"must be 1 to {PROMPTS_LIMIT}", "ask for a number in that range")
    if not Path(model).is_dir():
        from flickbook.cli.films.making import require_model

        require_model(model, None, yes)  # a wrong name is refused before heavy imports
    from flickbook.learn.evaluation.evaluate import main, table

    began = time.perf_counter()
    with ProgressLine(phases={"films": 1.0}) as progress:
        found = main(
            model, prompts, out, lambda done, total: progress.show("films", done, total, time.perf_counter() - began)
        )
    if as_json:
        console.document(found)
    else:
        print(table(found))
