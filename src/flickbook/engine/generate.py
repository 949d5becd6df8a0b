"""The library's call, and what every face uses: Plans in, finished Clips out, the model kept warm between calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from flickbook import catalogue, settings
from flickbook.engine import beginning, place, records
from flickbook.engine.engine import Engine, Event, Frames
from flickbook.engine.family import Sources
from flickbook.engine.fit import Estimate, Machine, estimate
from flickbook.media import plot
from flickbook.media.clip import Clip, frames_sha256
from flickbook.resolution import resolve
from flickbook.spec import Plan, Recipe, Request, Run, Step

OnStep = Callable[[Step], None]

#: One engine for each model, its LoRAs and precision, warm for the life of the process.
_ENGINES: dict[tuple[object, ...], Engine] = {}


@dataclass(frozen=True)
class Means:
    """What films need beside their Plans: where the model's files are if not where the catalogue says, LoRA files with
    their weights, the frames that films begin from, and the precision asked for."""

    model_dir: Path | None = None
    loras: tuple[tuple[Path, float], ...] = ()
    sources: Sources = field(default_factory=dict)
    precision: str = "auto"


def films(
    plans: Sequence[Plan],
    means: Means | None = None,
    *,
    on_step: OnStep | None = None,
    previews: bool = False,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Clip]:
    """Make the films of `plans` in order; neighbours of one shape run together as far as the placement allows."""
    means = means or Means()
    for _, group in groupby(plans, key=Plan.shape):
        same = list(group)
        engine = engine_of(same[0], means)
        size = engine.placement.batch
        for part in (same[first : first + size] for first in range(0, len(same), size)):
            # Closed at once: where `on_step` raises, a pipeline's thread must not live on.
            with closing(engine.run(part, sources=means.sources, previews=previews, cancel=cancel)) as events:
                clips = _batch(engine, part, events, on_step)
            yield from clips


def foresee(plan: Plan, model_dir: Path | None = None, precision: str = "auto") -> Estimate:
    """What the film of a Plan takes of this machine, asked before a weight is loaded.

    Raises ModelNotFound, RequestError for a precision that this machine lacks, WeightsError for damaged files.
    """
    return estimate(catalogue.find(plan.model), plan, Machine.here(), precision, model_dir, records.read())


def engine_of(plan: Plan, means: Means) -> Engine:
    """The process's engine for a Plan's model, placed as its first film fits. Raises what `foresee` raises."""
    model = catalogue.find(plan.model)
    if means.model_dir is not None:
        model = model.at(means.model_dir)
    key = (model.to_json(), plan.revision, plan.loras, means.loras, means.precision)
    if key not in _ENGINES:
        # Two large models at once are more than most machines hold.
        _ENGINES.clear()
        found = foresee(plan, means.model_dir, means.precision).placement
        _ENGINES[key] = Engine(model, place.confirmed(found, settings.load().threads), means.loras)
    return _ENGINES[key]


def _batch(engine: Engine, plans: list[Plan], events: Iterator[Event], on_step: OnStep | None) -> list[Clip]:
    plan, began = plans[0], time.time()
    pixels = np.empty((len(plans), plan.num_frames, plan.height, plan.width, 3), np.uint8)
    seconds: dict[str, float] = {}
    for event in events:
        if isinstance(event, Frames):
            pixels[event.film, event.start : event.start + len(event.frames)] = event.frames
        else:
            seconds[event.phase] = event.seconds
            if on_step is not None:
                on_step(event)
    run = run_of(seconds, began)
    clips = [clip_of(plan, engine, frames, run) for plan, frames in zip(plans, pixels, strict=True)]
    assert clips[0].recipe is not None
    records.append(records.record(clips[0].recipe, run, len(plans)))
    return clips


def clip_of(plan: Plan, engine: Engine, frames: np.ndarray, run: Run) -> Clip:
    """The Clip of what an engine just made: its recipe, and the run with the engine's notes before its own."""
    recipe = Recipe(
        plan=plan,
        placement=engine.placement,
        weights=engine.weights,
        frames_sha256=frames_sha256(frames),
        versions=place.versions(engine.libraries),
        device_name=place.device_name(engine.placement.device),
    )
    notes = engine.notes(" ".join([plan.prompt, *(text for _, text in plan.prompt_at)]))
    return Clip(frames, plan.fps, recipe, run.model_copy(update={"notes": [*notes, *run.notes]}))


