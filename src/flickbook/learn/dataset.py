"""Films to learn from: rendered by the world, kept as latents with their scenes.

A shard is one safetensors file `films-00000.safetensors` with `latents` (films, frames, channels, h, w) float16 and,
in its header, the scenes as JSON. Captions are drawn from the grammar of `world/grammar.py` when a batch is. A batch
follows from (seed, step) alone, so the position in the data is the step, and a resumed run sees the same films.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flickbook.errors import MediaError
from flickbook.world import grammar
from flickbook.world.captions import brief_captions, captions
from flickbook.world.render import render
from flickbook.world.scenes import FRAMES, Actor, Scene, sample

#: Evaluation draws its seeds from here on; training stays below.
EVALUATION_SEEDS = 900_000_000
#: Each group's seeds start here.
_OFFSETS = {
    "core": 0,
    "pair": 100_000_000,
    "digits": 200_000_000,
    "views": 300_000_000,
    "book": 400_000_000,
    "several": 500_000_000,
}
GROUPS = tuple(_OFFSETS)
#: How often a training caption says everything, something, or nothing (the last teaches guidance).
_WHOLE, _BRIEF = 0.75, 0.15
#: Films that a process renders into one tensor of shared memory, 0.8 MB each; and the most processes.
_AT_ONCE, _MOST_WORKERS = 10, 16


def training_scenes(counts: dict[str, int], first: int = 0, coverage: float = 1.0) -> Iterator[Scene]:
    """`counts[group]` scenes of each group, interleaved so that any stretch holds all groups.

    `coverage` is the share of the pairs of `world.scenes` that they show.
    """
    total = sum(counts.values())
    drawn = dict.fromkeys(counts, 0)
    for i in range(total):
        group = max(counts, key=lambda name: (i + 1) * counts[name] / total - drawn[name])
        yield sample(_OFFSETS[group] + first + drawn[group], group, coverage=coverage)
        drawn[group] += 1


def sentences(scenes: Sequence[Scene], each: int = 3) -> list[str]:
    """Captions to learn a vocabulary from: the fixed ones of each scene and `each` of the grammar."""
    rng = np.random.default_rng(0xCAFE)
    fixed = [text for scene in scenes for text in (*captions(scene), *brief_captions(scene))]
    return fixed + [grammar.caption(scene, rng) for scene in scenes for _ in range(each)]


def pixels(film: np.ndarray | Tensor) -> Tensor:
    """(frames, h, w, 3) uint8 -> (frames, 3, h, w) float32 in [-1, 1]."""
    return torch.as_tensor(film).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


class _Rendered(Dataset[Tensor]):
    """The films of scenes, (frames, h, w, 3) uint8."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, place: int) -> Tensor:
        return torch.from_numpy(render(self.scenes[place]))


def rendered(scenes: Sequence[Scene], at_once: int = 1, workers: int = 0) -> Iterable[Tensor]:
    """The films of the scenes in order, `at_once` in each (n, frames, h, w, 3) uint8 tensor.

    `workers` processes render; with 0, this process does.
    """
    context = "fork" if workers else None  # the processes inherit the scenes, and use no GPU
    return DataLoader(_Rendered(scenes), batch_size=at_once, num_workers=workers, multiprocessing_context=context)


def workers_of(device: torch.device, ranks: int = 1) -> int:
    """Processes that prepare what each of `ranks` trainings on `device` needs: none on the processor itself, and none
    on Windows, which cannot fork."""
    if device.type != "cuda" or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, (cores - 2) // ranks))


