"""Does FVD-w measure what it should? `python -m flickbook.learn.evaluation.validate OUT [--films 2048]`.

True films are corrupted more and more, and FVD-w and MMD are measured against other true films. A useful measure ranks
true films < mild blur < shuffled frames < wrong colours < noise, at the strengths of `RANKED`, and grows with the
strength of each corruption. OUT gets fvd-w.json and fvd-w.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from flickbook.files import replace_whole
from flickbook.learn.evaluation.adherence import GROUPS, shares
from flickbook.learn.evaluation.distances import frechet, mmd
from flickbook.learn.evaluation.features import FEATURES, features, weights_sha256
from flickbook.world.render import render
from flickbook.world.scenes import sample

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Graded = Callable[[np.ndarray, np.random.Generator, float], np.ndarray]
#: Seeds of true films that nothing else uses.
_SEEDS: Final = 950_000_000
SEEDS: Final = 3


def blur(film: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of each frame (16, 128, 128, 3) uint8, `sigma` in pixels; as products with a matrix."""
    place = np.arange(film.shape[1])
    line = np.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    line = (line / line.sum(1, keepdims=True)).astype(np.float32)
    return np.asarray(np.einsum("ij,njkc,lk->nilc", line, film.astype(np.float32), line, optimize=True) + 0.5, np.uint8)


def shuffle(film: np.ndarray, rng: np.random.Generator, share: float = 1.0) -> np.ndarray:
    """A share of the frames in another order."""
    chosen = np.sort(rng.permutation(len(film))[: round(share * len(film))])
    order = np.arange(len(film))
    order[chosen] = rng.permutation(chosen)
    return film[order]


def recolour(film: np.ndarray, amount: float) -> np.ndarray:
    """Red, green and blue exchanged, mixed with the film in the share `amount`."""
    wrong = film[..., [1, 2, 0]].astype(np.float32)
    return np.asarray((1 - amount) * film + amount * wrong + 0.5, np.uint8)


def grain(film: np.ndarray, rng: np.random.Generator, levels: float) -> np.ndarray:
    """Gaussian noise with a standard deviation of `levels` of 255."""
    return np.asarray((film + levels * rng.standard_normal(film.shape, np.float32)).clip(0, 255), np.uint8)


#: The corruptions by strength: each must raise the distance from one strength to the next.
GRADED: dict[str, tuple[tuple[float, ...], Graded]] = {
    "blur, sigma in pixels": ((1.0, 2.0, 4.0), lambda film, rng, much: blur(film, much)),
    "share of frames shuffled": ((0.5, 1.0), lambda film, rng, much: shuffle(film, rng, much)),
    "share of wrong colours": ((0.5, 1.0), lambda film, rng, much: recolour(film, much)),
    "noise, levels of 255": ((8.0, 32.0), lambda film, rng, much: grain(film, rng, much)),
}
CLEAN, NOISE = "true films", "only noise"
#: The rows that must be ranked in this order.
RANKED: tuple[str, ...] = (
    CLEAN,
    "blur, sigma in pixels: 1",
    "share of frames shuffled: 1",
    "share of wrong colours: 1",
    NOISE,
)


def true_films(count: int, first: int) -> Iterator[np.ndarray]:
    """`count` true films in the shares of `GROUPS`, from seeds that start at `first`."""
    for k, (group, number) in enumerate(shares(count).items()):
        name, heldout, _ = GROUPS[group]
        yield from (render(sample(first + 10_000 * k + i, name, heldout)) for i in range(number))


def _steps() -> dict[str, Corruption]:
    steps: dict[str, Corruption] = {CLEAN: lambda film, rng: film}
    for name, (strengths, change) in GRADED.items():
        for much in strengths:
            steps[f"{name}: {much:g}"] = partial(_graded, change, much)
    return steps | {NOISE: lambda film, rng: rng.integers(0, 256, film.shape).astype(np.uint8)}


