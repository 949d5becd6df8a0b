"""Whether time grows as the arithmetic does: one guided step with more frames, and with more pixels.

The law is the count of operations of the stock network (`bench.roofline`). A size's figure is its time over that of the
film that the model was trained on, divided by what the law says: 1 is the law, less is better. Memory is the peak of a
fresh process that does the step, and then decodes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import warm
from bench.process import last_line
from bench.protocol import Ratio, interleave, measured
from bench.rivals import ours
from bench.roofline import operations
from bench.subject import Subject, at

BASE = (16, 128, 128)
FRAMES, PIXELS = (8, 16, 32, 64), (128, 192, 256, 384, 512)
GOAL = 1.15
PICTURE = "speed-growth.png"

_ONE = """
import json, resource, sys
from pathlib import Path
from bench.growth import step
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
call, decode = step(Path(sys.argv[1]), tuple(json.loads(sys.argv[2])))
before = peak()
call()
after = peak()
decode()
print(json.dumps([before, after, peak()]))
"""


def sizes(frames: tuple[int, ...] = FRAMES, pixels: tuple[int, ...] = PIXELS) -> list[tuple[int, int, int]]:
    """(frames, height, width) of everything that is measured."""
    along = [(each, *BASE[1:]) for each in frames]
    return list(dict.fromkeys([BASE, *along, *((BASE[0], each, each) for each in pixels)]))


def step(directory: Path, size: tuple[int, int, int]) -> Any:
    """A guided step of our network at a size, and the decoding of its latents, ready to be called."""
    subject = Subject.of(directory, warm.PROMPT, warm.SEED, 1, warm.GUIDANCE, size)
    networks = ours.networks_of(subject, torch.float32)
    words = networks.unet.prompt(torch.cat([subject.negative, subject.context]))
    call = at(subject.threads, partial(networks.unet, subject.latents, torch.tensor(500), words))

    def decode() -> None:
        for _ in networks.decode(subject.latents[0]):
            pass

    return call, decode


def memory(directory: Path, size: tuple[int, int, int]) -> list[float]:
    """MiB at most: before the step, with it, and with decoding; of a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", _ONE, str(directory), json.dumps(size)]
    return list(json.loads(last_line(command)))


def measure(pairs: int, frames: tuple[int, ...] = FRAMES, pixels: tuple[int, ...] = PIXELS) -> dict[str, Any]:
    """All sizes in turn."""
    with tempfile.TemporaryDirectory() as folder:
        directory = warm.comparable(Path(folder))
        chosen = sizes(frames, pixels)
        calls = {name_of(size): step(directory, size)[0] for size in chosen}
        # Steps are short: twice as many turns as of films.
        turns = measured(lambda: interleave(calls, 2 * pairs, name_of(BASE), warm=2))
        peaks = {name_of(size): [round(each, 1) for each in memory(directory, size)] for size in chosen}
        law = {name_of(size): _law(directory, size) for size in chosen}
    found: dict[str, Any] = {"turns": turns.to_dict(), "void": turns.void, "tflop": law, "peak_mib": peaks}
    found["of_law"] = {
        name: vars(_over(turns.ratio(name, name_of(BASE)), law[name] / law[name_of(BASE)])) for name in law
    }
    return found


def name_of(size: tuple[int, int, int]) -> str:
    """As the report writes it."""
    return f"{size[0]} x {size[1]} x {size[2]}"


def _law(directory: Path, size: tuple[int, int, int]) -> float:
    subject = Subject.of(directory, warm.PROMPT, warm.SEED, 1, warm.GUIDANCE, size)
    shape = tuple(subject.latents.shape[1:])
    return operations(directory, shape, subject.context.shape[1])["step"]  # type: ignore[arg-type]


def _over(ratio: Ratio, law: float) -> Ratio:
    return Ratio(ratio.median / law, ratio.low / law, ratio.high / law)


def plot(found: dict[str, Any], path: Path) -> None:
    """Time against operations, both times those of the base, on a page with the law as a line."""
    from matplotlib.figure import Figure

    law, base = found["tflop"], name_of(BASE)
    figure = Figure(figsize=(8.0, 3.6), dpi=150, layout="constrained")
    for axes, title, names in zip(figure.subplots(1, 2), ("frames", "pixels a side"), _series(law), strict=True):
        where = [int(name.split(" x ")[0 if title == "frames" else 1]) for name in names]
        expected = [law[name] / law[base] for name in names]
        ratios = [found["of_law"][name] for name in names]
        taken = [law_ * ratio["median"] for law_, ratio in zip(expected, ratios, strict=True)]
        axes.plot(where, expected, "--", color="#8b949e", label="operations")
        axes.plot(where, [GOAL * each for each in expected], ":", color="#c8553d", label=f"{GOAL} times that")
        axes.plot(where, taken, "o-", color="#3454a4", label="seconds of a step")
        for x, y, ratio in zip(where, taken, ratios, strict=True):
            axes.annotate(f"{ratio['median']:.2f}", (x, y), (0, -14), textcoords="offset points", fontsize=8)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(where, [str(each) for each in where])
        axes.set_xlabel(title)
        axes.set_ylabel(f"times {base}")
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Software": None})


def _series(law: dict[str, float]) -> tuple[list[str], list[str]]:
    """The names along frames, and along pixels, each from small to large."""
    base = name_of(BASE).split(" x ")
    along = [name for name in law if name.split(" x ")[1] == base[1]]
    across = [name for name in law if name.split(" x ")[0] == base[0]]
    return sorted(along, key=lambda name: law[name]), sorted(across, key=lambda name: law[name])
