"""`flickbook evaluate`: how often a model shows what it was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flickbook.cli import report
from flickbook.errors import RequestError

PROMPTS_LIMIT = 100_000


def evaluate(
    model: Annotated[str, typer.Argument(help="A name of `flickbook models list`.")] = "builtin",
    prompts: Annotated[int, typer.Option(help="How many prompts to judge.")] = 100,
    out: Annotated[Path, typer.Option(help="Directory of the contact sheets.")] = Path("outputs/evaluation"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Judge a model's films by their own frames and print the table."""
    from flickbook.learn.evaluate import main, table

    if not 1 <= prompts <= PROMPTS_LIMIT:
        raise RequestError("prompts", prompts, f"must be 1 to {PROMPTS_LIMIT}", "ask for a number in that range")
    found = main(model=model, prompts=prompts, out=out)
    if as_json:
        report.document(found)
    else:
        print(table(found))
