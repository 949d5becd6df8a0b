"""Evaluation of others' models, which the engine runs with their own settings, and of films that exist already."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.engine.films import RunOptions, films, located, run_options_of
from flickbook.errors import FlickbookError, MediaError, ModelNotFound, RequestError, WeightsError, one_line
from flickbook.hub.manifest import read_config
from flickbook.learn.evaluation import few_steps
from flickbook.learn.evaluation.adherence import OTHER, group_of, prompts
from flickbook.learn.evaluation.collect import Collector, Shot
from flickbook.learn.evaluation.comparison import complete
from flickbook.learn.evaluation.evaluate import CALIBRATION, Count, Progress, ceiling
from flickbook.learn.evaluation.page import write_all
from flickbook.learn.publish import TRAINING
from flickbook.learn.tuning.record import base_of, refuse_result
from flickbook.media.inspect import read_comment, recipe_of
from flickbook.media.read import read_any
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request
from flickbook.world.agreement import expectation
from flickbook.world.captions import captions
from flickbook.world.detect import fitted
from flickbook.world.scenes import FRAMES, SIZE, Scene

#: Suffixes of the files of a directory that are films.
SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif", ".webp", ".apng")
_LONGEST_CAPTION = 4096  # bytes of a .txt file that are read
_FITTED = (
    f"For the judge and the features, the square in the middle of each film was scaled to {SIZE} pixels, and {FRAMES} "
    "frames were taken, evenly spaced. Motion and flicker were measured on the frames as they are."
)


def film_files(directory: Path) -> list[Path]:
    """The films of a directory, by name."""
    return sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def model_of(directory: Path) -> Model:
    """The catalogue's entry for a model directory in diffusers' layout, with its files there.

    A model that `flickbook tune` wrote names the one it was. Else the class of its pipeline names the entry; of the
    3D U-Net family, a directory with the world's words is the built-in model's. Raises WeightsError for what is no
    model, RequestError for a class that the catalogue lacks.
    """
    index = directory / "model_index.json"
    if not index.is_file():
        refuse_result(directory)
        raise WeightsError(
            directory, "holds neither films nor a model (model_index.json)", "name a model, or a directory of either"
        )
    with suppress(ModelNotFound):
        return catalogue.find(base_of(directory)).at(directory)
    kind = str(read_config(index).get("_class_name", ""))
    if kind == "TextToVideoSDPipeline":
        own = (directory / "tokenizer/words.txt").is_file()
        return catalogue.find("builtin" if own else "text-to-video-ms-1.7b").at(directory)
    for model in catalogue.list_models():
        if model.pipeline == kind and not model.base:
            return model.at(directory)
    limit = f"its pipeline, {kind or 'which is not named'}, belongs to no model of the catalogue"
    raise RequestError("model", directory, limit, "name the model, and the directory with --model-dir")


@dataclass
class EngineFilms:
    """Films that the engine makes with a model's own size, frames and steps. `seconds` excludes loading."""

    plan: Plan
    run_options: RunOptions
    seconds: float = 0.0
    peak_memory: int = 0
    device: str = ""
    _loaded: bool = field(default=False, repr=False)

    @classmethod
    def of(cls, model: Model, directory: Path | None = None, loras: Sequence[str] = ()) -> EngineFilms:
        """Refuses a model that does not make films from words. Raises RequestError, MediaError."""
        if "text" not in model.inputs or not model.prompted:
            raise RequestError("model", model.name, "makes no film from words alone", "evaluate films that it made")
        if model.num_frames.range[1] == 1:
            raise RequestError("model", model.name, "makes stills", "name a model of films")
        request = Request.of(prompt="a film", model=model.name, seed=0, loras=located(list(loras)))
        plan = resolve(request, directory)
        return cls(plan, run_options_of(plan, request, directory))

    def shots(self, scenes: Sequence[Scene]) -> Iterator[Shot]:
        """A film of each scene's first caption, from the noise of the scene's seed."""
        for scene in scenes:
            prompt = captions(scene)[0]
            plan = self.plan.model_copy(update={"prompt": prompt, "seed": scene.seed})
            began = time.perf_counter()
            clip = next(films([plan], self.run_options))
            assert clip.run is not None and clip.recipe is not None
            spent = time.perf_counter() - began
            self.seconds += spent if self._loaded else spent - clip.run.seconds.get("load", 0.0)
            self._loaded, self.device = True, clip.recipe.device_name
            self.peak_memory = max(self.peak_memory, clip.run.peak_memory_bytes)
            yield Shot(clip.frames, clip.fps, prompt, scene, label=f"seed {scene.seed}")

    def settings(self) -> dict[str, Any]:
        """What decides the films, for the report."""
        names = ("num_inference_steps", "guidance_scale", "scheduler", "width", "height", "num_frames", "fps")
        return {name: getattr(self.plan, name) for name in names}


