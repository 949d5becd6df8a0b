"""Makes films: Plans in, finished Clips out, with the model kept loaded between calls. All interfaces use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flickbook import catalogue, conditioning, settings, windows
from flickbook.engine import sources as beginning
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.family import Sources
from flickbook.engine.kept_latents import KeptLatents
from flickbook.engine.memory import device, run_history
from flickbook.engine.memory.fit import Estimate, Machine, batch_size, estimate
from flickbook.engine.polish import Networks, libraries_of, polished, scored, weights_of
from flickbook.engine.soundtrack import Tracks, soundtrack
from flickbook.engine.soundtrack import tracks as tracks_of
from flickbook.engine.usage import Meter
from flickbook.errors import RequestError
from flickbook.media.background_encoder import Ahead
from flickbook.media.clip import Clip, frames_sha256, unheard
from flickbook.media.encode import streamed
from flickbook.media.sound import mix
from flickbook.media.sound.samples import Sound
from flickbook.media.write import frame_rate
from flickbook.spec import Placement, Plan, Recipe, Request, Step

if TYPE_CHECKING:
    from flickbook.engine.checkpoint import Checkpointer

OnStep = Callable[[Step], None]
#: The Plans of a batch -> the Checkpointer that saves their state, or None.
Keep = Callable[[Sequence[Plan]], "Checkpointer | None"]
#: The index of a film among its Plans -> whether it is still wanted.
FilmFilter = Callable[[int], bool]

#: Loaded engines by model, LoRAs and placement; they live as long as the process.
_ENGINES: dict[tuple[object, ...], Engine] = {}


@dataclass(frozen=True)
class RunOptions:
    """What films need in addition to their Plans.

    `model_dir` is the directory of the model's files, if not the catalogue's; `loras` are files with weights; `sources`
    are the frames that films start from, `tracks` the sounds under them. `networks` (of the polish) and `inputs` (paths
    of input files) are keyed by SHA-256. `placement` overrides the automatic choice, `batch_size` the number of films
    made at the same time.
    """

    model_dir: Path | None = None
    loras: tuple[tuple[Path, float], ...] = ()
    sources: Sources = field(default_factory=dict)
    precision: str = "auto"
    networks: Networks = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    placement: Placement | None = None
    batch_size: int | None = None
    tracks: Tracks = field(default_factory=dict)

    def merged(self, others: Sequence[RunOptions]) -> RunOptions:
        """These run options with the sources, tracks and networks of `others` too, for films that run together."""
        sources, networks, tracks = dict(self.sources), dict(self.networks), dict(self.tracks)
        for each in others:
            sources |= each.sources
            networks |= each.networks
            tracks |= each.tracks
        return replace(self, sources=sources, networks=networks, tracks=tracks)


def films(
    plans: Sequence[Plan],
    run_options: RunOptions | None = None,
    *,
    on_step: OnStep | None = None,
    previews: bool = False,
    cancel: Callable[[], bool] | None = None,
    keep: Keep | None = None,
    ahead: bool = False,
    film_filter: FilmFilter | None = None,
) -> Iterator[Clip]:
    """Make the films of `plans` in order. Neighbours of one shape run as one batch, as far as the placement allows.

    With `ahead`, frames are encoded to the Plans' file formats while later ones are decoded; use it if the films are
    saved. `keep` is called once for each batch and returns its Checkpointer; the batch resumes from what that finds. A
    resumed film is identical to the bit if its batch has as many Plans and the placement of the first attempt.
    `film_filter` is called with each film's index once its batch is decoded; if it returns False, the film is neither
    polished nor yielded.
    """
    run_options, offset = run_options or RunOptions(), 0
    for _, group in groupby(plans, key=Plan.shape):
        same = list(group)
        engine, size = engine_of(same[0], run_options), together(same, run_options)
        for part in (same[first : first + size] for first in range(0, len(same), size)):
            checkpointer = None if keep is None else keep(part)
            # The number of threads decides the order in which sums are rounded.
            kept = None if checkpointer is None else checkpointer.look(part)
            with nullcontext() if kept is None else device.threads(kept.made.get("threads")):
                yield from _batch(
                    engine, part, run_options, on_step, previews, cancel, checkpointer, ahead, film_filter, offset
                )
            offset += len(part)


def together(plans: Sequence[Plan], run_options: RunOptions) -> int:
    """How many films of one shape run at once: `batch_size`, else the placement's batch, else what memory allows."""
    if run_options.batch_size is not None:
        return run_options.batch_size
    if run_options.placement is not None:
        return run_options.placement.batch
    if len(plans) == 1:
        return 1
    engine = engine_of(plans[0], run_options)
    return batch_size(engine.model, plans[0], Machine.here(), engine.placement, len(plans), run_options.model_dir)


