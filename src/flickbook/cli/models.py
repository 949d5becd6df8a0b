"""`flickbook models`: lists, describes, downloads, adds and converts models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.pulling import PullProgress
from flickbook.errors import RequestError

if TYPE_CHECKING:
    from flickbook.catalogue import Model, Real, Whole

app = typer.Typer(help="List, describe, download and add models.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="Name of a model, as shown by `flickbook models list`.")]


@app.command("list")
def list_(as_json: options.AsJson = False) -> None:
    """List the models, one per line, with their recommended steps and guidance."""
    from flickbook.catalogue import list_models
    from flickbook.hub.find import found

    models = list_models()
    if as_json:
        console.document([_document(model) for model in models])
        return
    widest = max(len(model.name) for model in models)
    for model in models:
        steps, guidance = model.recommended.num_inference_steps, model.recommended.guidance_scale
        advice = f"{steps:>2} steps, guidance {guidance:g}"
        print(f"{model.name:<{widest}}  {'here' if found(model) else '    '}  {advice:<22}  {model.summary}")


@app.command("show")
def show(name: Name, as_json: options.AsJson = False) -> None:
    """Describe one model: its files, sizes, limits and defaults, and where its figures come from."""
    from flickbook.catalogue import find
    from flickbook.hub.find import found

    model = find(name)
    if as_json:
        console.document(_document(model))
        return
    sizes = ", ".join(f"{width}x{height}" for width, height in model.sizes)
    if model.sides is not None:
        smallest, largest = model.sides.range
        sizes += f"; any multiple of {model.sides.multiple} from {smallest} to {largest}"
    memory = ", ".join(f"{gib:g} GiB in {precision}" for precision, gib in model.memory_gib.items())
    rows = {
        "title": model.title,
        "summary": model.summary,
        "files": f"here, in {place}" if (place := found(model)) else f"not here: `flickbook models pull {model.name}`",
        "repo": model.repo or "none",
        "revision": model.revision(),
        "pipeline": model.pipeline or "Flickbook's own",
        "base": model.base or "none",
        "licence": model.licence,
        "commercial": model.commercial,
        "gated": "yes, HF_TOKEN is needed" if model.gated else "no",
        "good_at": model.good_at,
        "faults": model.faults,
        "inputs": ", ".join(model.inputs) if model.prompted else f"{', '.join(model.inputs)}; takes no prompt",
        "accepts": ", ".join(model.accepts) or "none",
        "camera": "moves as the prompt says" if model.camera else "not by words",
        "strength": _range(model.strength) if model.strength is not None else "none",
        "size": sizes,
        "num_frames": _range(model.num_frames),
        "num_inference_steps": _range(model.num_inference_steps),
        "guidance_scale": _range(model.guidance_scale),
        "fps": _range(model.fps),
        "negative_prompt": model.negative_prompt or "none",
        "recommended": model.advice(),
        "scheduler": f"{', '.join(model.schedulers)}; {model.schedulers[0]} if unset",
        "parameters": f"{model.parameters:g} billion",
        "download_gb": f"{model.download_gb:g}",
        "memory_gib": memory,
        "instead": model.bigger,
    }
    figures = ("num_frames", "num_inference_steps", "guidance_scale", "parameters", "download_gb", "memory_gib")
    for field, value in rows.items():
        source = model.seen.get(field, "believed" if field in figures else "")
        print(f"{field:<20} {value}{f'   ({source})' if source else ''}")


@app.command("pull")
def pull(name: Name) -> None:
    """Download a model's files, resuming an interrupted download, and print their directory."""
    from flickbook.catalogue import find
    from flickbook.hub.fetch import fetch

    model = find(name)
    directory = fetch(model, PullProgress(model.name))
    print(directory)


@app.command("verify")
def verify(name: Name, as_json: options.AsJson = False) -> None:
    """Hash a model's files again and print each with its SHA-256."""
    from flickbook.catalogue import find
    from flickbook.hub.find import directory
    from flickbook.hub.manifest import fingerprint

    found = fingerprint(directory(find(name)))
    if as_json:
        console.document(found)
        return
    for path, digest in found.items():
        print(f"{digest}  {path}")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name of the new model.")],
    source: Annotated[str, typer.Argument(help="A repository, owner/name, or a directory in diffusers' layout.")],
    like: Annotated[str, typer.Option(help="Model whose limits and defaults to copy.")] = "",
) -> None:
    """Add your own model to the list of this machine."""
    from flickbook import catalogue
    from flickbook.hub.add import describe

    catalogue.add(describe(name, source, like))
    print(name)


@app.command("remove")
def remove(name: Name) -> None:
    """Remove an added model from the list of this machine; its files are kept."""
    from flickbook import catalogue

    print(catalogue.remove(name).name)


@app.command("convert")
def convert(
    source: Annotated[
        Path, typer.Argument(help="A checkpoint, or a directory in diffusers' layout that contains checkpoints.")
    ],
    output: Annotated[Path, typer.Option(help="Safetensors file or directory to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Convert checkpoints to safetensors without executing them, and print the files written."""
    from flickbook.errors import OutputError
    from flickbook.hub import checkpoint, fetch

    if output.exists() and not overwrite:
        raise OutputError(output, "exists already", "choose another name or add --overwrite")
    if source.is_dir():
        print(fetch.convert_parts(source, output))
        return
    if output.suffix != ".safetensors":
        raise RequestError("output", output.name, "must end in .safetensors", "name it model.safetensors")
    with checkpoint.Checkpoint(source) as opened:
        print(checkpoint.convert(opened, output))


def _range(allowed: Whole | Real) -> str:
    smallest, largest = allowed.range
    every = getattr(allowed, "every", 1)
    steps = f" in steps of {every}" if every > 1 else ""
    return f"{smallest:g} to {largest:g}{steps}; {allowed.default:g} if unset"


def _document(model: Model) -> dict[str, Any]:
    from flickbook.hub.find import found

    return {**model.model_dump(mode="json"), "revision": model.revision(), "here": found(model) is not None}
