"""How often a model shows what it was asked for: films of many prompts, read back by the judge.

The table gives each attribute and "all correct" with Wilson intervals, in the groups of `GROUPS`: "held out" are pairs
that no training film showed. It also gives the steadiness of objects beside that of the true films of the same prompts,
the seconds to make a film (in batches of 8), and the autoencoder's fidelity on films it never saw. Beside it stands the
judge's own ceiling: the same measure on raw renders, and on renders that went through the autoencoder. A model with a
few-step student gets the same table for `--speed turbo`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.learn.autoencode import psnr
from flickbook.learn.dataset import EVALUATION_SEEDS, pixels
from flickbook.learn.evaluation import few_steps
from flickbook.learn.evaluation.page import Shown, page, write
from flickbook.media.sheet import contact_sheet
from flickbook.world.captions import captions
from flickbook.world.detect import Verdict, judge, wilson
from flickbook.world.render import render
from flickbook.world.scenes import FPS, FRAMES, OBJECTS, SIZE, Scene, sample
from flickbook.world.steadiness import steadiness

#: Group -> (what the world draws, held out, share of the prompts).
GROUPS: dict[str, tuple[str, bool, float]] = {
    "core": ("core", False, 0.36),
    "core held out": ("core", True, 0.2),
    "two objects": ("pair", False, 0.06),
    "several": ("several", False, 0.04),
    "digits": ("digits", False, 0.06),
    "scenes": ("views", False, 0.1),
    "book": ("book", False, 0.12),
    "book held out": ("book", True, 0.06),
}
#: Films of each group by which the judge and the autoencoder are calibrated; fewer where there are few prompts.
CALIBRATION = 20
_FEWEST = 4
_SHEET_ROWS = 12
#: Films of each group that the report shows, in the order of their seeds.
_REPORT_FILMS = 6


@dataclass
class Tally:
    """Right and total of each attribute in one group."""

    right: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count one film."""
        for word, held in {**verdict.counted, **verdict.apart, "all correct": verdict.all_correct}.items():
            self.right[word] += bool(held)
            self.total[word] += 1

    def rows(self) -> dict[str, dict[str, float]]:
        """attribute -> right, total, share and the ends of its 95 % Wilson interval."""
        rows = {}
        for word, total in self.total.items():
            low, high = wilson(self.right[word], total)
            rows[word] = {"right": self.right[word], "total": total, "share": self.right[word] / total}
            rows[word] |= {"low": low, "high": high}
        return rows


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


def prompts(count: int) -> dict[str, list[Scene]]:
    """`count` scenes in the shares of `GROUPS`, from seeds that training never uses."""
    found: dict[str, list[Scene]] = {}
    before, reached = 0, 0.0
    for name, (group, heldout, share) in GROUPS.items():
        first = EVALUATION_SEEDS + 10_000 * len(found)
        reached += share
        # Rounded where each group ends, so that all together are `count`.
        end = int(count * reached + 0.5)
        found[name] = [sample(first + i, group, heldout) for i in range(end - before)]
        before = end
    return {name: scenes for name, scenes in found.items() if scenes}


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
    empty = networks.embed([""])
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
            yield torch.cat(list(networks.decode(latent))).numpy()


@torch.inference_mode()
def reconstruct(networks: TextToVideo, film: np.ndarray) -> np.ndarray:
    """A film through the autoencoder and back, uint8."""
    latents = networks.autoencoder.encode(pixels(film).to(networks.device)).mode()
    decoded = networks.decode(latents.transpose(0, 1) * networks.autoencoder.config.scaling_factor)
    return torch.cat(list(decoded)).numpy()


def ceiling(networks: TextToVideo, count: int = CALIBRATION) -> dict[str, Any]:
    """The judge on true films, raw and through the autoencoder, and the autoencoder's PSNR (dB), by group."""
    found: dict[str, Any] = {}
    for name, (group, heldout, _) in GROUPS.items():
        raw, coded, decibels = Tally(), Tally(), []
        for i in range(count):
            scene = sample(EVALUATION_SEEDS + 5_000_000 + i, group, heldout)
            film = render(scene)
            back = reconstruct(networks, film)
            raw.add(judge(scene, film))
            coded.add(judge(scene, back))
            decibels.append(psnr(pixels(film), pixels(back)))
        found[name] = {"raw": raw.rows(), "autoencoder": coded.rows(), "psnr": float(np.mean(decibels))}
    return found


