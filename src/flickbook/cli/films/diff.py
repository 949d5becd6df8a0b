"""`flickbook diff`: shows the differences between the recipes of two films."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.errors import escaped

_LONG = 60


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A film or image that Flickbook made.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another film or image.")],
    as_json: options.AsJson = False,
) -> None:
    """Show the differences between the recipes of two films."""
    from flickbook.engine.reproduction.compare import differences
    from flickbook.media.embedded import carried

    found = differences(carried(first)[0], carried(second)[0])
    if as_json:
        console.document({"differences": [{"field": name, "a": a, "b": b} for name, (a, b) in found.items()]})
        return
    if not found:
        print("the recipes are equal")
    for name, values in found.items():
        print(f"{escaped(name)}: {' -> '.join(map(_shown, values))}")


def _shown(value: Any) -> str:
    text = "nothing" if value is None else escaped(str(value))
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
