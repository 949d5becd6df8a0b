"""How often a model shows what it was asked for: films of many prompts, read back by the judge.

The table gives each attribute and "all correct" with Wilson intervals, in the groups of `GROUPS`: "held out" are pairs
that no training film showed. It also gives the steadiness of objects beside that of the true films of the same prompts,
the seconds to make a film (in batches of 8), and the autoencoder's fidelity on films it never saw. Beside it stands the
judge's own ceiling: the same measure on raw renders, and on renders that went through the autoencoder. A model with a
few-step student gets the same table for `--speed turbo`. A thorough evaluation adds FVD-w, motion and flicker, the
diversity, the nearest training clip and the cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.engine.memory.device import device_name, forget_peak, peak_memory
from flickbook.errors import MissingExtra
from flickbook.learn.autoencode import psnr
from flickbook.learn.dataset import EVALUATION_SEEDS, pixels
from flickbook.learn.evaluation import few_steps
from flickbook.learn.evaluation.adherence import GROUPS, Tally, prompts
from flickbook.learn.evaluation.collect import Collector, Shot
from flickbook.learn.evaluation.comparison import complete
from flickbook.learn.evaluation.page import page, write, write_all
from flickbook.learn.evaluation.report import table
from flickbook.media.write import check_target
from flickbook.world.captions import captions
from flickbook.world.detect import judge
from flickbook.world.render import render
from flickbook.world.scenes import FPS, FRAMES, SIZE, Scene, sample

__all__ = [
    "GROUPS",
    "Settings",
    "Stopwatch",
    "Tally",
    "ceiling",
    "draw",
    "evaluate",
    "main",
    "prompts",
    "reconstruct",
    "table",
]

#: Films of each group by which the judge and the autoencoder are calibrated; fewer where there are few prompts.
CALIBRATION = 20
_FEWEST = 4
Progress = Callable[[int, int], None]


@dataclass
class Stopwatch:
    """The seconds that an iterator takes to yield its items, without those that its consumer takes."""

    seconds: float = 0.0

    def over(self, films: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield all of `films`."""
        while True:
            began = time.perf_counter()
            film = next(films, None)
            self.seconds += time.perf_counter() - began
            if film is None:
                return
            yield film


@dataclass(frozen=True)
class Settings:
    """How evaluation samples; the defaults are those of the published table."""

    num_inference_steps: int = 25
    guidance_scale: float = 2.5
    scheduler: str = "ddim"
    batch: int = 8


def draw(networks: TextToVideo, scenes: Sequence[Scene], settings: Settings) -> Iterator[np.ndarray]:
    """A film (16, 128, 128, 3) uint8 for each scene's first caption; its noise comes from the scene's own seed."""
    return films_of(networks, [captions(scene)[0] for scene in scenes], [scene.seed for scene in scenes], settings)


def films_of(
    networks: TextToVideo, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
) -> Iterator[np.ndarray]:
    """A film (16, 128, 128, 3) uint8 for each prompt."""
    empty, at_once = networks.embed([""]), 2 if networks.device.type == "cpu" else FRAMES
    for start in range(0, len(prompts), settings.batch):
        part = prompts[start : start + settings.batch]
        context = networks.embed(part)
        latents = noise(seeds[start : start + settings.batch], networks.latent_shape(FRAMES, SIZE, SIZE))
        timesteps = networks.schedule.timesteps(settings.num_inference_steps)
        begin = SamplerState.begin(latents.to(networks.device), timesteps)
        scales = [settings.guidance_scale] * len(part)
        for state in networks.denoise(
            begin, context, empty.expand_as(context), scales, settings.scheduler, [FPS] * len(part)
        ):
            latents = state.latents
        for latent in latents:
            yield torch.cat(list(networks.decode(latent, at_once))).numpy()


@torch.inference_mode()
def reconstruct(networks: TextToVideo, film: np.ndarray) -> np.ndarray:
    """A film through the autoencoder and back, uint8."""
    latents = networks.autoencoder.encode(pixels(film).to(networks.device)).mode()
    decoded = networks.decode(latents.transpose(0, 1) * networks.autoencoder.config.scaling_factor)
    return torch.cat(list(decoded)).numpy()


