"""`flickbook inspect`: what a film is and how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flickbook.cli import console
from flickbook.errors import escaped


def inspect(
    file: Annotated[Path, typer.Argument(help="A film or picture that Flickbook wrote, or any other.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a film's format, and the recipe it carries."""
    from flickbook.formats import frame_paths, is_frames
    from flickbook.media.inspect import inspect as read

    found = read(frame_paths(file, 1)[0] if is_frames(file) else file)
    if as_json:
        console.document(found)
    else:
        _table(found, indent="")


def _table(values: dict[str, Any], indent: str) -> None:
    """`values` as lines "name: value"; what is inside a record is indented below its name."""
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
    # What stands in a file is a stranger's text: no line end or terminal escape of it may reach the terminal.
    return f"{value:g}" if isinstance(value, float) else escaped(str(value))