def estimate_plan(plan: Plan, model_dir: Path | None = None, precision: str = "auto") -> Estimate:
    """Estimate what a Plan's film takes of this machine, before any weights are loaded; of several shots, the largest.

    Raises ModelNotFound, RequestError for a precision that this machine lacks, WeightsError for damaged files.
    """
    if plan.shots:
        plan = max((shot.plan for shot in plan.shots), key=lambda each: each.width * each.height * each.num_frames)
    return estimate(catalogue.find(plan.model), plan, Machine.here(), precision, model_dir, run_history.read())


def engine_of(plan: Plan, run_options: RunOptions) -> Engine:
    """The process's engine for a Plan's model, in a placement that fits this film. Raises like `estimate_plan`."""
    model, key = _key(plan, run_options)
    if key not in _ENGINES:
        found = run_options.placement or estimate_plan(plan, run_options.model_dir, run_options.precision).placement
        # A caller that passes a placement also sets the threads.
        threads = settings.load().threads if run_options.placement is None else None
        placed = device.confirmed(found, threads)
        if run_options.placement is None and model.family == "pipeline":
            placed = placed.model_copy(update={"ulysses_degree": settings.load().ulysses_degree})
        # Reuse an engine with the same files and an equal placement, however that was chosen.
        warm = (
            each for other, each in _ENGINES.items() if other[:5] == key[:5] and _same_placement(each.placement, placed)
        )
        engine = next(warm, None)
        if engine is None:
            # Most machines cannot hold two large models at once.
            _ENGINES.clear()
            engine = Engine(model, placed, run_options.loras, bool(plan.latent_upsample))
        _ENGINES[key] = engine
    return _ENGINES[key]


def _key(plan: Plan, run_options: RunOptions) -> tuple[catalogue.Model, tuple[object, ...]]:
    """The model of a film and its engine's key: first what is loaded (5 items), then what decides the placement."""
    model = _model(plan, run_options.model_dir)
    where = (run_options.precision, run_options.placement, plan.speed)
    loaded = (model.to_json(), plan.revision, plan.loras, run_options.loras, bool(plan.latent_upsample))
    return model, (*loaded, *where)


def _model(plan: Plan, directory: Path | None) -> catalogue.Model:
    model = catalogue.find(plan.model)
    model = model if directory is None else model.at(directory)
    return model.few_steps() if plan.speed == "turbo" else model


def read_ahead(plan: Plan, run_options: RunOptions) -> None:
    """Encode the prompts of the next film if its model is loaded, so that its run finds the prompt embedding."""
    engine = _ENGINES.get(_key(plan, run_options)[1])
    if engine is not None:
        engine.read(plan)


def loaded_models() -> frozenset[str]:
    """The names of the models that this process has loaded."""
    return frozenset(engine.model.name for engine in list(_ENGINES.values()))


def _same_placement(one: Placement, other: Placement) -> bool:
    """Whether two placements are equal apart from the batch size."""
    return one == other.model_copy(update={"batch": one.batch})


