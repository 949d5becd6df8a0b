"""Clips as latents and captions as embeddings: each is computed once, and kept in `cache/` of the output directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flickbook.errors import MediaError
from flickbook.files import replace_whole
from flickbook.learn.tuning.data.buckets import Bucket
from flickbook.learn.tuning.data.dataset import TrainingClip
from flickbook.learn.tuning.data.entries import Problem
from flickbook.learn.tuning.data.frames import frames
from flickbook.learn.tuning.prior import Known
from flickbook.learn.tuning.target import Condition, Target
from flickbook.world.render import render
from flickbook.world.scenes import FRAMES, SIZE

#: The most parts of a long clip.
_PARTS = 4
#: The fewest clips of which some are held out.
_ENOUGH = 10


@dataclass(frozen=True)
class Example:
    """One part of a clip: latents (c, f, h, w), the condition that its caption gives, and its frame rate."""

    latents: Tensor
    condition: Condition
    fps: float


@dataclass
class Examples:
    """The training's data, by bucket. `empty` is the condition of the empty caption, `prior` are those of prompts that
    the model knows, with latents of a film; `digest` identifies the data."""

    by_bucket: list[list[Example]]
    held_out: list[Example]
    empty: Condition
    digest: str = ""
    prior: list[tuple[Condition, Tensor | None]] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for group in self.by_bucket:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(group))

    def __len__(self) -> int:
        return self._ends[-1]

    def one_shape(self) -> bool:
        """Whether all examples but those held out have latents of one shape."""
        own = {example.latents.shape for group in self.by_bucket for example in group}
        return len(own | {latents.shape for _, latents in self.prior if latents is not None}) == 1

    def batch(self, count: int, dropout: float, source: torch.Generator) -> list[Example]:
        """`count` examples of one bucket; a share of `dropout` has the empty caption."""
        at = int(torch.randint(len(self), (1,), generator=source))
        group = self.by_bucket[next(i for i, end in enumerate(self._ends) if at < end)]
        rounds = -(-count // len(group))
        order = torch.cat([torch.randperm(len(group), generator=source) for _ in range(rounds)])[:count]
        dropped = torch.rand(count, generator=source) < dropout
        return [
            Example(group[i].latents, self.empty if bare else group[i].condition, group[i].fps)
            for i, bare in zip(order.tolist(), dropped.tolist(), strict=True)
        ]

    def prior_batch(self, count: int, source: torch.Generator) -> list[Example]:
        """`count` examples of one shape with prompts that the model knows, of their films or else of clips."""
        chosen = torch.randint(len(self.prior), (count,), generator=source).tolist()
        clips, known = self.batch(count, 0.0, source), [self.prior[i] for i in chosen]
        return [
            Example(clip.latents if latents is None else latents, condition, clip.fps)
            for clip, (condition, latents) in zip(clips, known, strict=True)
        ]

    def held_out_batches(self, count: int) -> Iterator[list[Example]]:
        """The held-out examples, at most `count` of one shape at a time."""
        for shape in dict.fromkeys(example.latents.shape for example in self.held_out):
            group = [example for example in self.held_out if example.latents.shape == shape]
            for first in range(0, len(group), count):
                yield group[first : first + count]


def build(
    target: Target,
    buckets: Mapping[Bucket, Sequence[TrainingClip]],
    directory: Path,
    *,
    fps: float,
    identity: str,
    held_out: float,
    problems: list[Problem],
    prior: Sequence[Known] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Encode all clips and captions, or read what a run before encoded. `identity` is that of the model's weights.
    Films of `prior` are used if a bucket has their size.

    A share of `held_out` of the clips, chosen by a hash of their names, is kept for evaluation if there are 10 or more.
    A clip whose frames turn out to be damaged is skipped, and added to `problems`. Raises the MediaError of the last
    one if no clip is left.
    """
    directory.mkdir(parents=True, exist_ok=True)
    clips = [(bucket, clip) for bucket, group in buckets.items() for clip in group]
    groups: dict[Bucket, list[Example]] = {bucket: [] for bucket in buckets}
    kept: list[Example] = []
    chosen = _held_out({clip.path for _, clip in clips}, held_out)
    names: list[str] = []
    damaged: MediaError | None = None
    films = _with_films(prior, buckets)
    total = len(clips) + len(films)
    for done, (bucket, clip) in enumerate(clips):
        condition = _stored(directory, ["caption", identity, clip.caption], lambda c=clip: target.embed(c.caption))  # type: ignore[misc]
        parts: list[tuple[Example, str]] = []
        try:
            for part in _parts(clip, bucket, fps):
                key = ["clip", identity, *_file(clip.path), *vars(bucket).values(), fps, part]

                def encoded(clip: TrainingClip = clip, bucket: Bucket = bucket, part: float = part) -> Condition:
                    return {"latents": target.encode(frames(clip, bucket, fps, part)).half()}

                latents = _stored(directory, key, encoded)["latents"]
                parts.append((Example(latents, condition, fps), json.dumps([key, clip.caption])))
        except MediaError as error:
            problems.append(Problem(clip.path.name, f"{error.reason}; {error.remedy}", "skipped"))
            damaged = error
        else:
            (kept if clip.path in chosen else groups[bucket]).extend(example for example, _ in parts)
            names += [name for _, name in parts]
        if progress is not None:
            progress(done + 1, total)
    if not any(groups.values()) and damaged is not None:
        raise damaged
    empty = _stored(directory, ["caption", identity, ""], lambda: target.embed(""))
    known: list[tuple[Condition, Tensor | None]] = []
    for done, each in enumerate(films):
        known.append(_known(target, each, directory, identity))
        names.append(each.prompt if each.scene is None else json.dumps([each.prompt, asdict(each.scene)]))
        if progress is not None:
            progress(len(clips) + done + 1, total)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return Examples([group for group in groups.values() if group], kept, empty, digest, known)


