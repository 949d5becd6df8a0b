"""A whole training, from a directory of clips to a LoRA: `flickbook tune DIR --model M --output NAME`.

`NAME/` holds, while it runs, the latents in `cache/`, `checkpoints/`, `log.csv`, `tensorboard/` and `samples/`; then
the LoRA, the model card and the films with and without it. Each part detects its finished files, so the same command
resumes after a kill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from flickbook import catalogue
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.pipelines.directory import class_of
from flickbook.errors import Cancelled, MissingExtra, RequestError
from flickbook.hub import find
from flickbook.learn import checkpoint
from flickbook.learn.compute import memory
from flickbook.learn.train import append_log, trim_log
from flickbook.learn.tuning import adapter, pipelines, publish
from flickbook.learn.tuning.blocks import recompute
from flickbook.learn.tuning.config import TuneConfig, check_kind, check_trainable
from flickbook.learn.tuning.cost import Cost, cost, seconds
from flickbook.learn.tuning.data.buckets import Bucket, buckets
from flickbook.learn.tuning.data.cache import Examples, build, size
from flickbook.learn.tuning.data.dataset import Dataset, TrainingClip, read
from flickbook.learn.tuning.output import alone, check_output
from flickbook.learn.tuning.prior import prior
from flickbook.learn.tuning.publish import Source
from flickbook.learn.tuning.record import record
from flickbook.learn.tuning.target import Sampling, Target, autocast, dtype_of, usual_precision
from flickbook.learn.tuning.trainer import NOISE_BINS, Tuner, check_optimizer
from flickbook.learn.tuning.unet import UNetTarget
from flickbook.media.clip import Clip
from flickbook.spec import Plan

_LOSSES: Final = ("loss", *(f"loss_{i}" for i in range(NOISE_BINS)), "prior_loss", "validation_loss")
LOG_FIELDS: Final = ("step", "clips", *_LOSSES, "grad_norm", "lr", "seconds")
_CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True)
class Training:
    """What to train, on what, and where the result goes. `plan` gives the model, and the size, prompt and sampling of
    the samples, one every `sample_every` updates. A checkpoint is written every `save_every` seconds.
    `prior_prompts` is a file of prompts whose films shall stay as they are; the built-in model has its own. The lists
    of an `uploaded` dataset name its own files only."""

    directory: Path
    output: Path
    plan: Plan
    model_dir: Path | None = None
    prior_prompts: Path | None = None
    config: TuneConfig = TuneConfig()
    sample_every: int = 100
    save_every: float = 60.0
    uploaded: bool = False


@dataclass
class Hooks:
    """What a caller hears of a run: encoded examples (done, total), rows of the log, and samples (update, frames, fps).
    `stop` is asked before each update; True ends the run with a checkpoint. `wait` is asked again and again while
    another training writes to the output directory; False refuses this one. Nothing is written once `may_write` is
    False."""

    on_clip: Callable[[int, int], None] | None = None
    on_row: Callable[[dict[str, float]], None] | None = None
    on_sample: Callable[[int, np.ndarray, float], None] | None = None
    stop: Callable[[], bool] | None = None
    wait: Callable[[], bool] = lambda: False
    may_write: Callable[[], bool] = lambda: True


@dataclass
class Prepared:
    """A training whose dataset is read and whose model is loaded."""

    training: Training
    source: Source
    dataset: Dataset
    target: Target
    groups: Mapping[Bucket, list[TrainingClip]]

    @property
    def prompt(self) -> str:
        """The prompt of the samples."""
        return self.training.plan.prompt

    @property
    def sampling(self) -> Sampling:
        """How samples are made."""
        return Sampling(**{each.name: getattr(self.training.plan, each.name) for each in fields(Sampling)})

    def cost(self, processes: int = 1, measure_below: float = 0) -> Cost:
        """Memory and time of the largest bucket, with everything off a GPU that no update needs.

        If an update is expected to take less than `measure_below` seconds, and fits, it is run and measured.
        """
        config = self.training.config
        largest = max(self.groups, key=lambda each: each.num_frames * each.height * each.width)
        still = np.zeros((largest.num_frames, largest.height, largest.width, 3), np.uint8)
        latents = self.target.encode(still)
        condition = self.target.embed(self.prompt)
        device = self.target.device
        whole = memory.held(device)
        if device.type == "cuda":
            self.target.release()
        again = whole - memory.held(device) if self.training.sample_every else 0
        fps, pixels = self.sampling.fps, largest.num_frames * largest.height * largest.width
        words = sum(each.nbytes for each in condition.values())
        known = prior(self.source.model, self.training.prior_prompts) if config.prior else ()
        examples = size(self.groups, fps, latents.numel() / pixels, words, known)
        update = self.target, latents.shape, condition, fps, config
        found = cost(*update, processes, again, examples)
        if found.memory_bytes <= found.free_bytes and found.seconds < measure_below * config.iterations:
            found = replace(found, seconds=seconds(*update) * config.iterations)
        return found


def source_of(name: str, model_dir: Path | None) -> Source:
    """The model to train. Raises ModelNotFound, ModelNotPulled, and RequestError for a model that cannot be trained."""
    model = catalogue.find(name) if model_dir is None else catalogue.find(name).at(model_dir)
    check_trainable(model)
    directory = find.directory(model)
    if model.family != "unet":
        check_kind(name, class_of(directory))
    return Source(model, directory, model_dir)


def prepare(training: Training, on_file: Callable[[int, int], None] | None = None) -> Prepared:
    """Read the dataset, load the model, and sort the clips into buckets; trains nothing.

    Raises the errors of `source_of` and of `data.dataset.read`, OutputError if the output holds something else,
    MissingExtra, and RequestError for a size that the model cannot have, or an optimizer that the device lacks.
    """
    check_output(training.output)
    plan, device = training.plan, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = source_of(plan.model, training.model_dir)
    _check_packages(training.config, device)
    dataset = read(training.directory, on_file, only_inside=training.uploaded)
    training = replace(training, config=_with_precision(training.config, training.output / _CHECKPOINTS, device))
    target = _target(source, training.config, device)
    for name, value in (("width", plan.width), ("height", plan.height)):
        if value % target.multiple:
            near = max(1, round(value / target.multiple)) * target.multiple
            raise RequestError(name, value, f"must be a multiple of {target.multiple}", f"ask for {near}")
    if over := (plan.num_frames - 1) % target.frame_step:
        limit = f"must be 1 plus a multiple of {target.frame_step}"
        raise RequestError("num_frames", plan.num_frames, limit, f"ask for {plan.num_frames - over}")
    groups = buckets(
        dataset.clips,
        num_frames=plan.num_frames,
        width=plan.width,
        height=plan.height,
        multiple=target.multiple,
        frame_step=target.frame_step,
        fps=plan.fps,
    )
    return Prepared(training, source, dataset, target, groups)


def _with_precision(config: TuneConfig, checkpoints: Path, device: torch.device) -> TuneConfig:
    """The settings with a precision instead of `auto`. A training that has begun keeps its own, on any machine."""
    if config.precision != "auto":
        return config
    newest = checkpoint.latest(checkpoints)
    begun = checkpoint.values(newest)["config"].get("precision") if newest else None
    return replace(config, precision=begun or usual_precision(device))


def _check_packages(config: TuneConfig, device: torch.device) -> None:
    """Import what the training needs when the clips are encoded. Raises MissingExtra, and RequestError."""
    for name in ("tensorboardX", *(() if config.full else ("peft",))):
        try:
            import_module(name)
        except ImportError as error:
            raise MissingExtra(name, "train") from error
    check_optimizer(config, device)


def _target(source: Source, config: TuneConfig, device: torch.device) -> Target:
    """The loaded model with a LoRA, or with all weights of its denoising network trainable."""
    target: Target
    torch.manual_seed(config.seed)
    dtype = dtype_of(config) if device.type == "cuda" else torch.float32
    home = torch.device("cpu") if config.offload else device
    if source.model.family == "unet":
        networks = TextToVideo.load(source.directory, dtype=dtype, device=home)
        target = UNetTarget(networks, source.model.condition_fps, config.train_text_encoder)
    elif config.train_text_encoder:
        limit = "only models of the 3D U-Net family train their text encoder"
        raise RequestError("train_text_encoder", True, limit, "leave it out")
    else:
        target = pipelines.load(source.model, source.directory, dtype, home)
    for network in target.networks.values():
        if config.full:
            network.float().requires_grad_(True)
        else:
            adapter.add(network, config.rank, config.target_modules)
    if config.gradient_checkpointing or config.offload:
        target.joint = False  # memory counts more than time
        recompute(target.units(), device if config.offload else None)
    if config.offload:
        target.compute_on(device)
    return target


def tune(prepared: Prepared, hooks: Hooks | None = None, accelerator: Any = None) -> Clip | None:
    """Train, and write the result to the output directory. Returns the film of the prompt with the LoRA; None if `stop`
    ended the run, and in every process but the first.

    Raises RequestError if memory does not suffice, or if the loss is not finite, and OutputError if another training
    writes to the directory.
    """
    hooks, out, config = hooks or Hooks(), prepared.training.output, prepared.training.config
    processes = accelerator.num_processes if accelerator else 1
    found = prepared.cost(processes)
    memory.refuse_beyond(found.memory_bytes, found.free_bytes, "batch", config.batch, "lower it, or the size")
    host = memory.free(torch.device("cpu"), processes)
    memory.refuse_beyond(found.examples_bytes, host, "dir", prepared.training.directory, "use fewer clips")
    out.mkdir(parents=True, exist_ok=True)
    with alone(out, hooks.wait, accelerator):
        return _tuned(prepared, hooks, accelerator)


def _tuned(prepared: Prepared, hooks: Hooks, accelerator: Any) -> Clip | None:
    """Train in a directory that no other process writes to."""
    training, out = prepared.training, prepared.training.output
    config, model = training.config, prepared.source.model
    place = str(training.directory.resolve())
    record(out, {"model": model.name, "revision": model.revision(), "dataset": place})
    examples = build(
        prepared.target,
        prepared.groups,
        out / "cache",
        fps=prepared.sampling.fps,
        identity=f"{model.name} {model.revision()} {config.train_text_encoder}",
        held_out=config.validation,
        problems=(problems := list(prepared.dataset.problems)),
        prior=prior(model, training.prior_prompts) if config.prior else (),
        progress=hooks.on_clip,
    )
    prepared.dataset = replace(prepared.dataset, problems=tuple(problems))
    prepared.target.release()
    tuner = Tuner(prepared.target, examples, config, out / _CHECKPOINTS, accelerator)
    tuner.may_write = hooks.may_write
    newest = checkpoint.latest(tuner.out)
    if newest is not None:
        tuner.restore(newest)
    if not _trained(prepared, tuner, hooks):
        return None
    return _finish(prepared, tuner, examples, hooks.stop) if tuner.rank == 0 else None


def _trained(prepared: Prepared, tuner: Tuner, hooks: Hooks) -> bool:
    """Run the updates, with log, samples and TensorBoard. Returns whether the training ended."""
    from tensorboardX import SummaryWriter

    training, out, samples = prepared.training, prepared.training.output, prepared.training.output / "samples"
    if tuner.rank:  # the first process writes
        for _ in tuner.run(training.save_every, stop=hooks.stop):
            pass
        return tuner.ended
    samples.mkdir(exist_ok=True)
    trim_log(out / "log.csv", tuner.progress.update + 1)
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=tuner.progress.update or None)
    sampled = tuner.progress.update
    for row in tuner.run(training.save_every, sample_every=training.sample_every, stop=hooks.stop):
        number = int(row["update"])
        append_log(out / "log.csv", {"step": number, "clips": number * training.config.batch, **row}, LOG_FIELDS)
        for name, value in row.items():
            if name in LOG_FIELDS and math.isfinite(value):
                writer.add_scalar(name, value, number)
        if hooks.on_row is not None:
            hooks.on_row(row)
        every = training.sample_every
        if every and number // every > sampled // every and not tuner.ended:
            with autocast(prepared.target, training.config):
                frames = prepared.target.sample(prepared.prompt, prepared.sampling)
            publish.sample_sheet(frames, f"update {number}: {prepared.prompt}", samples / f"update-{number:06d}.png")
            if hooks.on_sample is not None:
                hooks.on_sample(number, frames, prepared.sampling.fps)
        sampled = number
    writer.close()
    return tuner.ended


def _finish(prepared: Prepared, tuner: Tuner, examples: Examples, cancel: Callable[[], bool] | None) -> Clip:
    """Write the result and its report. Raises Cancelled."""
    out, config = prepared.training.output, prepared.training.config
    if not tuner.may_write():
        raise Cancelled
    taken = tuner.take_best()
    write = publish.write_model if config.full else publish.write_lora
    files = write(prepared.target, prepared.source, out, *(() if config.full else (config,)))
    _, with_it = publish.films(prepared.source, files, out, prepared.prompt, prepared.sampling, config.full, cancel)
    progress, notes = tuner.progress, with_it.run.notes if with_it.run else []
    found: dict[str, Any] = {
        "model": prepared.source.model.name,
        "clips": len(prepared.dataset.clips),
        "examples": len(examples),
        "held_out": len(examples.held_out),
        "problems": [asdict(each) for each in prepared.dataset.problems],
        "prompt": prepared.prompt,
        "size": {name: getattr(prepared.sampling, name) for name in ("width", "height", "num_frames", "fps")},
        "updates": progress.update,
        "seconds": round(progress.seconds, 1),
        "best": progress.best if math.isfinite(progress.best) else None,
        "best_at": progress.best_at,
        "written_at": taken,
        "match": [note for note in notes if "keys matched" in note],
        "config": asdict(config),
        "files": [path.name for path in files],
    }
    publish.report(out, found)
    publish.card(out, prepared.source, config, found, files)
    _plot(out)
    return with_it


def _plot(out: Path) -> None:
    from flickbook.errors import FlickbookError
    from flickbook.media.plot import training_plot

    try:
        training_plot(out, out / "training.png")
    except FlickbookError:  # no matplotlib: the log is there
        return