def run_of(seconds: dict[str, float], began: float, **told: Any) -> Run:
    """The Run that began at `began` (seconds since 1970) and ends now; `told` are its other fields."""
    first, last = (datetime.fromtimestamp(each, UTC).isoformat(timespec="seconds") for each in (began, time.time()))
    peak = place.peak_memory()
    return Run(seconds=seconds, peak_memory_bytes=peak, started_at=first, finished_at=last, **told)


def steps_sheet(
    plan: Plan,
    emerging: Sequence[tuple[int, Any]],
    path: Path,
    *,
    means: Means | None = None,
    overwrite: bool = False,
    rows: int = 8,
) -> Path:
    """Write a PNG of a film emerging from noise.

    `emerging` holds (step, x0 estimate (channels, frames, h, w)) of the film that this process just made from `plan`;
    `rows` of them are shown. Raises OutputError for the path, MissingExtra without matplotlib.
    """
    engine = engine_of(plan, means or Means())
    count = min(rows, len(emerging))
    # Early steps decide most, so they are shown closer together.
    places = sorted({round((len(emerging) - 1) * (i / max(1, count - 1)) ** 1.5) for i in range(count)})
    chosen = [emerging[i] for i in places]
    # A film that began from something took the last steps only.
    left = engine.noise_left(plan.num_inference_steps)[-emerging[-1][0] :]
    steps = [step for step, _ in chosen]
    pictures, levels = [engine.show(x0) for _, x0 in chosen], [left[step - 1] for step in steps]
    return plot.steps_sheet(pictures, steps, levels, path, title=plan.prompt, rows=rows, overwrite=overwrite)


def generate(
    prompt: str = "",
    *,
    model: str | None = None,
    negative_prompt: str | None = None,
    num_frames: int | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    fps: float | None = None,
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    scheduler: str | None = None,
    prompt_at: Sequence[tuple[int, str]] | None = None,
    image: str | Path | None = None,
    video: str | Path | None = None,
    strength: float | None = None,
    lora: str | Sequence[str] | None = None,
    precision: str = "auto",
    model_dir: str | Path | None = None,
    on_step: OnStep | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Clip:
    """One film from a sentence.

    `width` and `height` in pixels, `fps` in frames a second, `seed` 0 to 2**63 - 1 (drawn if None); whatever is None
    is the model's choice. `prompt_at` holds prompts that follow the first, each with the frame it begins at. `image` or
    `video` is the file that the film begins from, and `strength`, 0 to 1, how much of it is made anew. `lora` names
    additions to the weights, each a file or a repository and after a colon its weight. `precision` is auto, fp32, bf16,
    fp16, fp8 or int8. `model_dir` is where the model's files are, if not where the catalogue says. `on_step` is
    called with every Step; when `cancel`, asked between steps, says yes, Cancelled is raised. `num_frames=1` makes a
    still. The model stays warm for the next call.

    Raises RequestError (also ModelNotFound, SchedulerMismatch) for what the model cannot make, MediaError for an image
    or a video that cannot be read, HubError for a model that was not pulled, WeightsError for damaged files.
    """
    request = Request.of(
        prompt=prompt,
        model=model or settings.load().model,
        negative_prompt=negative_prompt,
        num_frames=num_frames,
        num_inference_steps=num_inference_steps,
        guidance_scale=None if guidance_scale is None else float(guidance_scale),
        fps=None if fps is None else float(fps),
        seed=seed,
        width=width,
        height=height,
        scheduler=scheduler,
        prompt_at=None if prompt_at is None else tuple((frame, text) for frame, text in prompt_at),
        image=None if image is None else str(image),
        video=None if video is None else str(video),
        strength=None if strength is None else float(strength),
        loras=located([lora] if isinstance(lora, str) else lora or ()),
    )
    home = None if model_dir is None else Path(model_dir)
    request = beginning.complete(request)
    plan = resolve(request, home)
    return next(films([plan], means_of(plan, request, home, precision), on_step=on_step, cancel=cancel))


def located(loras: Sequence[str]) -> tuple[tuple[str, float], ...] | None:
    """Files and weights of LoRAs named "PATH_OR_REPO[:weight]", pulled if need be. Raises RequestError, HubError."""
    if not loras:
        return None
    from flickbook.engine.lora_find import locate

    return tuple((str(path), weight) for path, weight in map(locate, loras))


def means_of(plan: Plan, request: Request, model_dir: Path | None = None, precision: str = "auto") -> Means:
    """What the film of `plan`, resolved from `request`, needs beside it. Raises MediaError, RequestError."""
    loras = tuple((Path(path), weight) for path, weight in request.loras or ())
    return Means(model_dir, loras, beginning.sources(plan, request), precision)
