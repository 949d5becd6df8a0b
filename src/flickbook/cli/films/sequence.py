"""`flickbook sequence`: makes a film of related images from several prompts."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.films import output_path
from flickbook.cli.films.making import fields, require_model, tell
from flickbook.cli.progress import ProgressLine
from flickbook.errors import Cancelled, MissingExtra, RequestError

if TYPE_CHECKING:
    from flickbook.engine.films import RunOptions
    from flickbook.spec import Plan, Request

Prompts = Annotated[list[str], typer.Argument(help="Prompts in order.")]
FramesPer = Annotated[int, typer.Option(help="Frames per prompt.")]
Drift = Annotated[
    float, typer.Option(help="How far the noise changes from prompt to prompt, 0 to 1; more gives more motion.")
]
Feedback = Annotated[
    float,
    typer.Option(help="Denoising strength with which each frame starts from the previous one, 0 to 1; 0 turns it off."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File to write; name the same file to resume an interrupted sequence."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing files, and the frames of another sequence.")
]
Sheet = Annotated[Path | None, typer.Option(help="File of the contact sheet, .png; next to the film if unset.")]

#: Options that guide one film.
_GUIDES = ("last_image", "condition", "reference_image", "control_video", "control", "face_video", "mask")
#: The film options of a sequence: it begins from text only, and sets its frames per prompt.
FILM = {
    name: kind
    for name, kind in options.FILM.items()
    if name not in ("num_frames", "prompt_at", "image", "video", "latent_upsample", "strength", *_GUIDES)
}


@options.taking(film=FILM, encoding=options.ENCODING)
def sequence(
    film: Any,
    encoding: Any,
    prompts: Prompts,
    frames_per: FramesPer = 24,
    model_dir: options.ModelDir = None,
    speed: Annotated[
        str | None, typer.Option(help="Sampling speed: exact, balanced (faster) or turbo (few steps).")
    ] = None,
    drift: Drift = 0.3,
    feedback: Feedback = 0.0,
    precision: options.Precision = "auto",
    output: Output = None,
    overwrite: Overwrite = False,
    sheet: Sheet = None,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a film of related images from several prompts and print its path."""
    from flickbook import settings
    from flickbook.formats import FILMS
    from flickbook.spec import Request

    chosen = settings.load(model=film["model"])
    console.start(chosen.log_level)
    request_fields = fields({**dict.fromkeys(options.FILM), **film}, encoding, output) | {"model": chosen.model}
    request = Request.of(prompt="", **request_fields, speed=speed)
    if output is not None and request.container not in FILMS:
        raise RequestError("output", output.name, "must be a film format", "name it film.mp4")
    if model_dir is not None and not model_dir.is_dir():
        raise RequestError("model_dir", model_dir, "no such directory", "name a directory in diffusers' layout")
    from flickbook.engine.films import estimate_plan, located, run_options_of  # imported after the refusals: slow

    if film["lora"]:
        request = request.model_copy(update={"loras": located(film["lora"])})
    plan = _plan(prompts, request, frames_per, drift, feedback, model_dir, output)
    path = output_path.targets(output, chosen.output_dir, plan.prompt, [plan.seed], plan.container)[0]
    sheet = _sheet(sheet, path)
    _check(plan, path, sheet, overwrite)
    require_model(plan.model, model_dir, yes)
    run_options = run_options_of(plan, request, model_dir, precision)
    console.note(estimate_plan(plan, model_dir, precision).line())
    tell([_film(plan, run_options, path, sheet, overwrite)], as_json)


def pictures(path: Path) -> Path:
    """Return the directory of the images of the film at `path`: film-frames beside film.mp4."""
    return path.with_name(f"{path.stem}-frames")


def _plan(
    prompts: list[str],
    request: Request,
    frames_per: int,
    drift: float,
    feedback: float,
    model_dir: Path | None,
    output: Path | None,
) -> Plan:
    """Return the Plan. A seed that is not given is that of an unfinished sequence at `output`, if all else is equal."""
    from flickbook.engine.sequences.sequence import continued, plan_of

    plan = plan_of(prompts, request, frames_per=frames_per, drift=drift, feedback=feedback, model_dir=model_dir)
    return continued(plan, pictures(output)) if request.seed is None and output is not None else plan


def _sheet(sheet: Path | None, path: Path) -> Path | None:
    """Return the path of the sheet. By default there is one if matplotlib is installed."""
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise RequestError("sheet", sheet.name, "must end in .png", "name it sheet.png")
    if find_spec("matplotlib") is None:
        if sheet is not None:
            raise MissingExtra("matplotlib", "gen")
        return None
    return path.with_name(f"{path.stem}-sheet.png") if sheet is None else sheet


def _check(plan: Plan, path: Path, sheet: Path | None, overwrite: bool) -> None:
    """Refuse early what could not be written later."""
    from flickbook.engine.sequences.frame_directory import FrameDirectory

    output_path.check_plan(plan, [path], [] if sheet is None else [sheet], overwrite)
    FrameDirectory(pictures(path), plan).check(overwrite=overwrite)


def _film(plan: Plan, run_options: RunOptions, path: Path, sheet: Path | None, overwrite: bool) -> dict[str, Any]:
    """Make and save the film and its sheet; return the document to print. Its images are kept, whatever happens."""
    from flickbook.engine.sequences.sequence import made, prompts_of
    from flickbook.media.metrics.similarity import likeness
    from flickbook.media.plot import sequence_sheet
    from flickbook.spec import Step

    directory = pictures(path)
    output_path.announce([path])
    try:
        with ProgressLine() as progress:
            clip = made(plan, run_options, directory=directory, overwrite=overwrite, on_step=progress)
            began = time.perf_counter()
            clip.save(path, overwrite=overwrite)
            if sheet is not None:
                turns = [(0, plan.prompt), *plan.prompt_at]
                title = " → ".join(prompts_of(plan))
                sequence_sheet(clip.frames, turns, likeness(clip.frames), sheet, title=title, overwrite=overwrite)
            progress(Step("write", 1, 1, time.perf_counter() - began))
    except (KeyboardInterrupt, Cancelled):
        rest = f"run the same command with --output {path} to continue" if directory.is_dir() else ""
        raise Cancelled(rest) from None
    assert clip.run is not None
    for text in clip.run.notes:
        console.note(text)
    return {
        **console.made(path, clip.recipe, clip.run),
        "sheet": None if sheet is None else str(sheet),
        "pictures": str(directory),
    }
