"""The bake-off: `python -m bench.bakeoff train NAME --out DIR [--operations 4e14]`, then `measure NAME`, then `table`.

`train` uses several processes if `torchrun` starts it with `--accelerate`: `torchrun --nproc-per-node 2 -m
bench.bakeoff train unet --out runs/bake-off --accelerate`. The same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.bakeoff.race import CANDIDATES, measure, train
from bench.bakeoff.report import read, table
from flickbook.errors import FlickbookError


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure", "table"))
    parser.add_argument("name", nargs="?", choices=tuple(CANDIDATES))
    parser.add_argument("--out", type=Path, default=Path("runs/bake-off"))
    parser.add_argument("--operations", type=float, default=4e14)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--accelerate", action="store_true")
    given = parser.parse_args()
    if given.what == "table":
        print(table(read(given.out, tuple(CANDIDATES))))
        return
    if given.name is None:
        parser.error(f"{given.what} needs the name of a candidate: {', '.join(CANDIDATES)}")
    try:
        if given.what == "train":
            train(CANDIDATES[given.name], given.operations, given.out, given.accelerate)
        else:
            measure(CANDIDATES[given.name], given.operations, given.out, given.prompts)
    except FlickbookError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
