"""`flickbook generate`: a sentence in, a film out."""

from __future__ import annotations

import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import options, report, target
from flickbook.cli.progress import ProgressLine
from flickbook.errors import MissingExtra, RequestError

if TYPE_CHECKING:
    from flickbook.engine.generate import Means
    from flickbook.settings import Settings
    from flickbook.spec import Plan, Request

COUNT_LIMIT = 1000


def generate(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help="What the film shows.")] = None,
    model: options.Model = None,
    model_dir: options.ModelDir = None,
    negative_prompt: options.NegativePrompt = None,
    num_frames: options.NumFrames = None,
    num_inference_steps: options.NumInferenceSteps = None,
    guidance_scale: options.GuidanceScale = None,
    fps: options.Fps = None,
    seed: options.Seed = None,
    size: options.Size = None,
    scheduler: options.Scheduler = None,
    prompt_at: options.PromptAt = None,
    image: options.Image = None,
    video: options.Video = None,
    strength: options.Strength = None,
    lora: options.Lora = None,
    precision: options.Precision = "auto",
    count: options.Count = 1,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    steps_sheet: Annotated[Path | None, typer.Option(help="Also write a PNG of the film emerging.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take, and whether it fits.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a film from a sentence and print its path."""
    from flickbook import settings

    chosen = settings.load(model=model)
    report.start(chosen.log_level)
    first, turns = _turns(prompt, prompt_at or [])
    asked = dict(
        prompt=_unprompted(context, chosen.model) if first is None else first,
        model=chosen.model,
        negative_prompt=negative_prompt,
        num_frames=num_frames,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        fps=fps,
        seed=seed,
        **options.size_of(size),
        scheduler=scheduler,
        prompt_at=turns,
        image=None if image is None else str(image),
        video=None if video is None else str(video),
        strength=strength,
        container=target.container_of(output),
    )
    # A LoRA is small; nothing is pulled only to say what a film takes.
    request, plans = _plans(asked, [] if dry_run else lora or [], count, model_dir)
    if dry_run:
        _foretell(plans[0], model_dir, precision, as_json)
        return
    paths = _paths(plans, chosen, output, steps_sheet, overwrite)
    clips = _films(plans, paths, overwrite, steps_sheet, _means(plans[0], request, model_dir, precision))
    _tell(clips, as_json)


def _tell(clips: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        report.document({"films": clips})
        return
    for clip in clips:
        print(clip["path"])


def _foretell(plan: Plan, model_dir: Path | None, precision: str, as_json: bool) -> None:
    """Print the Plan, and what its film takes of this machine."""
    from flickbook.engine.generate import foresee

    found = foresee(plan, model_dir, precision)
    if as_json:
        report.document({"plan": plan.model_dump(mode="json"), "estimate": found.to_dict()})
        return
    what = f"{plan.width}x{plan.height}, {plan.num_frames} frames at {plan.fps:g} a second"
    how = f"{plan.num_inference_steps} steps of {plan.scheduler}, guidance {plan.guidance_scale:g}"
    print(f"model     {plan.model} {plan.revision[:12]}", f"film      {what}, {how}", *found.lines(), sep="\n")


def _means(plan: Plan, request: Request, model_dir: Path | None, precision: str) -> Means:
    """What the films need beside their Plans; says on stderr what they will take. Raises HubError for missing files."""
    from flickbook.catalogue import find
    from flickbook.engine.generate import foresee, means_of
    from flickbook.hub.find import directory

    model = find(plan.model)
    directory(model if model_dir is None else model.at(model_dir))
    means = means_of(plan, request, model_dir, precision)
    report.note(foresee(plan, model_dir, precision).line())
    return means


def _turns(prompt: str | None, prompt_at: list[str]) -> tuple[str | None, tuple[tuple[int, str], ...] | None]:
    """The prompt of frame 0, if there is one, and those that follow: (16, "a sunset") of "16:a sunset"."""
    turns = []
    for each in prompt_at:
        frame, colon, text = each.partition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,6}", frame.strip()):
            raise RequestError("prompt_at", each, "must be FRAME:PROMPT", 'write for example 16:"a sunset"')
        turns.append((int(frame), text))
    first = [text for frame, text in turns if frame == 0] + ([] if prompt is None else [prompt])
    if len(first) > 1:
        raise RequestError("prompt_at", 0, "has two prompts", "give frame 0 one prompt, by --prompt-at or in front")
    return (first[0] if first else None), tuple(turn for turn in turns if turn[0]) or None


def _unprompted(context: typer.Context, model: str) -> str:
    """The empty prompt of a model that needs none. Raises BadParameter for the others."""
    from flickbook.catalogue import find

    if not find(model).prompted:
        return ""
    asked_for: Any = next(each for each in context.command.params if each.name == "prompt")
    raise typer.BadParameter("missing; say what the film shows.", ctx=context, param=asked_for)


def _plans(asked: dict[str, Any], loras: list[str], count: int, model_dir: Path | None) -> tuple[Request, list[Plan]]:
    """What is asked, and `count` Plans that differ in their seed only: the first seed, the next one, and so on."""
    from flickbook.resolution import resolve
    from flickbook.spec import Request

    if not 1 <= count <= COUNT_LIMIT:
        raise RequestError("count", count, f"must be 1 to {COUNT_LIMIT}", f"ask for 1 to {COUNT_LIMIT} films")
    if model_dir is not None and not model_dir.is_dir():
        raise RequestError("model_dir", model_dir, "no such directory", "name a directory in diffusers' layout")
    request = Request.of(**asked)
    if loras or asked["video"]:
        from flickbook.engine.beginning import complete
        from flickbook.engine.generate import located

        request = complete(request.model_copy(update={"loras": located(loras)}))
    first = resolve(request, model_dir)
    seeds = range(first.seed + 1, first.seed + count)
    return request, [first, *(resolve(request.model_copy(update={"seed": seed}), model_dir) for seed in seeds)]


def _paths(
    plans: list[Plan], chosen: Settings, output: Path | None, steps_sheet: Path | None, overwrite: bool
) -> list[Path]:
    """Where each Plan's film goes; refuses now what could not be written later."""
    first = plans[0]
    seeds = [plan.seed for plan in plans]
    paths = target.targets(output, chosen.output_dir, first.prompt, seeds, first.container)
    sheets = []
    if steps_sheet is not None:
        if steps_sheet.suffix.lower() != ".png":
            raise RequestError("steps_sheet", steps_sheet.name, "must end in .png", "name it steps.png")
        if find_spec("matplotlib") is None:
            raise MissingExtra("matplotlib", "gen")
        sheets = [steps_sheet]
    target.check(paths, first.num_frames, sheets, overwrite)
    return paths


def _films(
    plans: list[Plan], paths: list[Path], overwrite: bool, steps_sheet: Path | None, means: Means
) -> list[dict[str, Any]]:
    """Make and save the films one after the other; what to print about each. A film that is whole stays on Ctrl-C."""
    from flickbook.engine.generate import films
    from flickbook.spec import Step

    made: list[dict[str, Any]] = []
    emerging: list[tuple[int, Any]] = []
    with ProgressLine() as progress:

        def on_step(step: Step) -> None:
            # The sheet shows the first film; in a batch that is the first row of the preview.
            if step.preview is not None and not made:
                emerging.append((step.index, step.preview[0]))
            progress(step)

        clips = films(plans, means, on_step=on_step, previews=steps_sheet is not None)
        for plan, path, clip in zip(plans, paths, clips, strict=True):
            began = time.perf_counter()
            written = clip.save(path, overwrite=overwrite)
            progress(Step("write", 1, 1, time.perf_counter() - began))
            if steps_sheet is not None and not made:
                _write_sheet(plan, emerging, steps_sheet, overwrite, means)
            made.append(report.made(plan, written, clip))
    for text in dict.fromkeys(text for film in made for text in film["run"]["notes"]):
        report.note(text)
    return made


def _write_sheet(plan: Plan, emerging: list[tuple[int, Any]], path: Path, overwrite: bool, means: Means) -> None:
    from flickbook.engine.generate import steps_sheet

    if not emerging:
        report.note(f"{plan.model} shows no steps, so there is no sheet of them")
        return
    steps_sheet(plan, emerging, path, means=means, overwrite=overwrite)
    report.note(f"the steps are shown in {path}")
