"""`flickbook reproduce`: makes a film again from its recipe and compares the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flickbook.cli import console, options
from flickbook.cli.progress import ProgressLine
from flickbook.errors import OutputError, RequestError, escaped

File = Annotated[Path, typer.Argument(help="A film or image that Flickbook made.")]
Inputs = Annotated[
    list[Path] | None, typer.Option("--input", help="Input file of the recipe, matched by its hash; repeatable.")
]


def reproduce(
    file: File,
    inputs: Inputs = None,
    model_dir: options.ModelDir = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also save the reproduced film.")] = None,
    overwrite: options.Overwrite = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a film again and compare: exit code 0 identical, 10 visually equal, 11 different."""
    from flickbook import settings
    from flickbook.engine.reproduction.reproduce import reproduce as made_again

    console.start(settings.load().log_level)
    if model_dir is not None and not model_dir.is_dir():
        raise RequestError("model_dir", model_dir, "no such directory", "name a directory in diffusers' layout")
    if output is not None:
        from flickbook.media.write import check_target

        check_target(output, overwrite=overwrite)
        if output.suffix.lower() != file.suffix.lower():
            raise OutputError(output, f"the film is {file.suffix}", f"name it {output.stem}{file.suffix}")
    if model_dir is None:
        _require(file, yes)
    with ProgressLine() as progress:
        verdict = made_again(file, files=inputs or [], model_dir=model_dir, on_step=progress)
    if output is not None and verdict.clip is not None:
        verdict.clip.save(output, overwrite=overwrite)
        console.note(f"the reproduced film is {output}")
    if as_json:
        console.document(verdict.to_dict())
    else:
        # Text in a file is untrusted.
        print(escaped(verdict.line()))
    raise typer.Exit(verdict.exit_code)


def _require(file: Path, yes: bool) -> None:
    """Ensure that the model of a film's recipe is on this machine, if a model made the film."""
    from flickbook.cli.films.making import require_model
    from flickbook.media.embedded import carried
    from flickbook.spec import Plan

    recipe, _ = carried(file)
    if isinstance(recipe.plan, Plan):
        require_model(recipe.plan.model, None, yes)
