"""Estimates before loading whether a Plan fits into a machine's memory, and chooses a Placement with which it fits.

Needs no torch: bytes come from file headers and configurations (`footprint`), seconds and measured peaks from the
records of earlier runs (`run_history`). All sizes are in bytes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from flickbook import catalogue
from flickbook.engine.memory.device import PRECISIONS, at_once, device_name, on_processor
from flickbook.engine.memory.estimate import Estimate
from flickbook.engine.memory.footprint import Needs, known, needs
from flickbook.engine.memory.machine import Machine
from flickbook.errors import FlickbookError, RequestError
from flickbook.hub import find
from flickbook.spec import Placement, Plan

__all__ = ["Estimate", "Machine", "batch_size", "estimate"]

Record = Mapping[str, Any]

#: The share of free memory that a plan may use; other programs need some too.
_USABLE = 0.95
#: "auto" uses half precision for models of at least this many billion parameters.
_LARGE = 0.5
#: Frames decoded at once, from the first reduction on.
_FEWER = (8, 4, 1)
#: The most films made at once, by device, if the caller sets no number.
_ABREAST = {"cpu": 2, "cuda": 8, "mps": 8}
#: How many of the most similar runs the median time is taken from.
_ALIKE = 5
_SAME_PLACE = ("device", "quantize", "offload", "decode_frames", "slicing", "tiling")


def estimate(
    model: catalogue.Model,
    plan: Plan,
    machine: Machine,
    precision: str = "auto",
    directory: Path | None = None,
    records: Sequence[Record] = (),
) -> Estimate:
    """Estimate what `plan` takes of `machine` in the first placement that fits, else in the most economical one.

    `directory` is where the model's files are, if not in the usual place; `records` are those of earlier runs. Memory
    is saved step by step, in the phase that needs most: fewer frames are decoded at once, then tiles; the two halves of
    guidance run one after the other; networks, then layers, are offloaded from the GPU; at last the CPU is used. Raises
    RequestError for a precision that is unknown or that the machine lacks, WeightsError for damaged files.
    """
    question = _Question(model, plan, machine, precision, directory or _here(model), tuple(records))
    answer = question.answer()
    if not answer.fits:
        return replace(answer, remedy=_remedy(question))
    if answer.download > machine.disk_free:
        missing = (answer.download - machine.disk_free) / 1e9
        return replace(answer, fits=False, remedy=f"free {missing:.1f} GB of disk, or set HF_HOME to a larger one")
    return answer


def batch_size(
    model: catalogue.Model,
    plan: Plan,
    machine: Machine,
    placement: Placement,
    count: int,
    directory: Path | None = None,
    most: int | None = None,
) -> int:
    """How many of `count` films of one shape to make at once on a placement, as far as memory allows; at least 1.

    `most` overrides the device's usual maximum. The total memory counts, not what is free: other programs must not
    change a film's last bits. On a CPU two at once take a seventh less time each, and four hardly less than two. On a
    GPU nothing was measured.
    """
    if model.family != "unet" or placement.offload != "none" or placement.rungs:
        return 1
    room = machine.gpu_total if placement.device == "cuda" else machine.memory_total
    for number in range(min(count, most or _ABREAST.get(placement.device, 1)), 1, -1):
        wider = placement.model_copy(update={"batch": number})
        if needs(model, plan, directory or _here(model), wider).hard <= room / 2:
            return number
    return 1


def _here(model: catalogue.Model) -> Path | None:
    """The directory of a model's files; None if they are not on this machine."""
    try:
        return find.directory(model)
    except FlickbookError:
        return None


