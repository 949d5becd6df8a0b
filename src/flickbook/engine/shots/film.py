"""Makes films of several shots: one shot after the other, each a film of its own, then joined."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from flickbook.engine.films import Keep, OnStep, RunOptions, films, run_options_of
from flickbook.engine.kept_latents import KeptLatents
from flickbook.engine.memory import device
from flickbook.engine.polish import polished, scored, weights_of
from flickbook.engine.shots.plan import repeated
from flickbook.engine.shots.takes import Takes
from flickbook.engine.soundtrack import soundtrack, tracks
from flickbook.engine.sources import overlapping
from flickbook.engine.usage import Meter
from flickbook.errors import Cancelled, WeightsError
from flickbook.media.clip import Clip, frames_sha256, unheard
from flickbook.media.finishing.join import join
from flickbook.media.sound import mix
from flickbook.media.sound.join import join as join_sounds
from flickbook.media.sound.samples import Sound
from flickbook.spec import MadeShot, Plan, PlannedShot, Polish, Recipe, Request, Step

#: Called with a shot's Plan, its run options, and the preview of a Step.
OnPreview = Callable[[Plan, RunOptions, Any], None]
#: The scores that are the mean of those shots that have one.
_MEANS = ("agreement", "steadiness")


def run_options_for_shots(
    plan: Plan, request: Request, model_dir: Path | None = None, precision: str = "auto"
) -> RunOptions:
    """The run options of all shots of `plan`, which was planned from `request`. Raises MediaError, RequestError."""
    each = [
        run_options_of(shot.plan, requested.request, model_dir, precision)
        for shot, requested in zip(plan.shots, request.shots or (), strict=True)
    ]
    inputs = {digest: path for options in each for digest, path in options.inputs.items()}
    options, found = each[0].merged(each[1:]), tracks(plan, request.audio)
    inputs |= {digest: str(Path(request.audio or "").absolute()) for digest in found}
    return replace(options, inputs=inputs, loras=(), tracks={**options.tracks, **found})


def made(
    plan: Plan,
    run_options: RunOptions,
    *,
    directory: Path | None = None,
    on_step: OnStep | None = None,
    on_preview: OnPreview | None = None,
    cancel: Callable[[], bool] | None = None,
    keep: Keep | None = None,
    how: Sequence[MadeShot] = (),
) -> Clip:
    """Make the film of a Plan with shots.

    With a `directory`, each finished shot is kept there, and existing ones are reused, so a resumed film equals an
    uninterrupted one. `on_preview` is called with a shot's Plan, its run options and the preview of a Step. `keep`
    returns the Checkpointer of a shot's Plan. `how`, if given, has the placement and threads of each shot, to reproduce
    a film. Raises Cancelled, OutputError, and the errors of `films`.
    """
    takes = None if directory is None else Takes(directory)
    meter = Meter(on_step)
    progress = _Progress(plan, meter, on_preview)
    clips = list[Clip]()
    for number, shot in enumerate(plan.shots):
        own, options = _begun(shot, run_options, clips[-1] if clips else None)
        continued = number + 1 < len(plan.shots) and plan.shots[number + 1].plan.overlap > 0
        clip = None if takes is None else takes.get(number + 1, own, continued)
        if clip is None:
            if cancel is not None and cancel():
                raise Cancelled
            where = how[number] if number < len(how) else None
            if where is not None:
                options = replace(options, placement=where.placement.model_copy(update={"rungs": ()}))
            progress.begin(own, options)
            arguments: dict[str, Any] = {"on_step": progress, "previews": on_preview is not None, "cancel": cancel}
            arguments["keep"] = keep
            with device.threads(None if where is None else where.kernels.get("threads")):
                clip = next(films([own], replace(options, batch_size=1), **arguments))
            if takes is not None:
                takes.put(number + 1, clip)
        else:
            progress.kept += 1
        progress.done(number)
        clips.append(clip)
    return _joined(plan, clips, meter, run_options, progress.kept)


def _begun(shot: PlannedShot, run_options: RunOptions, before: Clip | None) -> tuple[Plan, RunOptions]:
    """The Plan of a shot before it is polished and its run options, with the latents or the last frame of the shot
    before it, if it begins from those. Raises WeightsError if that one has no latents.
    """
    plan = shot.plan.model_copy(update={"polish": Polish()})
    loras = tuple((Path(run_options.inputs[lora.sha256]), lora.weight) for lora in plan.loras)
    options = replace(run_options, loras=loras)
    if not shot.begins:
        return plan, options
    assert before is not None
    if plan.overlap:
        if before.latents is None:
            raise WeightsError(plan.model, "kept no latents of the shot before", "begin the shot from an image")
        plan = plan.model_copy(update={"latents": hashlib.sha256(before.latents).hexdigest()})
        kept = overlapping(KeptLatents.from_bytes(before.latents), plan)
        return plan, replace(options, sources={**options.sources, f"latents:{plan.latents}": kept})
    frame = before.frames[-1:]
    digest = frames_sha256(frame)
    sources = {**options.sources, digest: frame}
    return plan.model_copy(update={"image": digest}), replace(options, sources=sources)


def _joined(plan: Plan, clips: Sequence[Clip], meter: Meter, run_options: RunOptions, kept: int) -> Clip:
    """The film of finished shots, with its Recipe and its Run."""
    parts, sounds, began = list[np.ndarray](), list[Sound | None](), time.perf_counter()
    polishes = [plan.polish, *(shot.plan.polish for shot in plan.shots)]
    for number, (shot, clip) in enumerate(zip(plan.shots, clips, strict=True), 1):
        # As a kept shot has it, so that a resumed film is equal to the bit.
        networks, sound = run_options.networks, None if clip.audio is None or plan.audio else mix.stored(clip.audio)
        finished, _, sound = polished(clip.frames, clip.fps, shot.plan.polish, networks, None, sound)
        parts.append(finished[repeated(shot, plan.fade) :])
        sounds.append(_part(sound, len(finished), len(parts[-1]), plan.fps))
        if not all(polish.nothing() for polish in polishes[1:]):
            meter(Step("polish", number, len(clips), time.perf_counter() - began))
    heard = join_sounds(sounds, [len(part) for part in parts], plan.fade, plan.fps)
    joined = join(parts, plan.fade)
    frames, fps, own = polished(joined, plan.fps, plan.polish, run_options.networks, meter, heard)
    audio = soundtrack(plan, frames, fps, own, run_options.tracks)
    recipes = [clip.recipe for clip in clips if clip.recipe is not None]
    first = recipes[0]
    recipe = Recipe(
        plan=plan,
        placement=first.placement,
        weights=first.weights | {name: each for polish in polishes for name, each in weights_of(polish).items()},
        frames_sha256=frames_sha256(frames),
        audio_sha256=None if audio is None else audio.sha256,
        versions={name: version for each in recipes for name, version in each.versions.items()},
        device_name=first.device_name,
        kernels=first.kernels,
        shots=tuple(MadeShot(**{name: getattr(each, name) for name in MadeShot.model_fields}) for each in recipes),
    )
    prompts = [shot.plan.prompt for shot in plan.shots]
    scores, findings = scored(frames, fps, plan.polish, prompts=prompts)
    for name in _MEANS:
        if found := [clip.run.scores[name] for clip in clips if clip.run and name in clip.run.scores]:
            scores[name] = float(np.mean(found))
    notes = [f"shot {n}: {text}" for n, clip in enumerate(clips, 1) if clip.run for text in clip.run.notes]
    notes += [f"{kept} of the shots existed already"] if kept else []
    notes += unheard(plan.container, audio)
    run = meter.run(notes=[*notes, *findings], scores=scores, inputs=dict(run_options.inputs))
    spent = Counter[str]()
    for clip in clips:
        spent.update(clip.run.seconds if clip.run is not None else {})
    return Clip(frames, fps, recipe, run.model_copy(update={"seconds": {**run.seconds, **dict(spent)}}), audio=audio)


def _part(sound: Sound | None, frames: int, count: int, fps: float) -> Sound | None:
    """The sound of the last `count` of a shot's `frames` frames."""
    return None if sound is None else mix.during(sound, frames - count, frames, fps)


