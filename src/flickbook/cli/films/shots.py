"""Films of several shots: what `flickbook generate` does with a shot list instead of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flickbook.cli import console
from flickbook.cli.films.making import Extras, Making, films, paths_of, polish_of, require_model, tell
from flickbook.errors import RequestError

if TYPE_CHECKING:
    from flickbook.spec import Plan

#: Options of the whole film's sound.
_SOUND = ("audio", "audio_fit", "audio_fade")
#: Options of `flickbook generate` that belong to one film of one prompt.
_ALONE = ("num_frames", "prompt_at", "image", "video", "strength")


def is_shot_list(prompt: str) -> bool:
    """Whether a prompt is the path of a shot list."""
    return prompt.lower().endswith((".toml", ".json")) and "\n" not in prompt and Path(prompt).is_file()


def shoot(
    path: Path,
    film: Mapping[str, Any],
    encoding: Mapping[str, Any],
    extras: Extras,
    count: int,
    output: Path | None,
    overwrite: bool,
    steps_sheet: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the film of the shot list at `path` and print its path."""
    from flickbook import formats, settings
    from flickbook.engine.films import estimate_plan
    from flickbook.engine.rows import size_of
    from flickbook.engine.shots.film import run_options_for_shots
    from flickbook.engine.shots.plan import polished_plan, shooting
    from flickbook.engine.shots.shot_list import read

    refuse(film, extras, count, steps_sheet)
    quality = encoding["quality"]
    written = {**encoding, "quality": None if quality is None else formats.quality_of(quality)}
    written["container"] = None if output is None else formats.container_of(output)
    written |= {name: film[name] for name in _SOUND if film[name] is not None}
    without = (*_ALONE, *_SOUND, "size")
    common = {name: _plain(value) for name, value in film.items() if value is not None and name not in without}
    common |= size_of(film["size"]) | ({"lora": list(extras.loras)} if extras.loras else {})
    shots = read(path)
    shots = replace(shots, defaults={"model": settings.load().model, **shots.defaults})
    if dry_run:
        shots = shots.without("lora")  # a dry run downloads nothing, and LoRAs may have to be
    found = shooting(shots, {name: value for name, value in common.items() if name != "lora" or not dry_run}, written)
    request, networks = polish_of(found.request, found.plan, extras)
    plan = polished_plan(request, found.plan)
    networks = {**found.networks, **networks}
    if dry_run:
        _print(plan, extras, as_json)
        return
    paths = paths_of([plan], settings.load(), output, overwrite)
    for name in plan.models():
        require_model(name, None, extras.yes)
    run_options = replace(run_options_for_shots(plan, request, None, extras.precision), networks=networks)
    for shot in {shot.plan.model: shot.plan for shot in plan.shots}.values():
        console.note(estimate_plan(shot, None, extras.precision).line() + ", per shot")
    made = Making([plan], request, run_options, {}, extras, kind="shots")
    tell(films(made, paths, overwrite), as_json)


def _plain(value: Any) -> Any:
    """Return an option as a shot list has it: paths as text."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def refuse(film: Mapping[str, Any], extras: Extras, count: int, steps_sheet: Path | None) -> None:
    """Raise RequestError for the first option that does not apply to a film of several shots."""
    given = {name: film[name] for name in _ALONE} | {
        "count": None if count == 1 else count,
        "retry_below": list(extras.retry_below) or None,
        "steps_sheet": steps_sheet,
        "model_dir": extras.model_dir,
    }
    for name, value in given.items():
        if value is not None and value != []:
            remedy = "write it in the shot list" if name in _ALONE and name != "prompt_at" else "leave it out"
            raise RequestError(name, value, "does not apply to a film of several shots", remedy)


def _print(plan: Plan, extras: Extras, as_json: bool) -> None:
    """Print each shot and the resources that it needs."""
    from flickbook.engine.films import estimate_plan
    from flickbook.engine.polish import finished

    estimates = [estimate_plan(shot.plan, None, extras.precision) for shot in plan.shots]
    if as_json:
        found = [each.to_dict() for each in estimates]
        console.document({"plan": plan.model_dump(mode="json"), "estimates": found})
        return
    starts = [0, *(frame for frame, _ in plan.prompt_at)]
    for number, (start, shot, estimate) in enumerate(zip(starts, plan.shots, estimates, strict=True), 1):
        length, own = finished(shot.plan), shot.plan
        begins = ", begins from the shot before" if shot.begins else ""
        what = f"{start / plan.fps:6.2f} s  {length.num_frames} frames  {own.model}, seed {own.seed}{begins}"
        print(f"shot {number:<2}  {what}  {own.prompt}\n         {estimate.line()}")
    size = finished(plan)
    print(f"film     {size.num_frames / size.fps:.2f} s  {size.width}x{size.height}, {size.fps:g} frames per second")