@dataclass(frozen=True)
class _Question:
    model: catalogue.Model
    plan: Plan
    machine: Machine
    precision: str
    directory: Path | None
    records: tuple[Record, ...]

    def answer(self) -> Estimate:
        """The estimate without its remedy."""
        thriftiest = None
        for home in _homes(self.model, self.plan, self.machine, self.precision):
            placement: Placement | None = home
            while placement is not None:
                needed, measured = self._needs(placement)
                if self._has_room(placement, needed):
                    return self._estimate(placement, needed, measured, fits=True)
                last, placement = placement, lower(placement, needed.crowded, self.model.family)
            thriftiest = thriftiest or (last, needed, measured)
        assert thriftiest is not None, "there is always a processor"
        return self._estimate(*thriftiest, fits=False)

    def _needs(self, placement: Placement) -> tuple[Needs, bool]:
        """The needs of a placement and whether they were measured: in recorded runs of this shape, or else computed."""
        found = needs(self.model, self.plan, self.directory, placement)
        peaks = [record["peak_memory_bytes"] for record in self.records if _same(record, self, placement)]
        peak = int(statistics.median(peaks)) if peaks else 0
        # On a GPU the record has the process's memory, not the device's. A peak above twice a verified formula means
        # that the same process had made something larger before.
        if not peak or placement.device != "cpu" or (known(self.model, self.directory) and peak > 2 * found.peak):
            return found, False
        return replace(found, peak=peak, hard=int(found.hard * peak / found.peak)), True

    def _has_room(self, placement: Placement, needed: Needs) -> bool:
        memory = _USABLE * self.machine.memory_free
        if placement.device == "cuda":
            return needed.hard <= _USABLE * self.machine.gpu_free and needed.host <= memory
        return needed.hard <= memory

    def _estimate(self, placement: Placement, needed: Needs, measured: bool, fits: bool) -> Estimate:
        machine = self.machine
        falls_back = placement.device == "cpu" != machine.device
        name = device_name("cpu") if falls_back else machine.device_name
        computed, on_gpu = known(self.model, self.directory), placement.device == "cuda"
        return Estimate(
            device_name=name,
            room=machine.gpu_free if on_gpu else machine.memory_free,
            host=needed.host if on_gpu else 0,
            host_room=machine.memory_free if on_gpu else 0,
            weights=needed.weights,
            activations=needed.denoise,
            decode=needed.decode,
            peak=needed.hard,
            download=0 if self.directory is not None else _download(self.model),
            seconds=_seconds(self, name, placement.dtype),
            placement=placement,
            fits=fits,
            remedy="",
            basis="measured" if measured else "computed" if computed and placement.device == "cpu" else "believed",
        )


def _download(model: catalogue.Model) -> int:
    # Most models are published with two bytes per parameter.
    size = model.download_gb or 2 * model.parameters
    base = catalogue.find(model.base) if model.base else None
    return int(size * 1e9) + (_download(base) if base is not None and _here(base) is None else 0)


# ---- placements ----


def _homes(model: catalogue.Model, plan: Plan, machine: Machine, precision: str) -> Iterator[Placement]:
    """The full placement without reductions; for a GPU it is followed by that of the CPU."""
    if precision not in ("auto", *PRECISIONS):
        limit = f"must be auto or one of {', '.join(PRECISIONS)}"
        raise RequestError("precision", precision, limit, "leave it out for auto")
    if precision == "auto":
        precision = _automatic(model, plan, machine)
    if precision == "fp16" and machine.device == "cpu":
        raise RequestError("precision", precision, "needs a GPU", "ask for bf16 or fp32")
    if precision == "fp8" and machine.device != "cuda":
        raise RequestError("precision", precision, "needs a GPU of 2022 or later", "ask for int8 or bf16")
    dtype = PRECISIONS[precision]
    quantize = precision if precision in ("fp8", "int8") else ""
    if quantize and find_spec("torchao") is None:
        remedy = "ask for bf16, or run `pip install torchao`"
        raise RequestError("precision", precision, "needs the package torchao", remedy)
    count = at_once(machine.device)
    home = Placement.of(device=machine.device, dtype=dtype, quantize=quantize, decode_frames=count)
    yield home
    if machine.device == "cuda":
        yield on_processor(home)


