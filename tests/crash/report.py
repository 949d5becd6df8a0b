"""What a run of the crash suite found, as a page of docs/reports."""

from __future__ import annotations

import platform
import sqlite3
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Section:
    """One kind of test: what was tried, how often, what was found."""

    title: str
    tried: int
    seconds: float
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def bound(tried: int) -> str:
    """What none of so many says of all others."""
    return f"below {100 * 3 / tried:.2g} % at 95 % (rule of three)" if tried else "nothing was tried"


def spread(seconds: Sequence[float]) -> str:
    """Median, the value that 95 of 100 do not pass where there are so many, and the largest."""
    if not seconds:
        return "none"
    often = f"p95 {p95(seconds):.3f} s, " if len(seconds) >= 20 else ""
    return f"median {statistics.median(seconds):.3f} s, {often}at most {max(seconds):.3f} s"


def p95(values: Sequence[float]) -> float:
    """The value that 95 of 100 do not pass."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else sum(values)


def text(sections: Sequence[Section], day: str, seed: int, load: str) -> str:
    """The page."""
    return "\n".join(_lines(sections, day, seed, load)) + "\n"


def _lines(sections: Sequence[Section], day: str, seed: int, load: str) -> Iterator[str]:
    faults = sum(len(section.faults) for section in sections)
    total = sum(section.seconds for section in sections)
    yield f"# Crash tests, {day}"
    yield ""
    yield f"`python -m tests.crash`, seed {seed}, {total / 60:.1f} minutes, on {platform.machine()} with Python"
    yield f"{platform.python_version()} and SQLite {sqlite3.sqlite_version}; {load}."
    yield ""
    yield "| | trials | failures | bound on the failure rate |"
    yield "|---|---|---|---|"
    for section in sections:
        says = "see below" if section.faults else bound(section.tried)
        yield f"| {section.title} | {section.tried} | {len(section.faults)} | {says} |"
    yield ""
    yield "No failures." if not faults else f"{faults} failures; each is described below."
    for section in sections:
        yield ""
        yield f"## {section.title[0].upper()}{section.title[1:]}"
        yield ""
        yield from section.lines
        yield f"- {section.seconds:.0f} s"
        yield from (f"- **{fault.splitlines()[0]}**" for fault in section.faults[:50])


def write(page: str, day: str, folder: Path) -> Path:
    """Put the page beside the others of that day."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"crash-{day}.md"
    path.write_text(page, encoding="utf-8")
    return path