def evaluate(
    networks: TextToVideo,
    count: int,
    settings: Settings | None = None,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    calibration: int = CALIBRATION,
    student: tuple[TextToVideo, int] | None = None,
    name: str = "model",
) -> dict[str, Any]:
    """Make and judge `count` films; with `out` also write report.html, and contact sheets of wins and failures, there.

    `progress` is called with (films done, films in all); `calibration` true films of each group give the ceiling. A
    `student` is a model of few steps with their number; it makes the same films.
    """
    settings = settings or Settings()
    chosen, done, spent = prompts(count), 0, Stopwatch()
    total = sum(map(len, chosen.values()))
    if student is not None:
        total += total + 2 * few_steps.SEEDS * min(few_steps.PROMPTS, len(next(iter(chosen.values()))))
    result: dict[str, Any] = {"prompts": sum(map(len, chosen.values())), "settings": vars(settings)}
    result |= {"groups": {}, "steadiness": {}}
    shown: dict[str, list[Shown]] = {}

    def count_one() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for group, scenes in chosen.items():
        tally, steady = Tally(), []
        kept: dict[bool, list[tuple[np.ndarray, str]]] = {True: [], False: []}
        shown[group] = []
        for scene, film in zip(scenes, spent.over(draw(networks, scenes, settings)), strict=True):
            verdict = judge(scene, film)
            tally.add(verdict)
            if scene.kind in OBJECTS:
                steady.append((steadiness(film), steadiness(render(scene))))
            if len(kept[verdict.all_correct]) < _SHEET_ROWS:
                kept[verdict.all_correct].append((film, _label(scene, verdict)))
            if len(shown[group]) < _REPORT_FILMS:
                shown[group].append((film, captions(scene)[0], _wrong(verdict)))
            count_one()
        result["groups"][group] = tally.rows()
        if steady:  # a film in which no object is seen has steadiness 0
            made, true = (float(np.mean([value or 0.0 for value in side])) for side in zip(*steady, strict=True))
            result["steadiness"][group] = {"films": made, "true films": true, "share": made / max(true, 1e-6)}
        if out is not None:
            _write_sheets(out, group, kept)
    result["seconds_per_film"] = spent.seconds / result["prompts"]
    if student is not None:
        result["turbo"] = _turbo(networks, student, settings, chosen, count_one)
    result["ceiling"] = ceiling(networks, calibration)
    if out is not None:
        write(out / "report.html", page(result, shown, name))
    return result


def _turbo(
    networks: TextToVideo,
    student: tuple[TextToVideo, int],
    settings: Settings,
    chosen: dict[str, list[Scene]],
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


def _wrong(verdict: Verdict) -> list[str]:
    return [word for word, held in verdict.counted.items() if not held]


def _label(scene: Scene, verdict: Verdict) -> str:
    wrong = _wrong(verdict)
    return captions(scene)[0] + (f"   (wrong: {', '.join(wrong)})" if wrong else "")


def _write_sheets(directory: Path, group: str, kept: dict[bool, list[tuple[np.ndarray, str]]]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for won, films in kept.items():
        if films:
            name = f"{group.replace(' ', '-')}-{'wins' if won else 'failures'}.png"
            contact_sheet([film for film, _ in films], [label for _, label in films]).save(directory / name)


def table(result: dict[str, Any]) -> str:
    """The result as the table that people read."""
    settings = result["settings"]
    lines = [
        f"{result['prompts']} prompts, {settings['num_inference_steps']} steps, "
        f"guidance {settings['guidance_scale']:g}, {settings['scheduler']}",
        "",
        f"{'group':<15}{'attribute':<14}{'right':>11}  {'share':>7}  {'95 % interval':<17}{'judge on renders':>17}"
        f"{'after autoencoder':>19}",
    ]
    for group, rows in result["groups"].items():
        bound = result["ceiling"][group]
        for word, row in rows.items():
            count = f"{row['right']:.0f}/{row['total']:.0f}"
            interval = f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %"
            both = (bound["raw"], bound["autoencoder"])
            top = [f"{100 * found[word]['share']:.1f} %" if word in found else "" for found in both]
            lines.append(
                f"{group:<15}{word:<14}{count:>11}  {100 * row['share']:5.1f} %  {interval:<17}{top[0]:>17}{top[1]:>19}"
            )
    lines += [
        "",
        *(f"steadiness, {name}: {row['share']:.3f} of true films'" for name, row in result["steadiness"].items()),
    ]
    lines += ["", f"{result['seconds_per_film']:.2f} seconds a film"]
    if "turbo" in result:
        turbo = result["turbo"]
        lines += ["", f"turbo, {turbo['num_inference_steps']} steps: {turbo['seconds_per_film']:.2f} seconds a film"]
        lines += [f"turbo, {word}: {turbo[word]:.2f} of the exact films'" for word in ("motion", "diversity")]
        for group in turbo["groups"]:
            shares = [100 * side[group]["all correct"]["share"] for side in (turbo["groups"], result["groups"])]
            lines.append(f"turbo, {group}: all correct {shares[0]:.1f} %, exact {shares[1]:.1f} %")
    lines += ["", *(f"autoencoder, {name}: {found['psnr']:.1f} dB" for name, found in result["ceiling"].items())]
    return "\n".join(lines)


def main(
    model: str, prompts: int, out: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Evaluate a model of the catalogue, or a directory in diffusers' layout. Raises ModelNotFound, WeightsError."""
    from flickbook import catalogue
    from flickbook.hub import find

    named = Path(model).is_dir()
    entry = catalogue.find("builtin").at(Path(model)) if named else catalogue.find(model)
    directory = Path(model) if named else find.directory(entry)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks = TextToVideo.load(directory, device=device).pack()
    student = None
    if (directory / "turbo" / "student.json").is_file():
        few = entry.at(directory).few_steps()
        student = (
            TextToVideo.load(directory, device=device, unet_directory=few.unet).pack(),
            few.num_inference_steps.default,
        )
    calibration = max(_FEWEST, min(CALIBRATION, prompts // 10))
    return {"model": model, **evaluate(networks, prompts, None, out, progress, calibration, student, model)}