def _automatic(model: catalogue.Model, plan: Plan, machine: Machine) -> str:
    """The precision for "auto": half for large models if the machine supports it, else float32, to which the promise of
    exact reproduction applies.

    Speeds "balanced" and "turbo" tolerate more difference than bfloat16 makes, and are a third faster with it; tested
    on CPUs.
    """
    if model.parameters < _LARGE:
        nearly = plan.speed != "exact" and model.family == "unet"
        return "bf16" if nearly and machine.device == "cpu" and machine.bf16 else "fp32"
    if machine.bf16:
        return "bf16"
    # Some models produce noise in float16; the catalogue then has no memory figure for it.
    return "fp16" if machine.device != "cpu" and "fp16" in model.memory_gib else "fp32"


def lower(placement: Placement, crowded: Literal["denoise", "decode"], family: str) -> Placement | None:
    """The placement after the next reduction for the phase that takes most memory (`crowded`); None if none is left."""
    changes: dict[str, object] | None = None
    # A diffusers pipeline decodes a film as a whole.
    if crowded == "decode" and placement.decode_frames > 1 and family == "unet":
        changes = {"decode_frames": next(count for count in _FEWER if count < placement.decode_frames)}
    elif crowded == "decode" and not placement.tiling:
        changes = {"tiling": True}
    elif crowded == "denoise" and not placement.slicing and family == "unet":
        changes = {"slicing": True}
    elif placement.device == "cuda" and placement.offload == "none":
        changes = {"offload": "model"}
    elif placement.device == "cuda" and placement.offload == "model" and family != "unet":
        changes = {"offload": "sequential"}
    return None if changes is None else placement.model_copy(update=changes)


# ---- earlier runs ----


def _same(record: Record, question: _Question, placement: Placement) -> bool:
    """Whether a record has exactly this shape and placement, and is from a process that had made nothing before."""
    plan = question.plan
    expected = {
        "model": plan.model,
        "device_name": question.machine.device_name,
        "dtype": placement.dtype,
        "width": plan.width,
        "height": plan.height,
        "frames": plan.num_frames,
        "guided": plan.guided(),
        "films": placement.batch,
        **{name: getattr(placement, name) for name in _SAME_PLACE},
    }
    if any(record.get(name) != value for name, value in expected.items()) or record.get("rungs"):
        return False
    if record.get("latent_upsample", "") != plan.latent_upsample:
        return False
    seconds = record.get("seconds")
    return isinstance(seconds, dict) and "load" in seconds and isinstance(record.get("peak_memory_bytes"), int)


def _seconds(question: _Question, device_name: str, dtype: str) -> float | None:
    """The median time of the most similar recorded films, scaled to this film's steps and size."""
    if question.plan.task == "sequence":
        return None  # its stills are made one by one, and no record covers that
    found: dict[str, list[tuple[float, float]]] = {}
    for record in question.records:
        upsampled = record.get("latent_upsample", "")
        alike = (record.get("model"), record.get("device_name"), record.get("dtype"), upsampled)
        if alike == (question.plan.model, device_name, dtype, question.plan.latent_upsample):
            try:
                found.setdefault(record.get("speed", "exact"), []).append(_scaled(record, question.plan))
            except (KeyError, AttributeError, TypeError, ValueError, ArithmeticError):
                continue  # a record of another version, or one edited by hand
    # If no run was balanced, use the exact ones: they took as long or longer.
    times = found.get(question.plan.speed) or found.get("exact")
    if not times:
        return None
    nearest = sorted(times, key=lambda each: each[0])[:_ALIKE]
    return statistics.median(seconds for _, seconds in nearest)


