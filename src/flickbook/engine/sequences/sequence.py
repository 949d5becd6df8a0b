"""Sequences: stills made one by one by an image model, and joined to a film.

Neighbouring stills are similar because they start from similar inputs. Noise and prompt embedding are interpolated from
one prompt to the next by spherical interpolation; with feedback each still also starts from the one before it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import psutil

from flickbook import catalogue, formats, settings
from flickbook.conditioning import audio_of
from flickbook.engine.engine import Engine
from flickbook.engine.films import OnStep, RunOptions, clip_of, engine_of, located, run_options_of
from flickbook.engine.pipelines.registry import check_stills
from flickbook.engine.sequences.frame_directory import FrameDirectory, started
from flickbook.engine.usage import Meter
from flickbook.errors import Cancelled, OutputError, RequestError
from flickbook.media.clip import Clip
from flickbook.media.finishing.tone import Tone
from flickbook.media.metrics.similarity import coherence
from flickbook.resolution import notes, resolve
from flickbook.spec import AudioFit, Phase, Plan, Preset, Request, Speed, Step

if TYPE_CHECKING:
    from flickbook.engine.sequences.interpolation import PromptInterpolation

PROMPTS: Final = 64
FRAMES: Final = 10_000
FRAMES_PER: Final = 24
#: How far the noise moves between two prompts: enough for motion, too little to change the content.
DRIFT: Final = 0.3


def plan_of(
    prompts: Sequence[str],
    request: Request,
    *,
    frames_per: int = FRAMES_PER,
    drift: float = DRIFT,
    feedback: float = 0.0,
    model_dir: Path | None = None,
) -> Plan:
    """The Plan of a sequence with `frames_per` frames for each of `prompts`.

    `request` has the other fields; its own prompt and number of frames are ignored. Raises RequestError for the first
    field that is out of range or not supported by the model.
    """
    if not 1 <= len(prompts) <= PROMPTS:
        raise RequestError("prompts", len(prompts), f"must be 1 to {PROMPTS}", f"give 1 to {PROMPTS} prompts")
    if frames_per < 1:
        raise RequestError("frames_per", frames_per, "must be 1 or more", f"{FRAMES_PER} give a few seconds per prompt")
    count = len(prompts) * frames_per
    if not 2 <= count <= FRAMES:
        limit = f"makes {count} frames with {len(prompts)} {'prompts' if len(prompts) > 1 else 'prompt'}"
        raise RequestError("frames_per", frames_per, f"{limit}, must be 2 to {FRAMES}", _frames_remedy(len(prompts)))
    model = catalogue.find(request.model)
    if "text" not in model.inputs or not model.prompted:
        limit = f"starts from {' or '.join(model.inputs)}, and a sequence needs a model that starts from text"
        raise RequestError("model", model.name, limit, "choose builtin, sd15, sdxl, flux-schnell or sana")
    check_stills(model)
    for name, value in (("drift", drift), ("feedback", feedback)):
        if not 0 <= value <= 1:
            raise RequestError(name, value, "must be 0 to 1", f"ask for {0 if value < 0 else 1}, or leave it out")
    encoding = formats.encoding(request.container or "mp4", request.codec, request.quality, request.pixel_format)
    sound = audio_of(request.audio, request.audio_fit, request.audio_fade, encoding.container)
    bare = dict.fromkeys(("codec", "quality", "pixel_format", "audio", "audio_fit", "audio_fade"))
    alone = request.model_copy(update={"container": "png", "num_frames": 1, "prompt_at": None, **bare})
    first = resolve(alone.model_copy(update={"prompt": prompts[0]}), model_dir)
    # The LoRAs need hashing only once.
    light = alone.model_copy(update={"loras": None, "seed": first.seed})
    texts = [resolve(light.model_copy(update={"prompt": text}), model_dir).prompt for text in prompts[1:]]
    _check_feedback(feedback, first)
    reached = [round(number * (count - 1) / (len(prompts) - 1)) for number in range(1, len(prompts))]
    film = {"task": "sequence", "num_frames": count, "drift": float(drift), **encoding.model_dump(), **sound}
    film |= {"feedback": float(feedback), "prompt_at": tuple(zip(reached, texts, strict=True))}
    return first.model_copy(update=film)


def _frames_remedy(prompts: int) -> str:
    return f"ask for {2 if prompts == 1 else 1} to {FRAMES // prompts}"


def _check_feedback(feedback: float, plan: Plan) -> None:
    if not feedback:
        return
    model, steps = catalogue.find(plan.model), plan.num_inference_steps
    if "image" not in model.inputs or model.strength is None:
        still = [each for each in catalogue.list_models() if each.family == "unet" or each.num_frames.range[1] == 1]
        able = [each.name for each in still if each.strength and {"text", "image"} <= {*each.inputs}]
        limit = f"{model.name} cannot start an image from another one"
        raise RequestError("feedback", feedback, limit, f"leave it out, or choose {', '.join(able[:8])}")
    if int(steps * feedback) < 1:
        limit = f"leaves no step of {steps}"
        raise RequestError("feedback", feedback, limit, f"ask for {1 / steps:.2g} or more, or for more steps")


def continued(plan: Plan, directory: Path) -> Plan:
    """`plan` with the seed of the sequence started in `directory`, if all else is equal. For a plan with a drawn
    seed."""
    try:
        kept = started(directory)
    except OutputError:  # reported when the directory is written
        return plan
    return kept.plan if kept is not None and kept.plan.model_copy(update={"seed": plan.seed}) == plan else plan


@dataclass(frozen=True)
class Moment:
    """The position of a frame: the prompt before it, and the share (0 to 1) of the way to the next prompt that noise
    and embedding have gone.

    The embedding eases in and out (3 t^2 - 2 t^3), so that every prompt is seen unmixed for a while.
    """

    scene: int
    noise: float
    embedding: float


def moment(frame: int, num_frames: int, prompts: int) -> Moment:
    """The Moment of a frame, of `num_frames` 2 or more; the last one is at the last prompt. A single prompt is followed
    by itself."""
    scene, rest = divmod(frame * max(1, prompts - 1), num_frames - 1)
    if frame == num_frames - 1:
        scene, rest = scene - 1, num_frames - 1
    t = rest / (num_frames - 1)
    return Moment(scene, t, t * t * (3 - 2 * t))


def prompts_of(plan: Plan) -> list[str]:
    """The prompts of a sequence in order."""
    return [plan.prompt, *(text for _, text in plan.prompt_at)]


@dataclass
class _Maker:
    """Makes those stills of a Plan that are not in its directory yet."""

    engine: Engine
    plan: Plan
    album: FrameDirectory | None
    step: Callable[[], None]
    kept: int = 0  # stills that were in the directory already
    applied: Counter[str] = field(default_factory=Counter)  # note on speed optimisations -> number of stills
    _interpolations: dict[str, PromptInterpolation] = field(default_factory=dict)

    def travel(self) -> PromptInterpolation:
        """The interpolation for the current placement, which fallbacks change when memory runs out."""
        from flickbook.engine.sequences.interpolation import PromptInterpolation
        from flickbook.engine.sequences.stills import stills

        where = self.engine.placement.to_json()
        if where not in self._interpolations:
            able = stills(self.engine.loaded(), self.plan)
            self._interpolations = {where: PromptInterpolation(able, self.plan, prompts_of(self.plan))}
        return self._interpolations[where]

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames (h, w, 3) uint8 in order, each saved before it is yielded."""
        plan, count = self.plan, len(prompts_of(self.plan))
        before = self._picture("00000", moment(0, plan.num_frames, count))
        yield before
        tones = self._tones(before) if plan.feedback else []
        for frame in range(1, plan.num_frames):
            when = moment(frame, plan.num_frames, count)
            over = None
            if tones:
                # Without tone matching, colours drift away over repeated feedback.
                over = tones[when.scene].towards(tones[when.scene + 1], when.embedding).transfer_to(before)
            before = self._picture(f"{frame:05d}", when, over)
            yield before

    def _tones(self, first: np.ndarray) -> list[Tone]:
        """The tone of each prompt's own still, made without feedback; the first frame is the first of them."""
        ends = [Moment(scene, 1.0, 1.0) for scene in range(max(1, len(prompts_of(self.plan)) - 1))]
        return [Tone.of(first), *(Tone.of(self._picture(f"key-{end.scene + 1:02d}", end)) for end in ends)]

    def _picture(self, name: str, when: Moment, over: np.ndarray | None = None) -> np.ndarray:
        found = None if self.album is None else self.album.get(name)
        if found is not None:
            self.kept += 1
            return found

        def make() -> np.ndarray:
            travel = self.travel()
            made = travel.stills.picture(*travel.at(when), over, self.step)
            applied.append(travel.stills.applied())
            return made

        applied: list[str] = []
        picture = self.engine.with_fallbacks(make)
        self.applied[applied[-1]] += 1
        # A pipeline decodes inside its call, and may have changed the placement there.
        self.engine.placement = self.engine.loaded().placement
        if self.album is not None:
            self.album.put(name, picture)
        return picture


