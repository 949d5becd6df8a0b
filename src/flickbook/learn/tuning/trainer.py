"""The updates of a LoRA training or a full fine-tuning, its checkpoints, and its log.

Every random draw of an update (clips, dropped captions, noise, noise levels) follows from the seed and the number of
the update, so a run that resumes from a checkpoint equals an uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from flickbook.diffusion import heap
from flickbook.errors import RequestError
from flickbook.learn import checkpoint
from flickbook.learn.compute import gradients
from flickbook.learn.train import mean_row
from flickbook.learn.tuning import adapter
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.data.cache import Example, Examples
from flickbook.learn.tuning.target import Batch, Losses, Target, autocast

NOISE_BINS = 8
#: Evaluations on held-out clips whose mean counts: a single one was 9 % below its neighbours by chance.
_MEAN_OF = 3
#: A held-out loss that is larger than the lowest mean by this factor is overfitting. Smaller differences say little: of
#: the lowest one and a later one 6 % above it, the later one showed a new motion more often (67 and 97 % of films).
OVERFIT = 1.15
#: Noise draws of each held-out clip in an evaluation.
_DRAWS = 4


@dataclass
class Progress:
    """How far a run is; saved with every checkpoint.

    `recent` are the newest losses on held-out clips. `best` is the lowest mean of `_MEAN_OF` neighbouring ones (of
    fewer at first), at update `best_at`, and `last` the newest mean; `waited` counts the evaluations since the best
    whose mean was worse by more than `OVERFIT`.
    """

    update: int = 0
    seconds: float = 0.0
    best: float = math.inf
    best_at: int = 0
    waited: int = 0
    last: float = math.inf
    recent: list[float] = field(default_factory=list)


class Tuner:
    """Trains a `Target` on examples. With several processes, each takes its share of a batch."""

    def __init__(
        self, target: Target, examples: Examples, config: TuneConfig, out: Path, accelerator: Any = None
    ) -> None:
        self.target, self.examples, self.config, self.out = target, examples, config, out
        self.accelerator, self.progress = accelerator, Progress()
        self.rank: int = accelerator.process_index if accelerator else 0
        self.ranks: int = accelerator.num_processes if accelerator else 1
        if config.batch % self.ranks or config.prior % self.ranks:
            limit = f"and --prior must be multiples of {self.ranks}, the number of processes"
            raise RequestError("batch", config.batch, limit, f"ask for {self.ranks}, or another number of processes")
        self.parameters = adapter.trained(target.networks)
        self.optimizer = _optimizer(list(self.parameters.values()), config, target.device)
        half = config.precision == "fp16" and target.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(target.device.type, enabled=half)
        self.best: dict[str, Tensor] = {}
        #: Whether clips and prior examples are computed in one pass: in all updates and processes, or in none.
        self.joint = target.joint and examples.one_shape()
        #: False once another process may write to `out`.
        self.may_write: Callable[[], bool] = lambda: True

    def rate(self) -> float:
        """The learning rate of the next update: a warm-up, then a cosine to 0."""
        config, number = self.config, self.progress.update
        rise = min(1.0, (number + 1) / max(1, config.warmup))
        return config.lr * rise * 0.5 * (1 + math.cos(math.pi * number / config.iterations))

    def update(self) -> dict[str, float]:
        """One update. Returns the row of the log. Raises RequestError if the loss or its gradient is not finite."""
        config, number = self.config, self.progress.update
        seed = (config.seed * 1_000_003 + number) * 1009 + self.rank
        source = torch.Generator().manual_seed(seed)
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        clips = self.examples.batch(config.batch // self.ranks, config.caption_dropout, source)
        known = self.examples.prior_batch(config.prior // self.ranks, source) if self.examples.prior else []
        row = {"update": number + 1.0, "lr": rate}
        if known and self.joint:
            row |= self._pass(clips, known, source)
        else:  # one after the other, so that only one batch's activations are kept
            row |= self._pass(clips, [], source)
            row |= self._pass([], known, source) if known else {}
        gradients.average(self.parameters.values(), self.accelerator)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), config.clip_norm)
        if not self.scaler.is_enabled():  # which skips an update whose gradient is not finite
            self._check_finite(norm, "gradient")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.progress.update += 1
        return {**row, "grad_norm": float(norm)}

    def _pass(self, clips: Sequence[Example], known: Sequence[Example], source: torch.Generator) -> dict[str, float]:
        """Add the gradients of the mean losses of clips and of prior examples. Returns their part of the log's row."""
        losses = self._losses([*clips, *known], source, len(known))
        own, prior = losses.each[: len(clips)], losses.each[len(clips) :]
        means = {name: each.mean() for name, each in (("loss", own), ("prior_loss", prior)) if len(each)}
        total = torch.stack(list(means.values())).sum()
        self._check_finite(total, "loss")
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        found = {name: float(each.detach()) for name, each in means.items()}
        return found | _by_level(Losses(own, losses.level[: len(clips)]))

    def _losses(self, examples: Sequence[Example], source: torch.Generator, known: int = 0) -> Losses:
        latents = torch.stack([each.latents for each in examples]).float()
        with autocast(self.target, self.config):
            batch = Batch(latents, [each.condition for each in examples], [each.fps for each in examples], known)
            return self.target.losses(batch, source)

    def _check_finite(self, value: Tensor, what: str) -> None:
        """Raise RequestError, with the weights saved, if a value is not finite in one of the processes."""
        finite = torch.isfinite(value.detach()).float()
        if bool(self.accelerator.reduce(finite, "sum") == self.ranks) if self.accelerator else bool(finite):
            return
        newest, done = self.save() if self.rank == 0 else self.out, self.progress.update
        limit = f"the {what} of update {done + 1} is not finite; the weights before it are in {newest}"
        remedy = "lower it and start again in another output directory"
        if done:  # a training has at least one update
            remedy += f", or end this training with these weights: the same command with `--iterations {done}`"
        raise RequestError("lr", self.config.lr, limit, remedy)

    @torch.no_grad()
    def validate(self) -> float:
        """The mean loss on held-out clips, always at the same noise."""
        source, total, count = torch.Generator().manual_seed(self.config.seed + 1), 0.0, 0
        for batch in self.examples.held_out_batches(self.config.batch):
            for _ in range(_DRAWS):
                losses = self._losses(batch, source).each
                total, count = total + float(losses.sum()), count + len(losses)
        found = torch.tensor(total / count, dtype=torch.float64)
        if self.accelerator:  # all processes must decide the same
            found = self.accelerator.reduce(found.to(self.target.device, torch.float32), "mean")
        return float(found)

    def _judge(self) -> float | None:
        """Evaluate on held-out clips if it is time, and keep the best weights."""
        config, progress = self.config, self.progress
        due = progress.update % config.validate_every == 0 or progress.update == config.iterations
        if not self.examples.held_out or not due:
            return None
        loss = self.validate()
        progress.recent = [*progress.recent, loss][-_MEAN_OF:]
        progress.last = mean(progress.recent)
        if progress.last < progress.best:
            progress.best, progress.best_at, progress.waited = progress.last, progress.update, 0
            self.best = {name: value.detach().clone() for name, value in self.parameters.items()}
        elif progress.last > OVERFIT * progress.best:
            progress.waited += 1
        return loss

    @property
    def ended(self) -> bool:
        """Whether all updates are done, or held-out clips stopped the training."""
        late = self.config.patience and self.progress.waited >= self.config.patience
        return self.progress.update >= self.config.iterations or bool(late)

    def run(
        self,
        save_every: float = 60.0,
        log_every: int = 10,
        sample_every: int = 0,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[dict[str, float]]:
        """Train to the end. Yields a mean row every `log_every` and every `sample_every` updates, and saves every
        `save_every` seconds; `stop` is asked before each update and ends the run early, with a checkpoint."""
        with heap.reused():
            yield from self._run(save_every, (log_every, sample_every), stop)

    def _run(
        self, save_every: float, every: tuple[int, ...], stop: Callable[[], bool] | None
    ) -> Iterator[dict[str, float]]:
        saved = began = time.monotonic()
        first = self.progress.update
        rows: list[dict[str, float]] = []
        while not self.ended:
            if stop is not None and stop():
                break
            rows.append(self.update())
            loss = self._judge()
            if loss is not None or any(n and self.progress.update % n == 0 for n in every) or self.ended:
                self.progress.seconds += time.monotonic() - began
                began = time.monotonic()
                row = mean_row(rows) | {"seconds": self.progress.seconds}
                yield row if loss is None else {**row, "validation_loss": loss}
                rows = []
            if self.rank == 0 and time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        self.progress.seconds += time.monotonic() - began
        if self.rank == 0 and self.progress.update > first:
            self.save()

    @torch.no_grad()
    def take_best(self) -> int:
        """If the last weights overfit, set the weights to those with the lowest loss on held-out clips. Returns the
        update of the weights."""
        if not self.best or self.progress.last <= OVERFIT * self.progress.best:
            return self.progress.update
        for name, value in self.best.items():
            self.parameters[name].copy_(value)
        return self.progress.best_at

    def save(self) -> Path:
        """Write a checkpoint, unless `may_write` forbids it."""
        if not self.may_write():
            return self.out
        tensors: dict[str, Tensor] = {f"weights/{name}": value for name, value in self.parameters.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        tensors |= {f"optimizer/{name}": value for name, value in checkpoint.moments(self.optimizer).items()}
        values = {"config": self._identity(), "progress": vars(self.progress), "data": self.examples.digest}
        return checkpoint.save(self.out, self.progress.update, tensors, {**values, "scaler": self.scaler.state_dict()})

    def _identity(self) -> dict[str, Any]:
        """What a resumed run must share with this one."""
        return self.config.same_run() | {"processes": self.ranks}

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint, or end with it if it has just as many updates as the options ask for. Raises
        WeightsError if it is damaged, RequestError for other options or clips."""
        tensors, values = checkpoint.load(path)
        wrong = [name for name, value in self._identity().items() if values["config"].get(name) != value]
        if values["progress"]["update"] == self.config.iterations:  # no update is left whose learning rate they decide
            wrong = [name for name in wrong if name != "iterations"]
        wrong += ["clips"] if values["data"] != self.examples.digest else []
        if wrong:
            limit = f"holds a training with other options ({', '.join(wrong)} differ)"
            remedy = "use the options of that run, or another output directory"
            raise RequestError("output", self.out.parent, limit, remedy)
        with torch.no_grad():
            for name, value in checkpoint.part(tensors, "weights/").items():
                self.parameters[name].copy_(value)
        self.best = {n: v.to(self.target.device) for n, v in checkpoint.part(tensors, "best/").items()}
        checkpoint.load_moments(self.optimizer, checkpoint.part(tensors, "optimizer/"))
        self.scaler.load_state_dict(values["scaler"]) if values["scaler"] else None
        self.progress = Progress(**values["progress"])


def check_optimizer(config: TuneConfig, device: torch.device) -> None:
    """Raise RequestError if the optimizer needs another device, or a package that is not installed."""
    if config.optimizer == "adamw":
        return
    if device.type != "cuda":
        raise RequestError("optimizer", config.optimizer, "needs a CUDA GPU", "use adamw")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        remedy = "install it with pip, or use adamw"
        raise RequestError("optimizer", config.optimizer, "needs the package bitsandbytes", remedy) from None


def _optimizer(parameters: list[nn.Parameter], config: TuneConfig, device: torch.device) -> torch.optim.Optimizer:
    how: dict[str, Any] = {"lr": config.lr, "betas": (0.9, 0.99), "weight_decay": config.weight_decay}
    check_optimizer(config, device)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=device.type == "cpu", **how)
    import bitsandbytes

    eight: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(parameters, **how)
    return eight


def _by_level(losses: Losses) -> dict[str, float]:
    """Mean loss of each eighth of the noise levels that the batch has."""
    bins = (losses.level * NOISE_BINS).long().clamp(max=NOISE_BINS - 1)
    each = losses.each.detach().cpu()
    return {f"loss_{i}": float(each[bins == i].mean()) for i in range(NOISE_BINS) if bool((bins == i).any())}