@dataclass
class _Progress:
    """Passes the Steps of all shots on as those of one film: denoising counts the steps of all shots."""

    plan: Plan
    meter: Meter
    on_preview: OnPreview | None = None
    kept: int = 0  # shots that existed already
    _before: int = 0  # steps of the shots before this one
    _seconds: float = 0.0
    _last: float = 0.0
    _shot: tuple[Plan, RunOptions] | None = None
    _passed: set[str] = field(default_factory=set)

    def begin(self, plan: Plan, run_options: RunOptions) -> None:
        """The next Steps are those of this shot."""
        self._shot = plan, run_options

    def done(self, number: int) -> None:
        """Shot `number`, from 0, is finished."""
        self._before += self.plan.shots[number].plan.num_inference_steps
        self._seconds, self._last = self._seconds + self._last, 0.0

    def __call__(self, step: Step) -> None:
        """A Step of the shot that is being made."""
        assert self._shot is not None
        if step.preview is not None and self.on_preview is not None:
            self.on_preview(*self._shot, step.preview)
        step = replace(step, preview=None, noisy=None)
        if step.phase == "denoise":
            own = self._shot[0].num_inference_steps
            # A shot that begins from an image does only the last of its steps; one that is upsampled does more.
            done = step.index * own // step.total if step.total > own else own - step.total + step.index
            index = self._before + done
            total = sum(shot.plan.num_inference_steps for shot in self.plan.shots)
            self._last = step.seconds
            self.meter(replace(step, index=index, total=total, seconds=self._seconds + step.seconds))
        elif step.phase in ("load", "encode") and step.phase not in self._passed:
            self.meter(step)
            if step.index == step.total:
                self._passed.add(step.phase)
