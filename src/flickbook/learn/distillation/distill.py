"""Targets and updates of a distillation: a few-step student learns from a model of the 3D U-Net family.

Guided distillation (Meng et al. 2023, arXiv 2210.03142), then progressive distillation (Salimans & Ho 2022, arXiv
2202.00512). First the student learns the output that the teacher gives with classifier-free guidance, so that it runs
once per step where the teacher runs twice. Then the number of steps is halved, phase by phase: 32, 16, 8, 4. In each
phase one DDIM step of the student learns to end where two steps of the phase before end.

Noise is added to the latents of films: true ones, or those that the teacher makes of prompts, so that no data set is
needed. Prompts are encoded once; the student keeps the teacher's text encoder and autoencoder.
"""

from __future__ import annotations

import copy
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flickbook.diffusion.sampler import SamplerState, sample
from flickbook.diffusion.schedule import END
from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.diffusion.unet3d import UNet3D
from flickbook.errors import RequestError
from flickbook.learn import checkpoint
from flickbook.learn.compute import gradients
from flickbook.learn.compute.graph import Graphed
from flickbook.learn.compute.half import HalfCopy
from flickbook.learn.compute.precision import autocast, fastest
from flickbook.learn.muon import Muon, groups_of

#: The steps of the teacher, and so of the first phase. A student has this number divided by a power of two.
TEACHER_STEPS = 32
SEED_LIMIT = 2**32 - 1
#: (x_t, timesteps (n,), embeddings of the prompts (n, tokens, width)) -> the network's output.
_Output = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DistillConfig:
    """Everything that decides a distillation, apart from the teacher and its films."""

    steps: int = 4
    guidance_scale: float = 2.5
    iterations: int = 400  # updates in each phase
    guidance_iterations: int = 0  # updates in the first phase; 0: as in the others
    batch: int = 8  # films in each update
    lr: float = 3e-4
    warmup_steps: int = 20
    clip_norm: float = 1.0
    ema_decay: float = 0.98
    seed: int = 0
    from_student: bool = False  # start from the student that the teacher's directory has

    def __post_init__(self) -> None:
        for name, low, high in (("guidance_scale", 1, 100), ("lr", 1e-8, 1), ("seed", 0, SEED_LIMIT)):
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise RequestError(name, value, f"must be {low:g} to {high}", "leave it out for the default")
        allowed = [TEACHER_STEPS >> halvings for halvings in range(1, TEACHER_STEPS.bit_length())]
        if self.steps not in allowed:
            limit = f"must be one of {', '.join(map(str, allowed))}: the teacher has {TEACHER_STEPS}"
            raise RequestError("steps", self.steps, limit, "write 4")

    @property
    def phases(self) -> tuple[int, ...]:
        """The student's number of steps at the end of each phase; in the first only guidance is folded in."""
        halvings = (TEACHER_STEPS // self.steps).bit_length() - 1
        return tuple(TEACHER_STEPS >> phase for phase in range(halvings + 1))

    @property
    def updates(self) -> tuple[int, ...]:
        """The number of updates in each phase."""
        return (self.guidance_iterations or self.iterations, *[self.iterations] * (len(self.phases) - 1))


@dataclass
class LatentFilms:
    """Films to learn from: `latents` (n, c, f, h, w) float16 and the embeddings of their prompts (n, tokens,
    width); `negative` (1, tokens, width) is that of the empty prompt, `fps` the frame rate that they were made with."""

    latents: Tensor
    context: Tensor
    negative: Tensor
    fps: float

    @classmethod
    @torch.inference_mode()
    def encode(cls, teacher: TextToVideo, films: Sequence[Tensor], prompts: Sequence[str], fps: float) -> LatentFilms:
        """Films (f, h, w, 3) uint8 with their prompts."""
        at_once = 2 if teacher.device.type == "cpu" else 256
        latents = torch.unflatten(teacher.encode(torch.cat(list(films)), at_once), 1, (len(films), -1)).transpose(0, 1)
        context = teacher.embed(prompts)
        return cls(latents.half().contiguous().cpu(), context.cpu(), teacher.embed([""]).cpu(), fps)

    @classmethod
    @torch.inference_mode()
    def make(
        cls,
        teacher: TextToVideo,
        prompts: Sequence[str],
        config: DistillConfig,
        shape: tuple[int, int, int, int],
        fps: float,
        seed: int,
    ) -> LatentFilms:
        """The teacher's films of the prompts, in one batch: latents of `shape` (c, f, h, w); their seeds count from
        `seed`."""
        context, negative = torch.cat([teacher.embed([prompt]) for prompt in prompts]), teacher.embed([""])
        schedule, seeds = teacher.schedule.of_students(), range(seed, seed + len(prompts))
        state = SamplerState.begin(noise(seeds, shape).to(teacher.device), schedule.timesteps(TEACHER_STEPS))
        scales = [config.guidance_scale] * len(prompts)
        model = teacher.guided(context, negative.expand_as(context), scales, [fps] * len(prompts))
        for reached in sample(model, state, schedule):
            state = reached
        return cls(state.latents.half().cpu(), context.cpu(), negative.cpu(), fps)

    def tensors(self) -> dict[str, Tensor]:
        """Flat tensors for a file."""
        return {
            "latents": self.latents,
            "context": self.context,
            "negative": self.negative,
            "fps": torch.tensor(self.fps),
        }

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> LatentFilms:
        """Read what `tensors` returned."""
        return cls(tensors["latents"], tensors["context"], tensors["negative"], float(tensors["fps"]))


class Distiller:
    """A student and the network that it learns from. Every random draw depends on the seed and the update only.

    Several processes share each batch through `accelerator`; the first one writes. Raises RequestError for a batch that
    they cannot share.
    """

    def __init__(
        self, teacher: TextToVideo, films: LatentFilms, config: DistillConfig, out: Path, accelerator: Any = None
    ) -> None:
        self.config, self.films, self.out, self.number = config, films, out, 0
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index if accelerator else 0
        self.ranks: int = accelerator.num_processes if accelerator else 1
        if config.batch % self.ranks:
            limit = f"must be a multiple of {self.ranks}, the number of processes"
            raise RequestError("batch", config.batch, limit, f"ask for {self.ranks}, or another number of processes")
        self.device, schedule = teacher.device, teacher.schedule.of_students()
        scale = None if schedule.signal_scale is None else schedule.signal_scale.to(self.device)
        self.schedule = replace(schedule, alphas_cumprod=schedule.alphas_cumprod.to(self.device), signal_scale=scale)
        # Row t holds alpha and sigma of timestep t. The last row (index END = -1) is the clean end.
        levels = [schedule.level(t) for t in (*range(schedule.num_train_timesteps), END)]
        self._table = torch.tensor(levels, dtype=torch.float64).float().to(self.device)
        self._negative = films.negative.to(self.device)
        self._halves = self.ranks == 1 and self.device.type == "cuda" and fastest("cuda") == torch.bfloat16
        self.student: UNet3D = copy.deepcopy(teacher.unet).float().requires_grad_(True)
        self.average = {name: value.clone() for name, value in self.student.state_dict().items()}
        self._teacher: UNet3D = copy.deepcopy(self.student).requires_grad_(False)
        self._begin()

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start the first phase from these weights instead of the teacher's."""
        self.student.load_state_dict(weights)
        for name, value in self.average.items():
            value.copy_(weights[name])
        self._begin()

    def _begin(self) -> None:
        """A phase begins: the optimizer starts anew."""
        # Those of the phase before hold memory.
        self._update: Callable[..., tuple[Tensor, ...]] = self._learn
        self._half: HalfCopy | None = None
        self._half_teacher: HalfCopy | None = None
        if self._halves:
            self._half, self._half_teacher = HalfCopy(self.student), HalfCopy(self._teacher)
        self.optimizer = self._optimizer()
        # With several processes the update contains communication, so it is not recorded.
        if self.ranks == 1:
            self._update = Graphed(self._learn)

    def _optimizer(self) -> Muon:
        groups = groups_of(self.student, ("conv_in", "conv_out"))
        return Muon(groups, betas=(0.9, 0.99), weight_decay=0.0)

    @property
    def total(self) -> int:
        """Updates of all phases together."""
        return sum(self.config.updates)

    def _phase(self) -> int:
        """The phase of the next update, by its index."""
        ends = list(accumulate(self.config.updates))
        return min(bisect_right(ends, self.number), len(ends) - 1)

    def _place(self) -> int:
        """The index of the next update in its phase."""
        return self.number - sum(self.config.updates[: self._phase()])

    def _rate(self) -> float:
        """Warm-up, then linear to zero, in each phase anew."""
        place, updates = self._place(), self.config.updates[self._phase()]
        return self.config.lr * min(1.0, (place + 1) / self.config.warmup_steps) * (1 - place / updates)

    def _network(self, unet: UNet3D | HalfCopy, guidance: float = 1.0) -> _Output:
        """A network as a function, with prompts, frame rate and guidance applied."""
        films, device = self.films, self.device

        def output(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
            fps = torch.full((len(x),), films.fps, device=device)
            with nullcontext() if isinstance(unet, HalfCopy) else autocast(device):
                if guidance == 1:
                    return unet(x, timestep, context, fps).float()  # type: ignore[no-any-return]
                both = torch.cat([self._negative.expand_as(context), context])
                pair = unet(torch.cat([x, x]), torch.cat([timestep] * 2), both, torch.cat([fps] * 2))
            without, with_words = pair.float().chunk(2)
            guided: Tensor = without + guidance * (with_words - without)
            return guided

        return output

    def target(self, x: Tensor, here: Tensor, middle: Tensor, end: Tensor, context: Tensor) -> Tensor:
        """The estimate of x_0 that the student learns, for x (n, c, f, h, w) at timesteps of `times`.

        From the second phase on it leads to where two steps of the phase before, over `middle`, reach `end`.
        """
        teacher = self._half_teacher or self._teacher
        if self._phase() == 0:
            network = self._network(teacher, self.config.guidance_scale)
            return self.schedule.x0_from(network(x, here, context), x, here)
        network = self._network(teacher)
        between = self._ddim(x, self.schedule.x0_from(network(x, here, context), x, here), here, middle)
        estimate = self.schedule.x0_from(network(between, middle, context), between, middle)
        reached = self._ddim(between, estimate, middle, end)
        (a, s), (b, r) = self._levels(here, x), self._levels(end, x)
        return (reached - r / s * x) / (b - r / s * a)

    def _grid(self, phase: int) -> tuple[int, ...]:
        return self.schedule.timesteps(self.config.phases[phase])

    def _levels(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma of each item, with the shape to multiply `like`; 1 and 0 at `END`."""
        alpha, sigma = self._table[timestep].to(like.dtype).unbind(1)
        shape = (-1, *[1] * (like.ndim - 1))
        return alpha.view(shape), sigma.view(shape)

    def _ddim(self, x: Tensor, x0: Tensor, start: Tensor, end: Tensor) -> Tensor:
        (a, s), (b, r) = self._levels(start, x), self._levels(end, x)
        return b * x0 + r / s * (x - a * x0)

    def _draw(self) -> tuple[Tensor, ...]:
        """This update's x0, noise and prompts, and the timesteps where its steps begin, halve and end."""
        config, grid = self.config, self._grid(self._phase())
        source = torch.Generator().manual_seed(config.seed * 1_000_003 + self.number)
        chosen = torch.randint(len(self.films.latents), (config.batch,), generator=source)
        # Stratified over the grid, so that each update meets high and low noise.
        offset = torch.rand(1, generator=source)
        places = (((torch.arange(config.batch) + offset) / config.batch) * len(grid)).long().clamp(max=len(grid) - 1)
        places = places[torch.randperm(config.batch, generator=source)]
        x0 = self.films.latents[chosen].float()
        epsilon = torch.randn(x0.shape, generator=source)
        drawn = (x0, epsilon, self.films.context[chosen], *self.times(places))
        return tuple(each[self.rank :: self.ranks].to(self.device) for each in drawn)

    def times(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the student's steps of these places in this phase's grid begin, halve and end: timesteps (n,)."""
        phase = self._phase()
        fine = torch.tensor([*self._grid(max(0, phase - 1)), END])
        stride = 1 if phase == 0 else 2  # the first phase does not halve
        here, middle, end = (fine[(stride * places + i).clamp(max=len(fine) - 1)] for i in range(3))
        return here, middle, end

    def update(self) -> dict[str, float]:
        """One update of the student. Returns its number, phase and loss."""
        config, number = self.config, self.number
        x0, epsilon, context, here, middle, end = self._draw()
        x = self.schedule.add_noise(x0, epsilon, here)
        (loss,) = self._update(x, context, here, middle, end, torch.full((), self._rate(), device=self.device))
        mean = self.accelerator.reduce(loss, "mean") if self.accelerator else loss
        if not torch.isfinite(mean):
            limit = f"the loss of update {number} is not finite"
            raise RequestError("lr", config.lr, limit, "start again with a lower one, in another --out")
        steps = config.phases[self._phase()]
        self._average(self._place())
        self.number += 1
        if self.number in accumulate(config.updates):
            self._advance()
        return {"update": number, "steps": steps, "loss": float(mean)}

    def _learn(
        self, x: Tensor, context: Tensor, here: Tensor, middle: Tensor, end: Tensor, rate: Tensor
    ) -> tuple[Tensor]:
        """Change the student's weights; returns the loss."""
        with torch.no_grad():
            target = self.target(x, here, middle, end, context)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self._half is not None:
            self._half.refresh()
        estimate = self.schedule.x0_from(self._network(self._half or self.student)(x, here, context), x, here)
        _, sigma = self._levels(here, x)
        # 1 / sigma^2 = 1 + SNR: the error of v, for networks that predict v.
        loss = ((estimate - target) / sigma).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._half is not None:
            self._half.collect()
        gradients.average(self.student.parameters(), self.accelerator)
        nn.utils.clip_grad_norm_(self.student.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return (loss.detach(),)

    @torch.no_grad()
    def _average(self, place: int) -> None:
        weight = 1 - min(self.config.ema_decay, (1 + place) / (10 + place))
        state = self.student.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [state[name] for name in self.average], weight)

    def _advance(self) -> None:
        """The next phase begins: the averaged student is its teacher, and the optimizer starts anew."""
        self.student.load_state_dict(self.average)
        self._teacher.load_state_dict(self.average)
        self._begin()

    def save(self) -> Path:
        """Write a checkpoint. A run resumed from it has the same bits as an uninterrupted one."""
        tensors = {f"student/{name}": value for name, value in self.student.state_dict().items()}
        tensors |= {f"teacher/{name}": value for name, value in self._teacher.state_dict().items()}
        tensors |= {f"ema/{name}": value for name, value in self.average.items()}
        tensors |= {f"optimizer/{name}": value for name, value in checkpoint.moments(self.optimizer).items()}
        return checkpoint.save(self.out, self.number, tensors, {"config": asdict(self.config)})

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint. Raises WeightsError if it is damaged, RequestError for another configuration."""
        tensors, values = checkpoint.load(path)
        if values["config"] != asdict(self.config):
            remedy = "use the options of that run, or another --out"
            raise RequestError("out", self.out, "holds a checkpoint of other options", remedy)
        self.student.load_state_dict(checkpoint.part(tensors, "student/"))
        self._teacher.load_state_dict(checkpoint.part(tensors, "teacher/"))
        for name, value in checkpoint.part(tensors, "ema/").items():
            self.average[name].copy_(value)
        self._begin()
        checkpoint.load_moments(self.optimizer, checkpoint.part(tensors, "optimizer/"))
        self.number = values["step"]

    def run(self, save_every: float = 300.0, log_every: int = 50) -> Iterator[dict[str, float]]:
        """Train to the end. Yields a mean row every `log_every` updates and saves every `save_every` seconds."""
        saved, rows = time.monotonic(), []
        while self.number < self.total:
            rows.append(self.update())
            if self.number % log_every == 0 or self.number == self.total:
                yield {**rows[-1], "loss": sum(row["loss"] for row in rows) / len(rows)}
                rows = []
            if self.rank == 0 and time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        if self.rank == 0:
            self.save()