def _scaled(record: Record, plan: Plan) -> tuple[float, float]:
    """(distance of a record's film from this one, 0 if equal; its seconds scaled to this one)."""
    films = int(record.get("films", 1))
    theirs = record["width"] * record["height"] * record["frames"] * films
    volume = plan.width * plan.height * plan.num_frames / theirs
    passes = (1 + plan.guided()) / (1 + bool(record["guided"]))
    work = volume * passes * plan.num_inference_steps / record["steps"]
    scales = {"denoise": work, "decode": volume, "write": volume}
    seconds = sum(float(value) * scales.get(phase, 1.0) for phase, value in record["seconds"].items())
    # A run without "load" found its model loaded, so it predicts a new command's time less well.
    far = abs(math.log(volume)) + abs(math.log(work)) + ("load" not in record["seconds"])
    return far, seconds


# ---- remedies ----


def _remedy(question: _Question) -> str:
    """What to request instead: a smaller size, fewer frames, half precision or another model, each checked to fit."""
    size, count = _smaller(question), _shorter(question)
    options = [] if size is None else [f"--size {size[0]}x{size[1]}"]
    options += [] if count is None else [f"--num-frames {count}"]
    if question.precision == "fp32" and replace(question, precision="bf16").answer().fits:
        options.append("--precision bf16")
    remedies = [f"ask for {' or '.join(options)}"] * bool(options)
    if other := _other(question):
        remedies.append(f"use --model {other}")
    return ", or ".join(remedies) or "free some memory, or use a machine with more"


def _with(question: _Question, **changes: int) -> bool:
    """Whether the same film fits with another size or number of frames."""
    window = question.model.window
    if changes.get("num_frames", window + 1) <= window:
        changes["window"] = 0
    return replace(question, plan=question.plan.model_copy(update=changes)).answer().fits


def _smaller(question: _Question) -> tuple[int, int] | None:
    """The largest smaller size of about the same aspect ratio that fits."""
    model, plan = question.model, question.plan
    sizes = {size for size in model.sizes if size[0] * size[1] < plan.width * plan.height}
    if model.sides is not None:
        (least, most), step = model.sides.range, model.sides.multiple
        for width in range(plan.width - plan.width % step, least - 1, -step):
            height = max(least, round(plan.height * width / plan.width / step) * step)
            if height <= most and width * height < plan.width * plan.height:
                sizes.add((width, height))
    ordered = sorted(sizes, key=lambda size: -size[0] * size[1])
    return next((size for size in ordered if _with(question, width=size[0], height=size[1])), None)


def _shorter(question: _Question) -> int | None:
    """The largest smaller number of frames that fits; a film has at least two."""
    allowed = question.model.num_frames
    least = allowed.range[0]
    if least == 1 and question.plan.task == "film":
        least += allowed.every
    counts = range(least, question.plan.num_frames, allowed.every)
    low, high = 0, len(counts)
    while low < high:  # binary search: the first `low` counts fit
        middle = (low + high) // 2
        if _with(question, num_frames=counts[middle]):
            low = middle + 1
        else:
            high = middle
    return counts[low - 1] if low else None


def _other(question: _Question) -> str | None:
    """The largest model, no larger than this one, whose default film fits here, with the same kind of input."""
    plan, begins = question.plan, "image" if question.plan.image else "video" if question.plan.video else "text"
    able = [
        model
        for model in catalogue.list_models()
        if model.name != question.model.name
        and model.parameters <= question.model.parameters
        and begins in model.inputs
        and (model.num_frames.range[1] > 1) == (plan.task == "film")
    ]
    for model in sorted(able, key=lambda each: -each.parameters):
        (width, height), frames = model.sizes[0], model.num_frames.default
        size = {"width": width, "height": height, "num_frames": frames, "window": 0}
        other_plan = plan.model_copy(update={"model": model.name, **size})
        try:
            answer = replace(question, model=model, plan=other_plan, directory=_here(model), precision="auto").answer()
        except FlickbookError:  # that other model's files are damaged
            continue
        # On a machine with a GPU, a model that only fits on the CPU is not suggested.
        if answer.fits and answer.placement.device == question.machine.device:
            return model.name
    return None