def write_shards(
    directory: Path, scenes: Sequence[Scene], encode: Callable[[Tensor], Tensor], shard: int, workers: int = 0
) -> None:
    """Render, encode, and write shards of `shard` films; whole or absent.

    `encode` gets the frames (n, h, w, 3) uint8 of one or more films and returns their latents (n, c, h/f, w/f).
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = {directory / f"films-{start // shard:05d}.safetensors": start for start in range(0, len(scenes), shard)}
    missing = {path: scenes[start : start + shard] for path, start in paths.items() if not path.exists()}
    if not missing:
        return
    at_once = math.gcd(shard, _AT_ONCE) if workers else 1
    films = iter(rendered([scene for part in missing.values() for scene in part], at_once, workers))
    for path, part in missing.items():
        latents = [encode(next(films).flatten(0, 1)) for _ in range(-(-len(part) // at_once))]
        listed = json.dumps([asdict(scene) for scene in part])
        temporary = path.with_suffix(".tmp")
        whole = torch.unflatten(torch.cat(latents), 0, (-1, FRAMES)).half().contiguous()
        save_file({"latents": whole}, temporary, metadata={"films": listed})
        os.replace(temporary, path)


@dataclass
class Films:
    """All shards of a directory in memory."""

    latents: Tensor  # (n, frames, c, h, w) float16
    scenes: list[Scene]
    upto: np.ndarray | None = None  # (n,) in [0, 1], the share of draws up to each film; None: all alike

    @classmethod
    def load(cls, directory: Path, emphasis: dict[str, float] | None = None) -> Films:
        """`emphasis` says how many times as often a film of a word is drawn; see `_weight`.

        Raises MediaError where there are no shards, or one is damaged.
        """
        paths = sorted(directory.glob("films-*.safetensors"))
        if not paths:
            raise MediaError(directory, "no films-*.safetensors in it", "render the films first: `flickbook train`")
        latents, scenes = [], []
        for path in paths:
            try:
                with safe_open(path, framework="pt") as file:
                    latents.append(file.get_tensor("latents"))
                    scenes += [_scene(values) for values in json.loads(file.metadata()["films"])]
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                raise MediaError(path, f"damaged ({error})", "delete it, and it is rendered again") from error
        if not emphasis:
            return cls(torch.cat(latents), scenes)
        upto = np.cumsum([_weight(scene, emphasis) for scene in scenes])
        return cls(torch.cat(latents), scenes, upto / upto[-1])

    def batch(
        self, seed: int, step: int, films: int, frames: int, consecutive: float = 0.0
    ) -> tuple[Tensor, list[str]]:
        """`films` clips of `frames` frames: latents (films, c, frames, h, w) float32 and their captions.

        One frame is a still from anywhere in a film. More frames are spread evenly over the whole film, so that the
        same words fit, or in a share `consecutive` of the clips follow one another, as they do in a whole film.
        """
        rng = np.random.default_rng([seed, step, 0xDA7A])
        if self.upto is None:
            chosen = rng.integers(len(self.scenes), size=films)
        else:
            chosen = np.searchsorted(self.upto, rng.random(films), side="right")
        if frames == 1:
            places = rng.integers(FRAMES, size=(films, 1))
        else:
            places = np.tile(np.linspace(0, FRAMES - 1, frames).round().astype(int), (films, 1))
            first = rng.integers(FRAMES - frames + 1, size=(films, 1))
            places = np.where(rng.random((films, 1)) < consecutive, first + np.arange(frames), places)
        latents = self.latents[torch.from_numpy(chosen)[:, None], torch.from_numpy(places)]
        return latents.transpose(1, 2).float(), [_caption(self.scenes[i], rng) for i in chosen]


def _scene(values: dict[str, Any]) -> Scene:
    return Scene(**{**values, "actors": tuple(Actor(**actor) for actor in values["actors"])})


def _weight(scene: Scene, emphasis: dict[str, float]) -> float:
    """The product of the factors of a scene's words: its kind, its traits, and the words of its objects."""
    words = {scene.kind, *scene.traits.values()}
    for actor in scene.actors:
        words |= {actor.shape, actor.colour, actor.motion}
    return math.prod(emphasis.get(word, 1.0) for word in words)


def _caption(scene: Scene, rng: np.random.Generator) -> str:
    draw = rng.random()
    if draw >= _WHOLE + _BRIEF:
        return ""
    return grammar.caption(scene, rng, brief=draw >= _WHOLE)