def _held_out(paths: Collection[Path], share: float) -> Collection[Path]:
    """A share of the clips, chosen by a hash of their names, if there are enough."""
    return set(sorted(paths, key=_rank)[: round(share * len(paths))]) if len(paths) >= _ENOUGH else set()


def _known(target: Target, each: Known, directory: Path, identity: str) -> tuple[Condition, Tensor | None]:
    """The condition of a prior example, and the latents of its film, if it has a scene."""
    words = _stored(directory, ["caption", identity, each.prompt], lambda: target.embed(each.prompt))
    scene = each.scene
    if scene is None:
        return words, None
    key = ["scene", identity, asdict(scene)]
    return words, _stored(directory, key, lambda: {"latents": target.encode(render(scene)).half()})["latents"]


def _with_films(prior: Sequence[Known], buckets: Container[Bucket]) -> list[Known]:
    """The prior examples, with their scenes if a bucket has the size of films of the world."""
    return list(prior) if Bucket(FRAMES, SIZE, SIZE) in buckets else [Known(each.prompt) for each in prior]


def size(
    buckets: Mapping[Bucket, Sequence[TrainingClip]],
    fps: float,
    latents: float,
    condition: int,
    prior: Sequence[Known] = (),
) -> int:
    """Bytes of memory that the examples take: `latents` float16 values for each pixel, `condition` for each caption."""
    films = sum(each.scene is not None for each in _with_films(prior, buckets))
    return (
        condition * len(prior)
        + films * round(2 * latents * FRAMES * SIZE**2)
        + sum(
            condition
            + round(2 * latents * len(_parts(clip, bucket, fps)) * bucket.num_frames * bucket.height * bucket.width)
            for bucket, group in buckets.items()
            for clip in group
        )
    )


def _rank(path: Path) -> tuple[bytes, str]:
    """Clips of one name in several directories have one hash, so their paths decide."""
    return hashlib.sha256(path.name.encode()).digest(), str(path)


def _file(path: Path) -> tuple[str, int, int]:
    """What tells a file from a changed one."""
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns


def _parts(clip: TrainingClip, bucket: Bucket, fps: float) -> list[float]:
    """Where in a clip its parts begin, 0 to 1: the middle of a short clip, several parts of a long one."""
    if bucket.num_frames == 1 or not clip.fps:
        return [0.5]
    count = min(_PARTS, int(clip.num_frames / clip.fps * fps / bucket.num_frames))
    return [0.5] if count < 2 else [part / (count - 1) for part in range(count)]


def _stored(directory: Path, key: Sequence[object], compute: Callable[[], Condition]) -> Condition:
    """The tensors of a key: read from their file, or computed and written. A damaged file is written again."""
    path = directory / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.safetensors"
    if path.exists():
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError):
            path.unlink()
    found = {name: tensor.contiguous() for name, tensor in compute().items()}
    replace_whole(path, lambda temporary: save_file(found, temporary))
    return found
