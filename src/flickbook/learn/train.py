"""Train the text encoder and the 3D U-Net on latents of the world's films: one loop.

Objective: v-prediction (Salimans & Ho 2022, arXiv 2202.00512) under a schedule of zero terminal SNR (Lin et al. 2023,
arXiv 2305.08891). Half of the timesteps are drawn where a film is nearly, but not wholly, drowned in noise: only there
do the words decide the motion, since with less noise sixteen frames together give the path away.

Every draw of a step (films, captions, noise, timesteps) follows from (seed, rank, step). So a run that resumes from a
checkpoint equals one that never stopped, bit for bit. Needs torch, numpy, safetensors and tokenizers only; `accelerate`
where several GPUs share the work.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from flickbook.diffusion.schedule import NoiseSchedule
from flickbook.diffusion.text import TextConfig, TextEncoder, text_keys
from flickbook.diffusion.text_to_video import FILES
from flickbook.diffusion.tokenizer import Tokenizer
from flickbook.diffusion.unet3d import TemporalConv, UNet3D, UNet3DConfig
from flickbook.diffusion.weights import load_weights
from flickbook.errors import WeightsError
from flickbook.hub.layout import weights_file
from flickbook.learn import checkpoint
from flickbook.learn.compute.graph import Graphed
from flickbook.learn.compute.half import HalfCopy
from flickbook.learn.compute.precision import autocast, fastest
from flickbook.learn.compute.throughput import Throughput
from flickbook.learn.config import TrainConfig
from flickbook.learn.dataset import Films, workers_of
from flickbook.learn.muon import Muon, groups_of

NOISE_BINS = 8
LOG_FIELDS = ("step", "stage", "clips", "frames", "loss", *(f"loss_{i}" for i in range(NOISE_BINS)), "grad_norm", "lr")


class Model(nn.Module):
    """The two networks that learn together. A subclass may name another class as `unet_class`."""

    unet_class: type[UNet3D] = UNet3D

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.text_encoder = TextEncoder(TextConfig.from_dict(config.text_encoder))
        self.unet = self.unet_class(UNet3DConfig.from_dict(config.unet))
        if config.temporal_init:
            for module in self.unet.modules():
                if isinstance(module, TemporalConv):
                    last: nn.Conv3d = module.conv4[-1]  # type: ignore[index,assignment]
                    nn.init.normal_(last.weight, std=config.temporal_init * (3 * last.in_channels) ** -0.5)

    def forward(self, x: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
        """Noisy latents (b, c, f, h, w), timesteps (b,), token ids (b, t) -> v (b, c, f, h, w)."""
        prediction: Tensor = self.unet(x, timestep, self.text_encoder(ids))
        return prediction


@dataclass
class Progress:
    """How far a run is; saved with every checkpoint."""

    step: int = 0
    clips: int = 0
    frames: int = 0
    seconds: float = 0.0


def generator(seed: int, rank: int, step: int) -> torch.Generator:
    """The step's own source of noise, on the CPU so that any device sees the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + rank) * 10_000_019 + step)


def timesteps(config: TrainConfig, count: int, source: torch.Generator, total: int = 1000) -> Tensor:
    """(count,) timesteps: a share from the focused part of the process, the rest from all of it; stratified."""
    share, low, high = config.noise_focus
    place = (torch.arange(count) + torch.rand(count, generator=source)) / count
    focused = torch.rand(count, generator=source) < share
    place = place[torch.randperm(count, generator=source)]
    return (torch.where(focused, low + (high - low) * place, place) * total).long().clamp(0, total - 1)


def clip_length(config: TrainConfig, step: int) -> int:
    """The number of frames of this step's clips, spread evenly so that the shares hold over any stretch."""
    stage, place = config.stage_at(step)
    point, total = (place * 0.618033988749895) % 1.0, sum(stage.frames.values())
    for length, share in stage.frames.items():
        point -= share / total
        if point < 0:
            return length
    return length


