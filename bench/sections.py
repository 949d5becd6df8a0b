"""The parts of a run, what each takes on two quiet cores, and one of them measured in a process of its own:
`python -m bench.sections NAME OUT.json`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import protocol

Measure = Callable[[argparse.Namespace], dict[str, Any]]
_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "numpy")


@dataclass(frozen=True)
class Section:
    """One part: `seconds` before the first turn, and of each; both of a quiet run on two cores."""

    measure: Measure
    what: str
    before: float
    turn: float

    def estimate(self, pairs: int) -> float:
        """Seconds of one try."""
        return self.before + self.turn * (pairs + 1)


# Each imports what it needs when it runs: a section is measured in a process that holds nothing of the others.
def _builtin(given: argparse.Namespace) -> dict[str, Any]:
    from bench import builtin

    return builtin.measure(given.pairs, given.steps)


def _rivals(given: argparse.Namespace) -> dict[str, Any]:
    from bench import builtin

    return builtin.rivals(given.pairs, given.steps)


def _quality(given: argparse.Namespace) -> dict[str, Any]:
    from bench import speed

    return speed.measure(given.prompts)


def _roofline(given: argparse.Namespace) -> dict[str, Any]:
    from bench import roofline

    return roofline.measure(given.pairs)


def _cold(given: argparse.Namespace) -> dict[str, Any]:
    from bench import cold

    return cold.measure(given.pairs)


def _growth(given: argparse.Namespace) -> dict[str, Any]:
    from bench import growth

    return growth.measure(given.pairs, tuple(given.frames), tuple(given.pixels))


def _training(given: argparse.Namespace) -> dict[str, Any]:
    from bench import training

    return training.measure(given.pairs)


def _replica(given: argparse.Namespace) -> dict[str, Any]:
    from bench import true_size

    return true_size.measure(given.pairs, given.compile, not given.without_openvino)


def _memory(_: argparse.Namespace) -> dict[str, Any]:
    from bench import held

    return held.measure()


SECTIONS = {
    "builtin": Section(_builtin, "the built-in film beside stock, exact and balanced", 20, 18),
    "rivals": Section(_rivals, "beside DeepCache, PAB, OpenVINO and stock compiled", 300, 35),
    "quality": Section(_quality, "balanced beside exact, over prompts", 200, 0),
    "roofline": Section(_roofline, "what the processor can do, and how much of it is reached", 30, 4),
    "cold": Section(_cold, "from a command to a file, in fresh processes", 5, 20),
    "growth": Section(_growth, "with frames and pixels", 70, 8),
    "training": Section(_training, "clips a second while learning", 15, 14),
    "replica": Section(_replica, "one step of a model of the published size", 340, 220),
    "memory": Section(_memory, "what a model of the published size holds", 540, 0),
}


def machine() -> dict[str, Any]:
    """Where and with what this is measured."""
    import psutil
    import torch

    names: dict[str, str] = {}
    for each in _LIBRARIES:
        try:
            names[each] = version(each)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "libraries": names,
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = dict(line.partition(":")[::2] for line in lines if ":" in line)
    about = {name.strip(): value.strip() for name, value in found.items()}
    if "model name" not in about:
        return platform.processor() or platform.machine()
    return f"{about['model name']} (family {about.get('cpu family', '?')}, model {about.get('model', '?')})"


def run(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """A section's figures, with when, where and how they came."""
    began, load = time.perf_counter(), os.getloadavg()[0]
    found = SECTIONS[name].measure(given)
    about = {"date": date.today().isoformat(), "machine": machine(), "pairs": given.pairs}
    about |= {"seconds": round(time.perf_counter() - began), "load_before": round(load, 2)}
    return {"void": False, **found, "about": about}


def options(parser: argparse.ArgumentParser) -> None:
    """What a section may be told."""
    parser.add_argument("--pairs", type=int, default=7, help="turns that count (7)")
    parser.add_argument("--tries", type=int, default=protocol.TRIES, help="how often a void section is measured (3)")
    parser.add_argument("--steps", type=int, default=25, help="denoising steps of the built-in film (25)")
    parser.add_argument("--prompts", type=int, default=24, help="films of the section quality (24)")
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32, 64], help="of the section growth")
    parser.add_argument(
        "--pixels", type=int, nargs="+", default=[128, 192, 256, 384, 512], help="of the section growth"
    )
    parser.add_argument("--compile", action="store_true", help="compile the replica, too: it takes long")
    parser.add_argument("--without-openvino", action="store_true", help="leave OpenVINO out of the replica")


def main() -> None:
    """Measure one section and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SECTIONS)
    parser.add_argument("out", type=Path)
    options(parser)
    given = parser.parse_args()
    protocol.TRIES = given.tries
    given.out.write_text(json.dumps(run(given.name, given)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
