"""`flickbook rerun`: makes a variation of an existing film."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.films.making import Extras, fields, films, making, paths_of, prepared, tell
from flickbook.cli.films.reproduce import File, Inputs
from flickbook.engine.rows import turns_of


@options.taking(film=options.FILM, polish=options.FINISH, encoding=options.ENCODING)
def rerun(
    file: File,
    film: Any,
    polish: Any,
    encoding: Any,
    prompt: Annotated[str | None, typer.Option(help="New prompt.")] = None,
    inputs: Inputs = None,
    model_dir: options.ModelDir = None,
    precision: options.Precision = "auto",
    retry_below: options.RetryBelow = None,
    retries: options.Retries = 0,
    count: options.Count = 1,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a variation of an existing film with the given changes, and print its path."""
    from flickbook import settings
    from flickbook.engine.films import located
    from flickbook.engine.reproduction.rerun import varied

    chosen = settings.load()
    console.start(chosen.log_level)
    first, turns = turns_of(prompt, film["prompt_at"] or [])
    changes = fields(film, encoding, output) | {"prompt": first, "prompt_at": turns}
    changes["loras"] = located(film["lora"] or []) or None
    request, found = varied(file, changes, inputs or [])
    extras = Extras(polish, film["lora"] or [], model_dir, precision, retry_below or [], retries, yes)
    request, plans, networks = prepared(request, extras, count)
    paths = paths_of(plans, chosen, output, overwrite)
    made = making(request, plans, {**found, **networks}, extras)
    tell(films(made, paths, overwrite), as_json)
