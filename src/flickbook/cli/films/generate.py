"""`flickbook generate`: makes a film from a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.films.making import Extras, fields, films, making, paths_of, prepared, tell
from flickbook.cli.films.shots import is_shot_list, shoot
from flickbook.engine.rows import turns_of

if TYPE_CHECKING:
    from flickbook.spec import Plan


@options.taking(film=options.FILM, polish=options.FINISH, encoding=options.ENCODING)
def generate(
    context: typer.Context,
    film: Any,
    polish: Any,
    encoding: Any,
    prompt: Annotated[str | None, typer.Argument(help="Description of the film.")] = None,
    model_dir: options.ModelDir = None,
    precision: options.Precision = "auto",
    retry_below: options.RetryBelow = None,
    retries: options.Retries = 0,
    count: options.Count = 1,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    steps_sheet: Annotated[Path | None, typer.Option(help="Also write a PNG of the denoising steps.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the memory and time that the film needs; make nothing.")
    ] = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a film from a prompt and print its path."""
    from flickbook import settings
    from flickbook.resolution import notes
    from flickbook.spec import Request

    chosen = settings.load(model=film["model"])
    console.start(chosen.log_level)
    if prompt is not None and is_shot_list(prompt):
        extras = Extras(polish, film["lora"] or [], model_dir, precision, retry_below or [], retries, yes)
        shoot(Path(prompt), film, encoding, extras, count, output, overwrite, steps_sheet, dry_run, as_json)
        return
    first, turns = turns_of(prompt, film["prompt_at"] or [])
    request_fields = fields(film, encoding, output) | {"model": chosen.model, "prompt_at": turns}
    request = Request.of(prompt=_unprompted(context, chosen.model) if first is None else first, **request_fields)
    # A LoRA is small; a dry run downloads nothing.
    loras = [] if dry_run else film["lora"] or []
    extras = Extras(polish, loras, model_dir, precision, retry_below or [], retries, yes)
    request, plans, networks = prepared(request, extras, count)
    if dry_run:
        for text in notes(request, plans[0], model_dir):
            console.note(text)
        _print_estimate(plans[0], model_dir, precision, as_json)
        return
    paths = paths_of(plans, chosen, output, overwrite, steps_sheet, bool(retry_below))
    made = making(request, plans, networks, extras)
    tell(films(made, paths, overwrite, steps_sheet), as_json)


def _print_estimate(plan: Plan, model_dir: Path | None, precision: str, as_json: bool) -> None:
    """Print the Plan and the resources that its film needs."""
    from flickbook.engine.films import estimate_plan

    found = estimate_plan(plan, model_dir, precision)
    if as_json:
        console.document({"plan": plan.model_dump(mode="json"), "estimate": found.to_dict()})
        return
    what = f"{plan.width}x{plan.height}, {plan.num_frames} frames at {plan.fps:g} per second"
    sampling = f"{plan.num_inference_steps} steps of {plan.scheduler}, guidance {plan.guidance_scale:g}"
    sampling += f", latents doubled ({plan.latent_upsample})" if plan.latent_upsample else ""
    print(f"model     {plan.model} {plan.revision[:12]}", f"film      {what}, {sampling}", *found.lines(), sep="\n")


def _unprompted(context: typer.Context, model: str) -> str:
    """Return the empty prompt for a model that needs none. Raises BadParameter for other models."""
    from flickbook.catalogue import find

    if not find(model).prompted:
        return ""
    parameter: Any = next(each for each in context.command.params if each.name == "prompt")
    raise typer.BadParameter("missing; describe the film", ctx=context, param=parameter, param_hint="PROMPT")
