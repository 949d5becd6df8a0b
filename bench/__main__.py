"""Speed and memory beside stock diffusers and its rivals: `python -m bench [--only SECTION ...] [--check]`.

Each section is measured in a process of its own, with a control that says whether the machine was quiet; one that was
not is measured again, three times at most, and is then void: it is told, the exit code is 1, and it does not take the
place of a valid one unless `--keep-void` says so. Written are speed.json and from it speed.md, in docs/reports.
`--check` writes nothing and compares with what is there. `--quick` is a trial of a few minutes, in build/bench/quick.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.figures import Run, compared, goals
from bench.sections import SECTIONS, options

REPORTS, QUICK = Path("docs/reports"), Path("build/bench/quick")
#: A trial: everything once, and as little of it as there can be.
_TRIAL = {"pairs": 1, "tries": 1, "steps": 4, "prompts": 2, "frames": [8, 16], "pixels": [128, 192]}


def foretold(names: list[str], pairs: int, tries: int) -> list[str]:
    """How long it will take on two quiet cores."""
    lines = [f"{name:9} about {SECTIONS[name].estimate(pairs) / 60:4.1f} min: {SECTIONS[name].what}" for name in names]
    total = sum(SECTIONS[name].estimate(pairs) for name in names) / 60
    return [
        *lines,
        f"together  about {total:4.0f} min on two quiet cores, up to {tries} times that where it is not quiet",
    ]


def measured(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """A section's figures, from a process of its own. Raises CalledProcessError."""
    words = [f"--{key}={value}" for key in ("pairs", "tries", "steps", "prompts") if (value := getattr(given, key))]
    for key in ("frames", "pixels"):
        words += [f"--{key}", *map(str, getattr(given, key))]
    words += [f"--{key.replace('_', '-')}" for key in ("compile", "without_openvino") if getattr(given, key)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        subprocess.run([sys.executable, "-m", "bench.sections", name, str(out), *words], check=True)
        return dict(json.loads(out.read_text(encoding="utf-8")))


def merged(before: Run, fresh: Run, keep_void: bool = False) -> tuple[Run, list[str]]:
    """What is to be written, and the sections that were void and did not replace a valid one."""
    refused = [
        name
        for name, part in fresh.items()
        if part["void"] and not keep_void and name in before and not before[name]["void"]
    ]
    return before | {name: part for name, part in fresh.items() if name not in refused}, refused


def write(run: Run, folder: Path) -> None:
    """speed.json, speed.md and the plot."""
    from bench import growth
    from bench.report import report

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(run, indent=1, sort_keys=True)
    (folder / "speed.json").write_text(text + "\n", encoding="utf-8")
    # In the order of the file, which has the last word.
    (folder / "speed.md").write_text(report(json.loads(text)), encoding="utf-8")
    if "growth" in run:
        growth.plot(run["growth"], folder / growth.PICTURE)


def read(folder: Path) -> Run:
    """What was written before, or nothing."""
    path = folder / "speed.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def check(committed: Run, fresh: Run) -> bool:
    """Say which ratios are what was committed, and whether all are."""
    rows = compared(committed, fresh)
    for name, old, new, same in rows:
        print(f"{'reproduced' if same else 'NOT REPRODUCED'}  {name}: {old} before, {new} now")
    if not rows:
        print("nothing to compare with: no speed.json has these sections")
    return bool(rows) and all(same for *_, same in rows)


def main() -> int:
    """Measure, print and write; the exit code is 1 where a section failed, was void or was not reproduced."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[], help="these sections alone")
    parser.add_argument("--check", action="store_true", help="compare with the committed figures, write nothing")
    parser.add_argument("--keep-void", action="store_true", help="let void figures take the place of valid ones")
    parser.add_argument("--quick", action="store_true", help="a trial: no figures, only whether all of it works")
    parser.add_argument("--report", action="store_true", help="measure nothing; write speed.md anew from speed.json")
    parser.add_argument(
        "--gpu", type=Path, help="measure nothing; put the table of this file of bench.gpu into the report"
    )
    parser.add_argument("--out", type=Path, default=None, help="folder of the report (docs/reports)")
    options(parser)
    given = parser.parse_args()
    if given.quick:
        parser.set_defaults(**_TRIAL)
        given = parser.parse_args()
    folder = given.out or (QUICK if given.quick else REPORTS)
    if given.report or given.gpu:
        table = {"gpu": json.loads(given.gpu.read_text(encoding="utf-8"))} if given.gpu else {}
        write(read(folder) | table, folder)
        return 0
    names = given.only or list(SECTIONS)
    print("\n".join(foretold(names, given.pairs, given.tries)), flush=True)
    fresh, failed = {}, []
    for name in names:
        print(f"-- {name}", flush=True)
        try:
            fresh[name] = measured(name, given)
        except subprocess.CalledProcessError as error:
            failed.append(name)
            print(f"error: {name} was not measured: it ended with {error.returncode}", file=sys.stderr)
    return finished(fresh, failed, given, folder)


def finished(fresh: Run, failed: list[str], given: argparse.Namespace, folder: Path) -> int:
    """Compare or write, and say what came of it."""
    void = [name for name, part in fresh.items() if part["void"]]
    if given.check:
        good = check(read(folder), {name: part for name, part in fresh.items() if name not in void})
    else:
        run, refused = merged(read(folder), fresh, given.keep_void)
        write(run, folder)
        for goal in goals(run):
            print(f"{goal.said:>12}  {goal.what}, goal {goal.bound}{'' if goal.met is not False else ': MISSED'}")
        for name in refused:
            print(f"{name}: void, so the valid figures of before stay (--keep-void replaces them)", file=sys.stderr)
        print(folder / "speed.md")
        good = True
    for name in void:
        print(f"VOID: {name}: the machine was not quiet, these figures mean nothing", file=sys.stderr)
    return 0 if good and not void and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