def _graded(change: Graded, much: float, film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return change(film, rng, much)


def corrupted(count: int, first: int) -> dict[str, np.ndarray]:
    """corruption -> features of the same `count` true films after it."""
    steps = _steps()
    parts: dict[str, list[np.ndarray]] = {name: [] for name in steps}
    batch: list[np.ndarray] = []

    def flush() -> None:
        for name, change in steps.items():
            rng = np.random.default_rng([first, len(parts[name])])
            parts[name].append(features(change(film, rng) for film in batch))
        batch.clear()

    for film in true_films(count, first):
        batch.append(film)
        if len(batch) == 32:
            flush()
    if batch:
        flush()
    return {name: np.concatenate(found) for name, found in parts.items()}


def measure(films: int, reference: int, seeds: int = SEEDS) -> Iterator[dict[str, Any]]:
    """FVD-w and MMD of every corruption of `films` true films against `reference` others; yields after each seed."""
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        first = _SEEDS + 1_000_000 * seed
        known = features(true_films(reference, first + 500_000))
        for name, found in corrupted(films, first).items():
            row = rows.setdefault(name, {"fvd_w": [], "mmd": []})
            row["fvd_w"].append(frechet(found, known))
            row["mmd"].append(mmd(found, known))
        facts = {"films": films, "reference": reference, "seeds": seed + 1, "features": FEATURES}
        yield facts | {"weights_sha256": weights_sha256(), "rows": rows, "faults": faults(rows)}


def faults(rows: dict[str, dict[str, list[float]]]) -> list[str]:
    """Every pair of rows that is ranked the wrong way round, for any seed and either distance."""
    chains = [list(RANKED)]
    for name, (strengths, _) in GRADED.items():
        chains.append([CLEAN, *(f"{name}: {much:g}" for much in strengths)])
    wrong = []
    for chain in chains:
        for low, high in zip(chain, chain[1:], strict=False):
            for kind in ("fvd_w", "mmd"):
                for seed, (one, other) in enumerate(zip(rows[low][kind], rows[high][kind], strict=True)):
                    if one >= other:
                        wrong.append(f"{kind}, seed {seed}: {low} {one:.3f}, {high} {other:.3f}")
    return wrong


def table(found: dict[str, Any]) -> str:
    """The validation as Markdown."""
    lines = [
        "# FVD-w: validation",
        "",
        f"{found['films']} true films, clean and corrupted, against {found['reference']} other true films; mean of "
        f"{found['seeds']} seeds and, in brackets, the lowest and the highest. {found['features']} features; weights "
        f"{found['weights_sha256'][:12]}. Lower is better. The first row is the floor: true films against true films.",
        "",
        "| films | FVD-w | MMD |",
        "|---|---|---|",
    ]
    for name, row in found["rows"].items():
        cells = [
            f"{np.mean(each):.{places}f} ({min(each):.{places}f} to {max(each):.{places}f})"
            for each, places in ((row["fvd_w"], 2), (row["mmd"], 4))
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    wrong = found["faults"]
    lines += ["", "Every corruption raises both distances, from each strength to the next, for every seed."]
    if wrong:
        lines[-1] = "Ranked the wrong way round:"
        lines += ["", *(f"- {each}" for each in wrong)]
    return "\n".join(lines) + "\n"


def main(out: Path, films: int, seeds: int = SEEDS) -> list[str]:
    """Measure, write fvd-w.json and fvd-w.md into `out` after each seed, and return what is ranked the wrong way."""
    out.mkdir(parents=True, exist_ok=True)
    began, wrong = time.monotonic(), []
    for found in measure(films, films, seeds):
        for name, text in (("fvd-w.json", json.dumps(found, indent=1) + "\n"), ("fvd-w.md", table(found))):
            replace_whole(out / name, partial(_write, text))
        wrong = found["faults"]
        print(f"seed {found['seeds']} of {seeds} after {time.monotonic() - began:.0f} s", flush=True)
    return wrong


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    print(main(options.out, options.films, options.seeds))