#: Latents (n, c, f, h, w), noise of that shape, timesteps (n,) and token ids (n, t).
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """What each step learns from, on the processor."""

    config: TrainConfig
    films: Films
    tokenizer: Tokenizer
    rank: int = 0
    ranks: int = 1

    def clips(self, frames: int) -> int:
        """One process's clips of a step."""
        return max(1, self.config.frames_per_step // frames // self.ranks)

    def __getitem__(self, step: int) -> Batch:
        config, frames = self.config, clip_length(self.config, step)
        count = self.clips(frames)
        x0, captions = self.films.batch(config.seed + 7919 * self.rank, step, count, frames, config.consecutive)
        source = generator(config.seed, self.rank, step)
        noise = torch.randn(x0.shape, generator=source)
        return x0, noise, timesteps(config, count, source), self.tokenizer(captions)

    def prepared(self, first: int, device: torch.device) -> Iterable[Batch]:
        """The batches from step `first` to the last; for a GPU other processes prepare them ahead."""
        workers, gpu = workers_of(device, self.ranks), device.type == "cuda"
        context = "fork" if workers else None  # the processes share the films, and use no GPU
        steps = range(first, self.config.steps)
        return DataLoader(
            self, None, sampler=steps, num_workers=workers, pin_memory=gpu, multiprocessing_context=context
        )


@dataclass(frozen=True)
class Pending:
    """The results of a step. A GPU may still compute its losses."""

    known: dict[str, Any]
    each: Tensor  # loss of each clip
    norm: Tensor
    t: Tensor

    def row(self) -> dict[str, Any]:
        """The row of the log, with the mean loss of each eighth of the process that this step met."""
        each, bins = self.each.cpu(), (self.t * NOISE_BINS // 1000).clamp(max=NOISE_BINS - 1)
        found = {f"loss_{i}": float(each[bins == i].mean()) for i in range(NOISE_BINS) if bool((bins == i).any())}
        return {**self.known, "loss": float(each.mean()), "grad_norm": float(self.norm), **found}


class Trainer:
    """Model, optimizer and averages on one device (or one of several, through `accelerate`).

    A subclass may name another class as `model_class`.
    """

    model_class: type[Model] = Model

    def __init__(
        self, config: TrainConfig, films: Films, tokenizer: Tokenizer, out: Path, accelerator: Any = None
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, out
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index if accelerator else 0
        self.ranks: int = accelerator.num_processes if accelerator else 1
        alone = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device = accelerator.device if accelerator else alone
        self.model = self.model_class(config).to(self.device)
        ends = ("unet.conv_in", "unet.conv_out")
        self.optimizer = Muon(groups_of(self.model, ends), betas=config.betas, weight_decay=config.weight_decay)
        self.schedule = NoiseSchedule.from_config(config.scheduler)
        self.averages = {decay: self._snapshot() for decay in config.ema_decays}
        self.progress = Progress()
        shape = films.latents.shape[2:]
        self.throughput = Throughput(self.model, (shape[0], shape[1], shape[2]), config.max_length, self.device)
        self.wrapped = accelerator.prepare(self.model) if accelerator else self.model
        self.batches = Batches(config, films, tokenizer, self.rank, self.ranks)
        self._record()
        gpu = accelerator is None and self.device.type == "cuda" and fastest("cuda") == torch.bfloat16
        self._half = HalfCopy(self.model) if gpu else None

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _record(self) -> None:
        """Make the update a graph, whose kernels read and write the tensors of the optimizer as they are now."""
        # With several processes the update contains communication, so it is not recorded.
        self._update = Graphed(self._learn) if self.accelerator is None else self._learn

    def step(self) -> dict[str, Any]:
        """One update. Returns the row of the log."""
        return self.advance(self.batches[self.progress.step]).row()

    def advance(self, batch: Batch) -> Pending:
        """One update with the batch of this step. A GPU may still compute when it returns."""
        config, number = self.config, self.progress.step
        x0, noise, t, ids = batch
        count, frames, when = len(x0), x0.shape[2], t
        x0, noise, t, ids = (each.to(self.device, non_blocking=True) for each in (x0, noise, t, ids))
        rate = config.learning_rate(number)
        noisy, target = self.schedule.add_noise(x0, noise, t), self.schedule.velocity(x0, noise, t)
        each, norm = self._update(noisy, target, t, ids, torch.full((), rate, device=self.device))
        self._average(number)
        self.progress.step += 1
        self.progress.clips += count * self.ranks
        self.progress.frames += count * self.ranks * frames
        stage, _ = config.stage_at(number)
        row = {"step": number, "stage": stage.name, "clips": self.progress.clips, "frames": frames, "lr": rate}
        return Pending(row, each.clone(), norm.clone(), when)

    def _learn(self, noisy: Tensor, target: Tensor, t: Tensor, ids: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Change the weights; returns the loss of each clip (n,) and the norm of the gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        if self._half is not None:
            self._half.refresh()
            predicted = self._half(noisy, t, ids)
        else:
            with autocast(self.device):
                predicted = self.wrapped(noisy, t, ids)
        each = F.mse_loss(predicted.float(), target, reduction="none").flatten(1).mean(1)
        loss = each.mean()
        loss.backward() if self.accelerator is None else self.accelerator.backward(loss)  # type: ignore[no-untyped-call]
        if self._half is not None:
            self._half.collect()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return each.detach(), norm

    def _efficiency(self, rows: list[dict[str, float]], seconds: float) -> float:
        """This process's share of the best matrix product's operations over the steps of `rows`."""
        lengths = [int(row["frames"]) for row in rows]
        return self.throughput.share([(self.batches.clips(length), length) for length in lengths], seconds)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        state = self.model.state_dict()
        for decay, average in self.averages.items():
            # A young average leans on few steps.
            weight = 1 - min(decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.values()), [state[name] for name in average], weight)

    def averaged(self, decay: float) -> Model:
        """A copy of the model with one of the averages."""
        model = self.model_class(self.config).to(self.device)
        model.load_state_dict(self.averages[decay])
        return model.eval()

    def save(self) -> Path:
        """Write a checkpoint that resumes to the bit."""
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for decay, average in self.averages.items():
            tensors |= {f"ema/{decay}/{name}": value for name, value in average.items()}
        tensors |= {f"adam/{name}": value for name, value in checkpoint.moments(self.optimizer).items()}
        values = {"config": self.config.to_dict(), "progress": vars(self.progress)}
        return checkpoint.save(self.out, self.progress.step, tensors, values)

    def restore(self, path: Path, weights_only: bool = False) -> None:
        """Go on from a checkpoint; with `weights_only` start a new run from its networks and averages.

        Raises WeightsError for a checkpoint that is damaged or of other networks.
        """
        tensors, values = checkpoint.load(path)
        try:
            self.model.load_state_dict(checkpoint.part(tensors, "model/"))
        except RuntimeError as error:
            remedy = "go on with the configuration it was made with, or begin in another directory"
            raise WeightsError(path, "does not fit the networks of this configuration", remedy) from error
        for decay, average in self.averages.items():
            found = checkpoint.part(tensors, f"ema/{decay}/") or checkpoint.part(tensors, "model/")
            for name, value in found.items():
                average[name].copy_(value)
        if weights_only:
            return
        checkpoint.load_moments(self.optimizer, checkpoint.part(tensors, "adam/"))
        self._record()
        self.progress = Progress(**values["progress"])
        if self.rank == 0:
            trim_log(self.out / "log.csv", self.progress.step)

    def run(self, save_every: float = 300.0, log_every: int = 50) -> Iterator[dict[str, float]]:
        """Train to the end of the last stage; yields a mean row every `log_every` steps, saves every `save_every` s."""
        saved, began = time.monotonic(), time.monotonic()
        waiting: list[Pending] = []
        if self.rank == 0:  # what a run that never reached its first checkpoint left behind
            trim_log(self.out / "log.csv", self.progress.step)
        for batch in self.batches.prepared(self.progress.step, self.device):
            waiting.append(self.advance(batch))
            if len(waiting) == log_every or self.progress.step == self.config.steps:
                rows = [each.row() for each in waiting]
                self.progress.seconds += time.monotonic() - began
                row = mean_row(rows)
                row["clips_per_s"] = sum(self.config.frames_per_step / 16 for _ in rows) / (time.monotonic() - began)
                left = self.config.steps - self.progress.step
                row["of_best_matmul"] = self._efficiency(rows, time.monotonic() - began)
                row["minutes_left"] = left * (time.monotonic() - began) / len(rows) / 60
                if self.rank == 0:
                    append_log(self.out / "log.csv", row)
                yield row
                waiting, began = [], time.monotonic()
            if self.rank == 0 and time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        if self.rank == 0:
            self.save()


def warm_start(trainer: Trainer, directory: Path, unet: bool = True) -> None:
    """Start from the networks of a model directory, or from its text encoder alone; optimizer and progress begin anew.

    Raises WeightsError for files that are missing, damaged, or of another shape than the configuration's networks.
    """
    model = trainer.model
    files = {part: weights_file(directory / part, Path(name).stem) for part, name in FILES.items()}
    text = load_weights(lambda: TextEncoder(model.text_encoder.config), files["text_encoder"], rename=text_keys)
    model.text_encoder.load_state_dict(text.state_dict())
    if unet:
        model.unet.load_state_dict(load_weights(lambda: UNet3D(model.unet.config), files["unet"]).state_dict())
    for average in trainer.averages.values():
        for name, value in trainer.model.state_dict().items():
            average[name].copy_(value)


def mean_row(rows: list[dict[str, float]]) -> dict[str, float]:
    """The last row, with losses and gradient norms averaged over all that have them."""
    row = dict(rows[-1])
    for name in sorted({name for each in rows for name in each}):
        if name == "grad_norm" or "loss" in name:
            values = [each[name] for each in rows if name in each]
            row[name] = sum(values) / len(values)
    return row


def append_log(path: Path, row: dict[str, float], fields: Sequence[str] = LOG_FIELDS) -> None:
    """Add a row to the CSV log, which has these columns."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, extrasaction="ignore", restval="")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})


def trim_log(path: Path, first: int) -> None:
    """Drop a log's rows from step `first` on, and a row that a kill cut short: a resumed run writes them again."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = [line for line in file if line.endswith("\n")] or [""]
    if not header:
        path.unlink()
        return
    steps = [row.partition(",")[0] for row in rows]
    kept = [row for row, step in zip(rows, steps, strict=True) if step.isdecimal() and int(step) < first]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join([header, *kept]), encoding="utf-8", newline="")
    os.replace(temporary, path)
