"""`flickbook inspect`: shows the metadata and the recipe of a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.errors import escaped


def inspect(
    file: Annotated[Path, typer.Argument(help="Any film or image; those of Flickbook carry a recipe.")],
    as_json: options.AsJson = False,
) -> None:
    """Show the metadata and the recipe of a film."""
    from flickbook.formats import first_frame, is_frames
    from flickbook.media.inspect import inspect as read

    found = read(first_frame(file) if is_frames(file) else file)
    if as_json:
        console.document(found)
    else:
        _table(found if found["audio"] is not None or found["frames"] == 1 else found | {"audio": "none"}, indent="")


def _table(values: dict[str, Any], indent: str) -> None:
    """Print `values` as lines "name: value"; nested records are indented below their name."""
    for name, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{escaped(name)}:")
            _table(value, indent + "  ")
        elif isinstance(value, list):
            for each in value:
                print(f"{indent}{escaped(name)}: {escaped(str(each))}")
        elif value is not None:
            print(f"{indent}{escaped(name)}: {_shown(value)}")


def _shown(value: Any) -> str:
    # Text in a file is untrusted: its line ends and terminal escapes must not reach the terminal.
    return f"{value:g}" if isinstance(value, float) else escaped(str(value))