def made(
    plan: Plan,
    run_options: RunOptions | None = None,
    *,
    directory: Path | None = None,
    overwrite: bool = False,
    on_step: OnStep | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Clip:
    """Make the film of a sequence's Plan; `run.scores["coherence"]` is the mean SSIM of neighbouring frames.

    With a `directory` each still is saved there when it is made, and existing ones are reused, so a resumed film equals
    an uninterrupted one. A directory of another sequence is refused, unless `overwrite`. `on_step` is called with a
    Step for each still; `cancel` is called after each denoising step. Raises OutputError for the directory, Cancelled,
    and what loading a model raises.
    """
    check_stills(catalogue.find(plan.model))
    _check_memory(plan)
    run_options = run_options or RunOptions()
    engine = engine_of(plan, run_options)
    placement = engine.placement  # before any fallback, because those may differ next time
    album = None if directory is None else FrameDirectory(directory, plan)
    if album is not None:
        album.check(placement, overwrite=overwrite)
    meter, began = Meter(on_step), time.perf_counter()

    def check_cancelled() -> None:
        if cancel is not None and cancel():
            raise Cancelled

    def report(phase: Phase, index: int, total: int) -> None:
        check_cancelled()
        meter(Step(phase, index, total, time.perf_counter() - began))

    engine.loaded()
    report("load", 1, 1)
    if album is not None:
        album.begin(placement)
    maker, began = _Maker(engine, plan, album, check_cancelled), time.perf_counter()
    maker.travel()
    report("encode", 1, 1)
    began = time.perf_counter()
    frames = np.empty((plan.num_frames, plan.height, plan.width, 3), np.uint8)
    for number, picture in enumerate(maker.frames()):
        frames[number] = picture
        report("denoise", number + 1, plan.num_frames)
    score = coherence(frames)
    notes = [f"coherence {score:.3f}: the mean similarity (SSIM) of neighbouring frames; 1 means no change"]
    notes += [f"{maker.kept} of the frames existed already"] if maker.kept else []
    notes += [f"{note} in {count} of the frames" for note, count in maker.applied.items() if note]
    return clip_of(plan, engine, frames, meter, run_options, notes=notes, scores={"coherence": score})


def _check_memory(plan: Plan) -> None:
    """Raise RequestError early for a film that would not fit into memory, as it is held as a whole."""
    needed, there = 3 * plan.num_frames * plan.width * plan.height, psutil.virtual_memory().total
    if needed > there / 2:
        limit = f"{needed / 2**30:.1f} GiB of frames are more than half of this machine's {there / 2**30:.1f} GiB"
        raise RequestError("num_frames", plan.num_frames, limit, "ask for fewer frames or a smaller size")


def sequence(
    prompts: Sequence[str],
    *,
    frames_per: int = FRAMES_PER,
    model: str | None = None,
    preset: Preset | None = None,
    negative_prompt: str | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    fps: float | None = None,
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    scheduler: str | None = None,
    drift: float = DRIFT,
    feedback: float = 0.0,
    lora: str | Sequence[str] | None = None,
    audio: str | Path | None = None,
    audio_fit: AudioFit | None = None,
    audio_fade: float | None = None,
    speed: Speed | None = None,
    precision: str = "auto",
    model_dir: str | Path | None = None,
    directory: str | Path | None = None,
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Clip:
    """Generate a film from stills: `frames_per` frames for each of `prompts`, 1 to 64 of them.

    `drift`, 0 to 1, is how far the noise moves from one prompt to the next. `feedback`, 0 to 1, is how much of each
    still is generated anew over the one before it; 0 makes each from noise alone. `directory` is where stills are saved
    as they are made, and from where an interrupted sequence resumes; `overwrite` lets it replace another sequence. The
    other arguments and exceptions are those of `flickbook.generate`, plus OutputError for the directory.
    """
    request = Request.of(
        prompt="",
        model=model or settings.load().model,
        preset=preset,
        negative_prompt=negative_prompt,
        num_inference_steps=num_inference_steps,
        guidance_scale=None if guidance_scale is None else float(guidance_scale),
        fps=None if fps is None else float(fps),
        seed=seed,
        width=width,
        height=height,
        scheduler=scheduler,
        loras=located([lora] if isinstance(lora, str) else lora or ()),
        audio=None if audio is None else str(audio),
        audio_fit=audio_fit,
        audio_fade=None if audio_fade is None else float(audio_fade),
        speed=speed,
    )
    home = None if model_dir is None else Path(model_dir)
    plan = plan_of(prompts, request, frames_per=frames_per, drift=drift, feedback=feedback, model_dir=home)
    album = None if directory is None else Path(directory)
    plan = continued(plan, album) if album is not None and seed is None else plan
    run_options = run_options_of(plan, request, home, precision)
    clip = made(plan, run_options, directory=album, overwrite=overwrite, on_step=on_step)
    return clip.noted(notes(request, plan, home))