def ceiling(networks: TextToVideo | None, count: int = CALIBRATION) -> dict[str, Any]:
    """The judge on true films, raw and through the autoencoder, and the autoencoder's PSNR (dB), by group.

    Without networks only raw.
    """
    found: dict[str, Any] = {}
    for name, (group, heldout, _) in GROUPS.items():
        raw, coded, decibels = Tally(), Tally(), []
        for i in range(count):
            scene = sample(EVALUATION_SEEDS + 5_000_000 + i, group, heldout)
            film = render(scene)
            raw.add(judge(scene, film))
            if networks is not None:
                back = reconstruct(networks, film)
                coded.add(judge(scene, back))
                decibels.append(psnr(pixels(film), pixels(back)))
        found[name] = {"raw": raw.rows()}
        if networks is not None:
            found[name] |= {"autoencoder": coded.rows(), "psnr": float(np.mean(decibels))}
    return found


class Count:
    """Counts films and reports them as (films done, films in all)."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self._progress = 0, total, progress

    def one(self) -> None:
        """One more film is done."""
        self.done += 1
        if self._progress is not None:
            self._progress(self.done, self.total)


def evaluate(
    networks: TextToVideo,
    count: int,
    settings: Settings | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    calibration: int = CALIBRATION,
    student: tuple[TextToVideo, int] | None = None,
    name: str = "model",
    *,
    seed: int = 0,
    coverage: float = 1.0,
    thorough: bool = False,
    beside: Sequence[Path] = (),
) -> dict[str, Any]:
    """Make and judge `count` films; with `out` also write report.html, and contact sheets of wins and failures, there.

    `progress` is called with (films done, films in all); `calibration` true films of each group give the ceiling. A
    `student` is a model of few steps with their number; it makes the same films. `seed` chooses other prompts, and
    `coverage` is that of the model's training. `thorough` adds the other measures, and to `out` all reports.
    `beside` is as in `main`.
    """
    settings = settings or Settings()
    chosen, spent = prompts(count, seed, coverage), Stopwatch()
    total, first = sum(map(len, chosen.values())), next(iter(chosen.values()))
    extra = len(few_steps.varied(first, count)) if thorough else 0
    both = 0 if student is None else total + 2 * few_steps.SEEDS * min(few_steps.PROMPTS, len(first))
    counted = Count(total + extra + both, progress)
    collector = Collector(total, thorough, out)
    forget_peak()
    for group, scenes in chosen.items():
        for scene, film in zip(scenes, spent.over(draw(networks, scenes, settings)), strict=True):
            collector.add(group, Shot(film, FPS, captions(scene)[0], scene, label=f"seed {scene.seed}"))
            counted.one()
    result: dict[str, Any] = {"prompts": total, "settings": vars(settings), **collector.result()}
    result["seconds_per_film"], peak = spent.seconds / total, peak_memory()
    if student is not None:
        result["turbo"] = _turbo(networks, student, settings, chosen, counted.one)
    result["ceiling"] = ceiling(networks, calibration)
    if thorough:
        again = _counted(partial(draw, networks, settings=settings), counted)
        result |= {"source": "model", "model": name, "seed": seed}
        result |= complete(collector, coverage) | {"diversity": few_steps.variety(first, again, count)}
        result["cost"] = cost(spent.seconds / total, settings.num_inference_steps, peak, networks.device.type)
    if out is not None:
        collector.write_sheets()
        if thorough:
            write_all(out, result, collector, name, beside)
        else:
            write(out / "report.html", page(result, collector.shown, name))
    return result


def cost(seconds: float, steps: int, peak: int, device: str) -> dict[str, Any]:
    """What a film costs on this machine; `peak` is the memory of the process in bytes, and on a GPU also of that."""
    if device == "cuda":
        peak += torch.cuda.max_memory_allocated()
    return {
        "device": device_name(device),
        "seconds_per_film": seconds,
        "num_inference_steps": steps,
        "peak_memory_bytes": peak,
    }


def _counted(draw: few_steps.Draw, counted: Count) -> few_steps.Draw:
    def drawn(scenes: Sequence[Scene]) -> Iterator[np.ndarray]:
        for film in draw(scenes):
            counted.one()
            yield film

    return drawn


def _turbo(
    networks: TextToVideo,
    student: tuple[TextToVideo, int],
    settings: Settings,
    chosen: Mapping[str, Sequence[Scene]],
    count_one: Callable[[], None],
) -> dict[str, Any]:
    """The table of a student, and its motion and diversity beside the teacher's."""
    few, steps = student
    fast, spent = Settings(steps, 1.0, "ddim", settings.batch), Stopwatch()
    found: dict[str, Any] = {"num_inference_steps": steps, "groups": {}}
    for group, scenes in chosen.items():
        tally = Tally()
        for scene, film in zip(scenes, spent.over(draw(few, scenes, fast)), strict=True):
            tally.add(judge(scene, film))
            count_one()
        found["groups"][group] = tally.rows()
    found["seconds_per_film"] = spent.seconds / sum(map(len, chosen.values()))
    first = next(iter(chosen.values()))

    def counted(side: TextToVideo, how: Settings, scenes: Sequence[Scene]) -> Iterator[np.ndarray]:
        for film in draw(side, scenes, how):
            count_one()
            yield film

    found |= few_steps.ratios(first, partial(counted, networks, settings), partial(counted, few, fast))
    return found