@dataclass
class FilmFiles:
    """The films of a directory, each with a recipe or a caption in a .txt file of the same name.

    `skipped` are films that could not be measured and `unprompted` those without words, one line each.
    """

    paths: list[Path]
    skipped: list[str] = field(default_factory=list)
    unprompted: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def shots(self) -> Iterator[tuple[str, Shot] | None]:
        """The group and the film of each file; None for one that is skipped."""
        for path in self.paths:
            try:
                frames, fps = read_any(path)
            except FlickbookError as error:
                self.skipped.append(one_line(error))
                yield None
                continue
            if len(frames) < 2:
                self.skipped.append(f"{path.name}: has one frame, a film needs two or more")
                yield None
                continue
            yield self._shot(path, Shot(frames, fps, "", label=path.name))

    def _shot(self, path: Path, shot: Shot) -> tuple[str, Shot]:
        prompt, reason = self._prompt(path)
        if reason:
            self.unprompted.append(f"{path.name}: {reason}; measured without its words")
        asked = expectation(prompt) if prompt else None
        # A view is judged by its motion, which fewer frames do not show.
        if asked is None or (not asked.scene.actors and len(shot.frames) < 16):
            return OTHER, replace(shot, prompt=prompt)
        return group_of(asked.scene), replace(shot, prompt=prompt, scene=asked.scene, named=asked.named)

    def _prompt(self, path: Path) -> tuple[str, str]:
        """The words of a film, or what is wrong with them. A caption beside the film goes before its recipe."""
        caption = path.with_suffix(".txt")
        if caption.is_file():
            try:
                with caption.open("rb") as file:
                    text = " ".join(file.read(_LONGEST_CAPTION).decode("utf-8").split())
            except (OSError, UnicodeDecodeError) as error:
                return "", f"its caption {caption.name} cannot be read ({type(error).__name__})"
            return (text, "") if text else ("", f"its caption {caption.name} is empty")
        try:
            recipe = recipe_of(path, read_comment(path))
        except FlickbookError:
            return "", "has neither a recipe nor a caption (a .txt file of the same name)"
        plan = recipe.plan
        prompt = getattr(plan, "prompt", "")
        return (prompt, "") if prompt else ("", "its recipe has no prompt")


def coverage_of(directory: Path) -> float:
    """The share of the pairs that a model's training showed, 1 where nothing else is recorded."""
    try:
        found = json.loads((directory / TRAINING).read_text(encoding="utf-8"))["coverage"]
    except (OSError, ValueError, LookupError, TypeError):
        return 1.0
    return float(found) if isinstance(found, int | float) and 0 < found <= 1 else 1.0


def evaluate_engine(
    name: str,
    films: EngineFilms,
    count: int,
    out: Path | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    beside: Sequence[Path] = (),
) -> dict[str, Any]:
    """Make `count` films of the world's prompts with a model's own size, frames and steps, and measure them."""
    chosen = prompts(count, seed)
    total, first = sum(map(len, chosen.values())), next(iter(chosen.values()))
    counted = Count(total + len(few_steps.varied(first, count)), progress)
    collector = Collector(total, True, out)
    for group, scenes in chosen.items():
        for shot in films.shots(scenes):
            collector.add(group, shot)
            counted.one()
    seconds = films.seconds / total

    def again(scenes: Sequence[Scene]) -> Iterator[np.ndarray]:
        for shot in films.shots(scenes):
            counted.one()
            yield fitted(shot.frames, whole=True)

    result: dict[str, Any] = {"source": "model", "model": name, "seed": seed, "prompts": total}
    result |= {"settings": films.settings(), **collector.result(), "seconds_per_film": seconds}
    result |= {"ceiling": ceiling(None, max(4, min(CALIBRATION, count // 10))), "protocol": _FITTED}
    result |= complete(collector) | {"diversity": few_steps.variety(first, again, count)}
    result["cost"] = {
        "device": films.device,
        "seconds_per_film": seconds,
        "num_inference_steps": films.plan.num_inference_steps,
        "peak_memory_bytes": films.peak_memory,
    }
    return _written(out, result, collector, beside)


def check_films(directory: Path, prompts: int | None, seed: int, loras: Sequence[str], model_dir: Path | None) -> None:
    """Refuse a training, whose films only show what it learned, and options that only a model can follow. Raises
    RequestError."""
    refuse_result(directory)
    given = {"prompts": prompts, "seed": seed or None, "lora": loras[0] if loras else None, "model_dir": model_dir}
    for name, value in given.items():
        if value is not None:
            raise RequestError(name, value, "has no effect on films that exist", "leave it out, or name a model")


def evaluate_files(
    name: str,
    paths: Sequence[Path],
    out: Path | None = None,
    progress: Progress | None = None,
    beside: Sequence[Path] = (),
) -> dict[str, Any]:
    """Measure films that exist. Raises MediaError if none of them can be read."""
    files, counted = FilmFiles(list(paths)), Count(len(paths), progress)
    collector, same = Collector(len(paths), True, out), defaultdict[str, list[np.ndarray]](list)
    for found in files.shots():
        counted.one()
        if found is None:
            continue
        group, shot = found
        collector.add(group, shot)
        if shot.prompt and len(same[shot.prompt]) < few_steps.SEEDS:
            same[shot.prompt].append(fitted(shot.frames, whole=True))
    if not collector.rows:
        raise MediaError(name, f"holds no film that can be measured ({files.skipped[0]})", "name another directory")
    result: dict[str, Any] = {"source": "films", "model": name, "prompts": len(collector.rows)}
    result |= {**collector.result(), "ceiling": ceiling(None, 4), "protocol": _FITTED}
    result |= {"skipped": files.skipped, "unprompted": files.unprompted}
    result["unjudged"] = sum(row["group"] == OTHER for row in collector.rows)
    result |= complete(collector)
    several = [group for group in same.values() if len(group) > 1][: few_steps.PROMPTS]
    if several:
        result["diversity"] = {"prompts": len(several), "films": few_steps.spreads(several)}
    return _written(out, result, collector, beside)


def _written(out: Path | None, result: dict[str, Any], collector: Collector, beside: Sequence[Path]) -> dict[str, Any]:
    if out is not None:
        collector.write_sheets()
        write_all(out, result, collector, str(result["model"]), beside)
    return result