def forget() -> None:
    """Release all loaded models. The next film loads its own from disk."""
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
    film_filter: FilmFilter | None,
    offset: int,
) -> Iterator[Clip]:
    """The films of one batch, each polished only when the iterator reaches it. `offset` films were made before it."""
    plan, meter = plans[0], Meter(on_step)
    pixels = np.empty((len(plans), plan.num_frames, plan.height, plan.width, 3), np.uint8)
    encoders = [_encoder(each) if ahead else None for each in plans]
    # Closed at once: when `on_step` raises, a pipeline's thread must not outlive the run.
    how: dict[str, Any] = {
        "sources": run_options.sources,
        "previews": previews,
        "cancel": cancel,
        "checkpointer": checkpointer,
    }
    with closing(engine.run(plans, **how)) as events, _ended(encoders), inputs_named(run_options):
        for event in events:
            if isinstance(event, Frames):
                made = pixels[event.film, event.start : event.start + len(event.frames)]
                made[:] = event.frames
                meter.shown()
                if (encoder := encoders[event.film]) is not None:
                    encoder.add(made)
            else:
                meter(event)
    # Copies: another run may replace them before the next film is yielded.
    applied, sounds, ends = list(engine.applied), list(engine.sounds), list(engine.ends)
    recorded = checkpointer is not None and checkpointer.resumed_from is not None
    for number, (each, frames) in enumerate(zip(plans, pixels, strict=True)):
        if film_filter is not None and not film_filter(offset + number):
            continue
        notes = [*([] if checkpointer is None else checkpointer.notes), *filter(None, applied[number : number + 1])]
        clip = clip_of(each, engine, frames, meter, run_options, films=len(plans), sound=sounds[number], notes=notes)
        recipe, run = clip.recipe, clip.run
        assert recipe is not None and run is not None
        clip = replace(clip, ahead=encoders[number])
        if (end := ends[number]) is not None:
            clip = replace(clip, latents=KeptLatents.of(each, end, recipe.frames_sha256).to_bytes())
        # A resumed run knows the time of its last part only, so it is not recorded.
        if not recorded:
            recorded = True
            run_history.append(run_history.record(recipe, run, len(plans)))
        yield clip


def _encoder(plan: Plan) -> Ahead | None:
    """The encoder of a Plan's film while frames arrive; None if its format needs all frames at once."""
    how = plan.encoding()
    if how is None or not streamed(how) or not plan.polish.nothing():
        return None
    return Ahead(how, (plan.num_frames, plan.height, plan.width, 3), frame_rate(plan.fps))


@contextmanager
def _ended(encoders: Sequence[Ahead | None]) -> Iterator[None]:
    """End the encoders when the run ends, however it ends, so that they do not wait for more frames."""
    try:
        yield
    finally:
        for encoder in filter(None, encoders):
            encoder.end()


@contextmanager
def inputs_named(run_options: RunOptions) -> Iterator[None]:
    """Make a RequestError about an input name its file: a Plan knows only the SHA-256."""
    try:
        yield
    except RequestError as error:
        path = run_options.inputs.get(str(error.value))
        if path is None or error.field is None:
            raise
        raise RequestError(error.field, Path(path).name, error.limit, error.remedy) from error


def clip_of(
    plan: Plan,
    engine: Engine,
    frames: np.ndarray,
    meter: Meter,
    run_options: RunOptions,
    *,
    films: int = 1,
    sound: Sound | None = None,
    **fields: Any,
) -> Clip:
    """The polished Clip of `frames` that `engine` just made, with its Recipe and its Run.

    `fields` adds fields to the Run. `sound` is what the model made with the frames.
    """
    # A track, or silence, replaces what the model made.
    own = None if sound is None or plan.audio else mix.lasting(sound, len(frames), plan.fps)
    frames, fps, own = polished(frames, plan.fps, plan.polish, run_options.networks, meter, own)
    audio = soundtrack(plan, frames, fps, own, run_options.tracks)
    placement = engine.placement.model_copy(update={"batch": films})
    recipe = Recipe(
        plan=plan,
        placement=placement,
        weights=engine.weights | weights_of(plan.polish),
        frames_sha256=frames_sha256(frames),
        audio_sha256=None if audio is None else audio.sha256,
        versions=device.versions((*engine.libraries, *libraries_of(plan.polish))),
        device_name=device.device_name(placement.device),
        kernels=device.kernels(placement.device),
    )
    prompts = [plan.prompt, *(text for _, text in plan.prompt_at)]
    scores, findings = scored(frames, fps, plan.polish, _seams(plan), prompts, pictured=bool(plan.image))
    scores |= _read(plan, frames, fps) | fields.pop("scores", {})
    notes = [*engine.notes(prompts), *fields.pop("notes", []), *findings, *unheard(plan.container, audio)]
    run = meter.run(rungs=list(placement.rungs), notes=notes, scores=scores, inputs=dict(run_options.inputs), **fields)
    return Clip(frames, fps, recipe, run, audio=audio)


