"""`flickbook models`: what can be run, and what it can be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import report

if TYPE_CHECKING:
    from flickbook.catalogue import Model, Real, Whole

app = typer.Typer(help="List and describe the models.", no_args_is_help=True, rich_markup_mode=None)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the models, one a line."""
    from flickbook.catalogue import list_models

    models = list_models()
    if as_json:
        report.document({"models": [_document(model) for model in models]})
        return
    widest = max(len(model.name) for model in models)
    for model in models:
        print(f"{model.name:<{widest}}  {model.summary}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A name of `flickbook models list`.")], as_json: AsJson = False
) -> None:
    """Describe one model: its sizes, limits and defaults."""
    from flickbook.catalogue import find

    model = find(name)
    if as_json:
        report.document(_document(model))
        return
    sizes = ", ".join(f"{width}x{height}" for width, height in model.sizes)
    rows = {
        "title": model.title,
        "summary": model.summary,
        "revision": model.revision(),
        "licence": model.licence,
        "size": sizes,
        "num_frames": _range(model.num_frames),
        "num_inference_steps": _range(model.num_inference_steps),
        "guidance_scale": _range(model.guidance_scale),
        "fps": _range(model.fps),
        "scheduler": f"{', '.join(model.schedulers)}; {model.schedulers[0]} if unset",
        "memory": f"about {model.memory_gib:g} GiB for one film on a CPU",
    }
    for field, value in rows.items():
        print(f"{field:<20} {value}")


def _range(allowed: Whole | Real) -> str:
    smallest, largest = allowed.range
    return f"{smallest:g} to {largest:g}; {allowed.default:g} if unset"


def _document(model: Model) -> dict[str, Any]:
    return {**model.model_dump(mode="json"), "revision": model.revision()}
