"""The models of this Space, and how it makes films: one at a time, in this process or on a ZeroGPU device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import numpy as np
from gradio.utils import is_zero_gpu_space

from flickbook.catalogue import Model, list_models
from flickbook.engine.engine import Frames
from flickbook.engine.films import RunOptions, clip_of, engine_of
from flickbook.engine.memory.fit import Estimate, Machine, estimate
from flickbook.engine.usage import Meter
from flickbook.errors import RequestError
from flickbook.jobs.workers.progress import moving
from flickbook.media.clip import Clip
from flickbook.resolution import resolve, usual
from flickbook.spec import Plan, Request, Step

try:
    from spaces import GPU  # before torch, which nothing above has loaded
except ImportError:

    def GPU(duration: int) -> Any:
        """Decorator that requests a GPU on ZeroGPU; elsewhere it changes nothing."""
        return lambda work: work


#: The most seconds of ZeroGPU time requested for one film.
GPU_SECONDS: Final = 120
#: The smallest memory of ZeroGPU devices so far. They are visible only while a film is made.
GPU_BYTES: Final = 40 * 2**30
#: The most work that a CPU finishes in minutes: billions of parameters x steps x squares of 512 pixels.
PATIENCE: Final = 60
#: Limits of one film, because visitors wait for each other.
MOST: Final = {"num_frames": 64, "num_inference_steps": 50}
#: The share of a film's time that previews may take.
SHOWN: Final = 0.25


def machine() -> Machine:
    """The device on which films are made."""
    here = Machine.here()
    if not is_zero_gpu_space():
        return here
    return replace(here, device="cuda", device_name="ZeroGPU", gpu_total=GPU_BYTES, gpu_free=GPU_BYTES, bf16=True)


def offered() -> dict[str, Model]:
    """The models that this Space can run, by name, with its limits."""
    here = machine()
    plans = [(model, usual(model)) for model in map(_narrowed, list_models())]
    return {model.name: model for model, plan in plans if _suits(model, plan, estimate(model, plan, here))}


def _narrowed(model: Model) -> Model:
    """A model with its ranges reduced to the limits of this Space."""
    changes = {}
    for field, most in MOST.items():
        whole = getattr(model, field)
        low, high = whole.range
        high = max(low, min(high, most - (most - low) % whole.every))
        changes[field] = whole.model_copy(update={"range": (low, high), "default": min(whole.default, high)})
    return model.model_copy(update=changes)


def _suits(model: Model, plan: Plan, answer: Estimate) -> bool:
    """Whether a model needs only a prompt, and its default film fits here and takes minutes."""
    if "text" not in model.inputs or model.gated or not answer.fits:
        return False
    if model.name == "builtin" or answer.placement.device != "cpu":
        return True
    work = model.parameters * plan.num_inference_steps * plan.width * plan.height / 512**2
    return plan.task == "picture" and work <= PATIENCE


MODELS: Final = offered()


def planned(asked: dict[str, Any]) -> tuple[Plan, RunOptions]:
    """The Plan of the fields of a Request, and where it runs. Raises RequestError outside the limits of this Space."""
    model = MODELS.get(str(asked["model"]))
    if model is None:
        raise RequestError("model", asked["model"], "is not offered here", f"choose one of {', '.join(MODELS)}")
    for field in MOST:
        value, whole = asked[field], getattr(model, field)
        if isinstance(value, int) and value > whole.range[1]:
            limit = f"must be {whole.range[0]} to {whole.range[1]} in this Space"
            raise RequestError(field, value, limit, f"ask for {whole.range[1]}, or run Flickbook yourself")
        asked = asked | {field: whole.default if value is None else value}
    plan = resolve(Request.of(**asked))
    return plan, RunOptions(placement=estimate(model, plan, machine()).placement)


@GPU(duration=GPU_SECONDS)
def making(plan: Plan, run_options: RunOptions) -> Iterator[tuple[Step, bytes | None] | Clip]:
    """The Steps of a film, some with an animated preview, and at the end the film."""
    engine, meter = engine_of(plan, run_options), Meter()
    pixels = np.empty((plan.num_frames, plan.height, plan.width, 3), np.uint8)
    began, spent = time.monotonic(), 0.0
    # Closed at once: the run stops when the visitor leaves.
    with closing(engine.run([plan], previews=True)) as events:
        for event in events:
            if isinstance(event, Frames):
                pixels[event.start : event.start + len(event.frames)] = event.frames
                continue
            meter(event)
            picture, now = None, time.monotonic()
            if event.preview is not None and spent <= SHOWN * (now - began):
                picture = moving(engine, plan, event.preview[0])
                spent += time.monotonic() - now
            yield replace(event, preview=None), picture
    yield clip_of(plan, engine, pixels, meter, run_options)