def _seams(plan: Plan) -> list[int]:
    """The first frames of a long film's windows, for the seam score; none if polishing moved frames."""
    return (
        windows.starts(plan.num_frames, plan.window, stride=plan.stride)[1:]
        if plan.window and plan.polish.nothing()
        else []
    )


def _read(plan: Plan, frames: np.ndarray, fps: float) -> dict[str, float]:
    """The scores that the world's detector reads from a film of the built-in model: how well it shows its prompt, and
    how steady its objects are. A prompt that the detector cannot read, or that changes, gives none."""
    if plan.model != "builtin" or plan.prompt_at:
        return {}
    from flickbook.world.agreement import agreement  # imported late: slow to load
    from flickbook.world.steadiness import steadiness_of

    found = {"agreement": agreement(plan.prompt, frames)}
    if plan.task != "sequence":
        found["steadiness"] = steadiness_of(plan.prompt, frames, fps)
    return {name: round(value, 4) for name, value in found.items() if value is not None}


def steps_sheet(
    plan: Plan,
    emerging: Sequence[tuple[int, Any, Any]],
    path: Path,
    *,
    run_options: RunOptions | None = None,
    overwrite: bool = False,
    rows: int = 6,
) -> Path:
    """Write a PNG that shows a film emerging from noise: x_t and x0 after some of its steps, both decoded.

    `emerging` holds (step, x0 estimate, x_t or None), both (channels, frames, h, w), of the last film this process made
    from `plan`; `rows` of the steps are shown. Raises OutputError for the path, MissingExtra without matplotlib.
    """
    from flickbook.media import plot

    engine = engine_of(plan, run_options or RunOptions())
    count = min(rows, len(emerging))
    # Early steps change the film most, so more of them are shown.
    places = sorted({round((len(emerging) - 1) * (i / max(1, count - 1)) ** 1.5) for i in range(count)})
    chosen = [emerging[i] for i in places]
    # A film that started from an image or video ran only the last steps.
    family = engine.loaded()
    left = family.noise_left(plan.num_inference_steps)[-emerging[-1][0] :]
    steps = [step for step, _, _ in chosen]
    pictures, levels = [family.show(x0) for _, x0, _ in chosen], [left[step - 1] for step in steps]
    noisy = [family.show(x_t) for _, _, x_t in chosen if x_t is not None]
    how: dict[str, Any] = {"title": plan.prompt, "rows": rows, "overwrite": overwrite}
    return plot.steps_sheet(pictures, steps, levels, path, noisy=noisy if len(noisy) == len(chosen) else (), **how)


def located(loras: Sequence[str]) -> tuple[tuple[str, float], ...] | None:
    """Files and weights of LoRAs named "PATH_OR_REPO[:weight]", downloaded if needed. Raises RequestError, HubError."""
    if not loras:
        return None
    from flickbook.engine.lora.find import locate  # imported late: huggingface_hub is slow to load

    return tuple((str(path), weight) for path, weight in map(locate, loras))


def run_options_of(plan: Plan, request: Request, model_dir: Path | None = None, precision: str = "auto") -> RunOptions:
    """The run options of `plan`, which was resolved from `request`. Raises MediaError, RequestError."""
    loras = tuple((Path(path), weight) for path, weight in request.loras or ())
    given = zip(conditioning.files(plan), conditioning.paths(request), strict=True)
    paths = {digest: path for (_, digest), path in given}
    paths |= {lora.sha256: str(path) for lora, (path, _) in zip(plan.loras, loras, strict=True)}
    inputs = {digest: str(Path(path).absolute()) for digest, path in paths.items()}
    tracks = tracks_of(plan, request.audio)
    return RunOptions(model_dir, loras, beginning.sources(plan, request), precision, inputs=inputs, tracks=tracks)
