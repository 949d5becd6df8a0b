"""Runs a Plan and records its steps: latents, estimates, and for the 3D U-Net what the network computed.

Shapes: c channels, f frames, h height and w width in latent pixels; frames (n, height, width, 3) uint8.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flickbook.diffusion.pack import pack
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.engine import Engine
from flickbook.engine.family import Setup
from flickbook.engine.films import OnStep, RunOptions, engine_of, films, inputs_named
from flickbook.engine.memory.device import device_name
from flickbook.engine.unet.family import UNetFamily
from flickbook.errors import Cancelled, RequestError
from flickbook.explain.hooks import Hooks, Seen, Size, blended, groups_of
from flickbook.hub.find import directory
from flickbook.spec import Phase, Plan, Step

#: The largest side of a recorded attention map, in cells; finer layers are averaged to it.
MAP = 16


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One denoising step.

    `x_t` are the latents that the step starts from, None if they are unknown; `x0` its estimate of the clean latents;
    `sigma` the noise in x_t, 0 to 1. For the 3D U-Net, `answers` (1 or 2, c, f, h, w) are the network's outputs without
    and with the prompt (only with it, if guidance is off), `attention` (words + 2, f, h, w) the share of each word, of
    the start token, and of the end and padding in cross-attention, `temporal` the weights (f, f) of temporal attention
    by size. They are missing in steps that forecast the network's output, and if it ran on parts of the film.
    """

    index: int
    timestep: int | None
    sigma: float | None
    x_t: Any
    x0: Any
    answers: Tensor | None = None
    attention: Tensor | None = None
    temporal: dict[Size, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Record:
    """A run: its Plan, its frames before finishing, its steps, and `show`, which decodes latents to frames.

    `words` are the prompt's words and the places of their tokens. `networks` is None for diffusers' pipelines.
    `seconds` are those of each phase. `embedding` is the prompt embedding (tokens, width).
    """

    plan: Plan
    frames: np.ndarray
    steps: list[StepRecord]
    show: Callable[[Any], np.ndarray]
    device: str
    seconds: dict[str, float]
    words: list[tuple[str, list[int]]] = field(default_factory=list)
    networks: TextToVideo | None = None
    embedding: Tensor | None = None
    notes: list[str] = field(default_factory=list)


def record(
    plan: Plan, run_options: RunOptions, on_step: OnStep | None = None, cancel: Callable[[], bool] | None = None
) -> Record:
    """Run `plan` and record its steps.

    Raises as `flickbook.engine.films.films`, and RequestError for a model that reports no estimates of its steps.
    """
    if plan.latent_upsample:
        limit = "a film that is made in two parts cannot be explained"
        raise RequestError("latent_upsample", plan.latent_upsample, limit, "leave it out")
    engine = engine_of(plan, run_options)
    if engine.model.family == "unet":
        with inputs_named(run_options):
            return _of_unet(plan, engine, run_options, on_step or (lambda step: None), cancel)
    return _of_pipeline(plan, engine, run_options, on_step, cancel)


class _Phases:
    """Reports Steps, and keeps the seconds of each phase."""

    def __init__(self, on_step: OnStep, cancel: Callable[[], bool] | None) -> None:
        self._on_step, self._cancel, self._began = on_step, cancel, time.perf_counter()
        self.seconds: dict[str, float] = {}

    def done(self, phase: Phase, index: int = 1, total: int = 1) -> None:
        """Report a step; the last one of a phase starts the next phase. Raises Cancelled."""
        if self._cancel is not None and self._cancel():
            raise Cancelled
        passed = time.perf_counter() - self._began
        self._on_step(Step(phase, index, total, passed))
        if index >= total:
            self.seconds[phase], self._began = passed, time.perf_counter()


def _of_unet(
    plan: Plan, engine: Engine, run_options: RunOptions, on_step: OnStep, cancel: Callable[[], bool] | None
) -> Record:
    phases = _Phases(on_step, cancel)
    setup = Setup(engine.model, directory(engine.model), engine.placement, engine.loras)
    family = UNetFamily.load(setup, packed=False)
    networks = family.networks
    pack(networks.autoencoder)  # only the U-Net has hooks, and the report decodes hundreds of frames
    phases.done("load")
    embedding = family.encode([plan])
    phases.done("encode")
    words = networks.tokenizer.word_places(plan.prompt)
    tokens = embedding.contexts[0].shape[1]
    hooks, steps = Hooks(networks.unet, groups_of(words, tokens)), list[StepRecord]()
    last, latents, ended = None, torch.empty(0), 0.0
    with hooks.attached():
        for state in family.denoise([plan], embedding, run_options.sources):
            phases.done("denoise", state.index, state.total)
            seconds, ended = time.perf_counter() - ended if ended else 0.0, time.perf_counter()
            assert state.x0 is not None
            seen, x0 = hooks.take(), state.x0[0].float().cpu()
            timestep = state.timesteps[state.index - 1]
            before = last if last is not None else _first(seen, x0)
            sigma = networks.schedule.level(timestep).sigma
            steps.append(_recorded(StepRecord(state.index, timestep, sigma, before, x0, seconds=seconds), seen))
            latents, last = state.latents, state.latents[0].float().cpu()
    frames = [part for _, _, part in family.decode(latents)]
    phases.done("decode")
    notes = list(family.notes)
    if all(step.answers is None for step in steps):
        notes.append("the network ran on parts of the film, so its attention and guidance are not shown")
    return Record(
        plan,
        np.concatenate(frames),
        steps,
        lambda x: family.show(x.to(networks.device)),
        device_name(engine.placement.device),
        phases.seconds,
        words,
        networks,
        embedding.contexts[0][0].float().cpu(),
        notes,
    )


def _first(seen: Seen, x0: Tensor) -> Tensor | None:
    """The network's first input, which is the noise, if it saw the whole film."""
    return seen.inputs[0] if seen.inputs and seen.inputs[0].shape == x0.shape else None


def _recorded(step: StepRecord, seen: Seen) -> StepRecord:
    """The step with what the hooks saw, if the network ran on the whole film."""
    answers, x0 = seen.answers, step.x0
    if answers is None or answers.shape[1:] != x0.shape:
        return step
    largest = max((size for size, _ in seen.crossed), default=(1, 1))
    size = (min(MAP, largest[0]), min(MAP, largest[1]))
    layers: dict[Size, list[Tensor]] = {}
    for at, weights in seen.temporal:
        layers.setdefault(at, []).append(weights)
    temporal = {at: torch.stack(each).mean(0) for at, each in layers.items()}
    return StepRecord(
        step.index,
        step.timestep,
        step.sigma,
        step.x_t,
        x0,
        answers,
        blended(seen.crossed, size),
        temporal,
        step.seconds,
    )


def _of_pipeline(
    plan: Plan, engine: Engine, run_options: RunOptions, on_step: OnStep | None, cancel: Callable[[], bool] | None
) -> Record:
    found: list[Step] = []

    def keep(step: Step) -> None:
        if step.phase == "denoise" and step.preview is not None:
            found.append(step)
        if on_step is not None:
            on_step(step)

    (clip,) = films([plan], run_options, on_step=keep, previews=True, cancel=cancel)
    if not found:
        remedy = "choose a model whose pipeline calls back after each step, such as builtin"
        raise RequestError(
            "model", plan.model, "reports no estimates of its steps, so there is nothing to show", remedy
        )
    family = engine.loaded()
    left: list[float | None] = [None, *family.noise_left(plan.num_inference_steps)]
    inputs = [None, *(None if step.noisy is None else step.noisy[0] for step in found)]
    steps = [
        StepRecord(step.index, None, left[step.index - 1] if step.index <= len(left) else None, x_t, step.preview[0])
        for step, x_t in zip(found, inputs, strict=False)
        if step.preview is not None
    ]
    seconds = {} if clip.run is None else {name: float(each) for name, each in clip.run.seconds.items()}
    notes = ["this model's network is not ours, so only x_t and the x0 estimate of its steps are shown"]
    where = device_name(engine.placement.device)
    return Record(plan, clip.frames, steps, family.show, where, seconds, notes=notes)
