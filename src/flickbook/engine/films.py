"""Plans in, finished Clips out, the model kept warm between calls: what every face uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flickbook import catalogue, settings, windows
from flickbook.engine import sources as beginning
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.family import Sources
from flickbook.engine.memory import device, run_history
from flickbook.engine.memory.fit import Estimate, Machine, abreast, estimate
from flickbook.engine.polish import Networks, judged, libraries_of, polished, weights_of
from flickbook.engine.usage import Meter
from flickbook.media.background_encoder import Ahead
from flickbook.media.clip import Clip, frames_sha256
from flickbook.media.encode import streamed
from flickbook.media.write import frame_rate
from flickbook.spec import Placement, Plan, Recipe, Request, Step

if TYPE_CHECKING:
    from flickbook.engine.checkpoint import Checkpointer

OnStep = Callable[[Step], None]
#: The Plans of a batch -> what keeps their state while they run, None for nothing.
Keep = Callable[[Sequence[Plan]], "Checkpointer | None"]
#: The place of a film among its Plans -> whether anybody still wants it.
Wanted = Callable[[int], bool]

#: One engine for each model, its LoRAs and placement, warm for the life of the process.
_ENGINES: dict[tuple[object, ...], Engine] = {}


@dataclass(frozen=True)
class RunOptions:
    """What films need beside their Plans: where the model's files are if not where the catalogue says, LoRA files with
    their weights, the frames that films begin from, and the precision asked for; by SHA-256, the files of the networks
    that polish and the paths of what was given; a placement, where it must not be chosen here; how many films are made
    abreast, where that was decided before."""

    model_dir: Path | None = None
    loras: tuple[tuple[Path, float], ...] = ()
    sources: Sources = field(default_factory=dict)
    precision: str = "auto"
    networks: Networks = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    placement: Placement | None = None
    abreast: int | None = None


def films(
    plans: Sequence[Plan],
    run_options: RunOptions | None = None,
    *,
    on_step: OnStep | None = None,
    previews: bool = False,
    cancel: Callable[[], bool] | None = None,
    keep: Keep | None = None,
    ahead: bool = False,
    wanted: Wanted | None = None,
) -> Iterator[Clip]:
    """Make the films of `plans` in order; neighbours of one shape run together as far as the placement allows.

    With `ahead` frames are encoded while the next ones are decoded, for who saves films as their Plans say. `keep` is
    called once for each batch, for its Checkpointer: the batch continues from what that finds. A film is the same to
    the bit if its batch has as many Plans and `means` the placement of the first attempt. `wanted` is asked for each
    film, by its place among the Plans, once its batch is decoded: one that is not is not polished, nor given.
    """
    run_options, begun = run_options or RunOptions(), 0
    for _, group in groupby(plans, key=Plan.shape):
        same = list(group)
        engine, size = engine_of(same[0], run_options), together(same, run_options)
        for part in (same[first : first + size] for first in range(0, len(same), size)):
            checkpointer = None if keep is None else keep(part)
            # Sums are rounded in the order of the threads.
            kept = None if checkpointer is None else checkpointer.look(part)
            with nullcontext() if kept is None else device.threads(kept.made.get("threads")):
                asked = None if wanted is None else partial(_further, wanted, begun)
                yield from _batch(engine, part, run_options, on_step, previews, cancel, checkpointer, ahead, asked)
            begun += len(part)


def _further(wanted: Wanted, begun: int, number: int) -> bool:
    return wanted(begun + number)


def together(plans: Sequence[Plan], run_options: RunOptions) -> int:
    """How many films of one shape run at once: as was decided before, as the placement says, or as memory allows."""
    if run_options.abreast is not None:
        return run_options.abreast
    if run_options.placement is not None:
        return run_options.placement.batch
    if len(plans) == 1:
        return 1
    engine = engine_of(plans[0], run_options)
    return abreast(engine.model, plans[0], Machine.here(), engine.placement, len(plans), run_options.model_dir)


def foresee(plan: Plan, model_dir: Path | None = None, precision: str = "auto") -> Estimate:
    """What the film of a Plan takes of this machine, asked before a weight is loaded.

    Raises ModelNotFound, RequestError for a precision that this machine lacks, WeightsError for damaged files.
    """
    return estimate(catalogue.find(plan.model), plan, Machine.here(), precision, model_dir, run_history.read())


def engine_of(plan: Plan, run_options: RunOptions) -> Engine:
    """The process's engine for a Plan's model, placed as its first film fits. Raises what `foresee` raises."""
    model, key = _key(plan, run_options)
    if key not in _ENGINES:
        found = run_options.placement or foresee(plan, run_options.model_dir, run_options.precision).placement
        # Whoever says the placement says the threads too.
        threads = settings.load().threads if run_options.placement is None else None
        placed = device.confirmed(found, threads)
        # One that is warm and lies there already, whoever chose the place.
        warm = (each for other, each in _ENGINES.items() if other[:4] == key[:4] and _beside(each.placement, placed))
        engine = next(warm, None)
        if engine is None:
            # Two large models at once are more than most machines hold.
            _ENGINES.clear()
            engine = Engine(model, placed, run_options.loras)
        _ENGINES[key] = engine
    return _ENGINES[key]


def _key(plan: Plan, run_options: RunOptions) -> tuple[catalogue.Model, tuple[object, ...]]:
    """The model of a film, and all that decides its engine: first what is loaded, then what decides where."""
    model = catalogue.find(plan.model)
    if run_options.model_dir is not None:
        model = model.at(run_options.model_dir)
    where = (run_options.precision, run_options.placement, plan.speed)
    return model, (model.to_json(), plan.revision, plan.loras, run_options.loras, *where)


def read_ahead(plan: Plan, run_options: RunOptions) -> None:
    """Read the prompts of a film that comes next, if its model is warm: its run finds them read."""
    engine = _ENGINES.get(_key(plan, run_options)[1])
    if engine is not None:
        engine.read(plan)


def _beside(one: Placement, other: Placement) -> bool:
    """Whether two placements are one, however many films run at once."""
    return one == other.model_copy(update={"batch": one.batch})


def forget() -> None:
    """Let go of the models that are warm: the next film loads its own from the disk."""
    _ENGINES.clear()


def _batch(
    engine: Engine,
    plans: list[Plan],
    run_options: RunOptions,
    on_step: OnStep | None,
    previews: bool,
    cancel: Callable[[], bool] | None,
    checkpointer: Checkpointer | None,
    ahead: bool,
    wanted: Wanted | None,
) -> Iterator[Clip]:
    """The films of one batch, each polished when it is asked for."""
    plan, meter = plans[0], Meter(on_step)
    pixels = np.empty((len(plans), plan.num_frames, plan.height, plan.width, 3), np.uint8)
    encoders = [_encoder(each) if ahead else None for each in plans]
    # Closed at once: where `on_step` raises, a pipeline's thread must not live on.
    how: dict[str, Any] = {
        "sources": run_options.sources,
        "previews": previews,
        "cancel": cancel,
        "checkpointer": checkpointer,
    }
    with closing(engine.run(plans, **how)) as events, _ended(encoders):
        for event in events:
            if isinstance(event, Frames):
                made = pixels[event.film, event.start : event.start + len(event.frames)]
                made[:] = event.frames
                meter.shown()
                if (encoder := encoders[event.film]) is not None:
                    encoder.add(made)
            else:
                meter(event)
    applied = list(engine.applied)  # which another film may change before this one's is asked for
    told_of = checkpointer is not None and checkpointer.went_on is not None
    for number, (each, frames) in enumerate(zip(plans, pixels, strict=True)):
        if wanted is not None and not wanted(number):
            continue
        told = [*([] if checkpointer is None else checkpointer.notes), *filter(None, applied[number : number + 1])]
        clip = clip_of(each, engine, frames, meter, run_options, films=len(plans), notes=told)
        clip = replace(clip, ahead=encoders[number])
        # Of a film that went on, the run tells the time of its last part only.
        if not told_of:
            assert clip.recipe is not None and clip.run is not None
            told_of = True
            run_history.append(run_history.record(clip.recipe, clip.run, len(plans)))
        yield clip


def _encoder(plan: Plan) -> Ahead | None:
    """What encodes the film of a Plan as it comes; None where its file needs all of it at once."""
    how = plan.encoding()
    if how is None or not streamed(how) or not plan.polish.nothing():
        return None
    return Ahead(how, (plan.num_frames, plan.height, plan.width, 3), frame_rate(plan.fps))


@contextmanager
def _ended(encoders: Sequence[Ahead | None]) -> Iterator[None]:
    """However a run ends, its encoders do not wait for more."""
    try:
        yield
    finally:
        for encoder in filter(None, encoders):
            encoder.end()


def clip_of(
    plan: Plan,
    engine: Engine,
    frames: np.ndarray,
    meter: Meter,
    run_options: RunOptions,
    *,
    films: int = 1,
    **told: Any,
) -> Clip:
    """The Clip of the `frames` that an engine just made, polished: its recipe, and its run with what else is `told`."""
    frames, fps = polished(frames, plan.fps, plan.polish, run_options.networks, meter)
    placement = engine.placement.model_copy(update={"batch": films})
    recipe = Recipe(
        plan=plan,
        placement=placement,
        weights=engine.weights | weights_of(plan.polish),
        frames_sha256=frames_sha256(frames),
        versions=device.versions((*engine.libraries, *libraries_of(plan.polish))),
        device_name=device.device_name(placement.device),
        kernels=device.kernels(placement.device),
    )
    prompts = [plan.prompt, *(text for _, text in plan.prompt_at)]
    found, said = judged(frames, fps, plan.polish, _seams(plan), prompts)
    found |= _agreement(plan, frames) | told.pop("scores", {})
    notes = [*engine.notes(prompts), *told.pop("notes", []), *said]
    run = meter.run(rungs=list(placement.rungs), notes=notes, scores=found, inputs=dict(run_options.inputs), **told)
    return Clip(frames, fps, recipe, run)


def _seams(plan: Plan) -> list[int]:
    """Where the windows of a long film begin, unless its frames were moved since."""
    return (
        windows.starts(plan.num_frames, plan.window, stride=plan.stride)[1:]
        if plan.window and plan.polish.nothing()
        else []
    )


def _agreement(plan: Plan, frames: np.ndarray) -> dict[str, float]:
    """Whether a film shows what its prompt asks for, where a detector reads it."""
    if plan.model != "builtin" or plan.prompt_at:
        return {}
    from flickbook.world.agreement import agreement  # the world's words take a moment to load

    shown = agreement(plan.prompt, frames)
    return {} if shown is None else {"agreement": shown}


def steps_sheet(
    plan: Plan,
    emerging: Sequence[tuple[int, Any, Any]],
    path: Path,
    *,
    run_options: RunOptions | None = None,
    overwrite: bool = False,
    rows: int = 6,
) -> Path:
    """Write a PNG of a film emerging from noise: x_t and x0 after some of its steps, both decoded.

    `emerging` holds (step, x0 estimate, x_t or None), both (channels, frames, h, w), of the film that this process just
    made from `plan`; `rows` of them are shown. Raises OutputError for the path, MissingExtra without matplotlib.
    """
    from flickbook.media import plot

    engine = engine_of(plan, run_options or RunOptions())
    count = min(rows, len(emerging))
    # Early steps decide most, so they are shown closer together.
    places = sorted({round((len(emerging) - 1) * (i / max(1, count - 1)) ** 1.5) for i in range(count)})
    chosen = [emerging[i] for i in places]
    # A film that began from something took the last steps only.
    left = engine.noise_left(plan.num_inference_steps)[-emerging[-1][0] :]
    steps = [step for step, _, _ in chosen]
    pictures, levels = [engine.show(x0) for _, x0, _ in chosen], [left[step - 1] for step in steps]
    noisy = [engine.show(x_t) for _, _, x_t in chosen if x_t is not None]
    how: dict[str, Any] = {"title": plan.prompt, "rows": rows, "overwrite": overwrite}
    return plot.steps_sheet(pictures, steps, levels, path, noisy=noisy if len(noisy) == len(chosen) else (), **how)


def located(loras: Sequence[str]) -> tuple[tuple[str, float], ...] | None:
    """Files and weights of LoRAs named "PATH_OR_REPO[:weight]", pulled if need be. Raises RequestError, HubError."""
    if not loras:
        return None
    from flickbook.engine.lora.find import locate  # the hub's library takes a moment to load

    return tuple((str(path), weight) for path, weight in map(locate, loras))


def run_options_of(plan: Plan, request: Request, model_dir: Path | None = None, precision: str = "auto") -> RunOptions:
    """What the film of `plan`, resolved from `request`, needs beside it. Raises MediaError, RequestError."""
    loras = tuple((Path(path), weight) for path, weight in request.loras or ())
    given = {plan.image: request.image, plan.video: request.video}
    given |= {lora.sha256: str(path) for lora, (path, _) in zip(plan.loras, loras, strict=True)}
    inputs = {digest: str(Path(path).absolute()) for digest, path in given.items() if digest and path is not None}
    return RunOptions(model_dir, loras, beginning.sources(plan, request), precision, inputs=inputs)