def main(
    model: str,
    prompts: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    *,
    seed: int = 0,
    loras: Sequence[str] = (),
    model_dir: Path | None = None,
    beside: Sequence[Path] = (),
) -> dict[str, Any]:
    """Evaluate a model of the catalogue, a model directory in diffusers' layout, or a directory of films.

    `prompts` is 100 if not given; films that exist are all measured. A model of the world's words is run directly, with
    the settings of the published table; any other by the engine, with its own. `beside` are directories of earlier
    reports, whose films the page for rating mixes in. Raises ModelNotFound, RequestError, WeightsError, MediaError,
    OutputError, MissingExtra.
    """
    from flickbook import catalogue
    from flickbook.engine.films import located
    from flickbook.hub import find
    from flickbook.learn.evaluation import rate, sources

    if find_spec("cv2") is None:  # motion is measured after the first film; refused now
        raise MissingExtra("opencv-python-headless", "finish")
    if out is not None:
        check_target(out / "report.json", overwrite=True)
    for each in beside:
        rate.read(each)
    place = Path(model)
    if place.is_dir() and (paths := sources.film_files(place)) and not (place / "model_index.json").is_file():
        sources.check_films(place, prompts, seed, loras, model_dir)
        return sources.evaluate_files(model, paths, out, progress, beside)
    entry = sources.model_of(place) if place.is_dir() else catalogue.find(model)
    home = place if place.is_dir() else model_dir
    count = 100 if prompts is None else prompts
    if entry.name != "builtin":
        films = sources.EngineFilms.of(entry, home, loras)
        return sources.evaluate_engine(model, films, count, out, progress, seed, beside)
    entry = entry if home is None else entry.at(home)
    directory, added = find.directory(entry), located(list(loras)) or ()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks = TextToVideo.load(directory, device=device)
    if added:
        from flickbook.engine.lora.apply import inject

        inject(networks, [(Path(path), weight) for path, weight in added])
    networks = networks.pack()
    student = None
    if (directory / catalogue.STUDENT / catalogue.STUDENT_CARD).is_file() and not added:
        few = entry.at(directory).few_steps()
        student = (
            TextToVideo.load(directory, device=device, student=few.student).pack(),
            few.num_inference_steps.default,
        )
    calibration = max(_FEWEST, min(CALIBRATION, count // 10))
    how: dict[str, Any] = {"seed": seed, "coverage": sources.coverage_of(directory), "thorough": True}
    name = " + ".join([model, *loras])
    return evaluate(networks, count, None, out, progress, calibration, student, name, beside=beside, **how)
