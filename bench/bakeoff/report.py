"""The table of the bake-off, from the JSON file of each candidate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_ROWS = (
    ("core", "all correct"),
    ("core", "shape"),
    ("core", "colour"),
    ("core", "motion"),
    ("core", "count"),
    ("core held out", "all correct"),
    ("two objects", "all correct"),
    ("several", "all correct"),
    ("digits", "all correct"),
    ("scenes", "all correct"),
    ("book", "all correct"),
    ("book held out", "all correct"),
)


def read(out: Path, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The candidates that were measured."""
    files = [out / f"{name}.json" for name in names]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def table(found: list[dict[str, Any]]) -> str:
    """One column for each candidate."""
    lines = ["| | " + " | ".join(each["title"] for each in found) + " |", "|" + "---|" * (len(found) + 1)]
    lines.append(_line("parameters", [f"{each['parameters'] / 1e6:.1f} million" for each in found]))
    lines.append(_line("operations", [f"{each['operations']:.2g}" for each in found]))
    lines.append(_line("steps", [f"{each['steps']:,}" for each in found]))
    lines.append(_line("loss at the end", [f"{each['loss']:.3f}" for each in found]))
    for group, word in _ROWS:
        cells = [_share(each["groups"].get(group, {}).get(word)) for each in found]
        lines.append(_line(f"{group}: {word}", cells))
    lines.append(_line("all films: all correct", [_all(each["groups"]) for each in found]))
    steady = [each["steadiness"].get("core", {}).get("share") for each in found]
    lines.append(_line("steadiness of core objects", ["" if s is None else f"{s:.2f}" for s in steady]))
    lines.append(_line("autoencoder, core", [f"{each['ceiling']['core']['psnr']:.1f} dB" for each in found]))
    lines.append(_line("seconds per film", [f"{each['seconds_per_film']:.2f}" for each in found]))
    return "\n".join(lines)


def _line(head: str, cells: list[str]) -> str:
    return f"| {head} | " + " | ".join(cells) + " |"


def _all(groups: dict[str, Any]) -> str:
    rows = [group["all correct"] for group in groups.values()]
    return f"{sum(row['right'] for row in rows)} of {sum(row['total'] for row in rows)}"


def _share(row: dict[str, float] | None) -> str:
    """A share with its 95 % Wilson interval."""
    return "" if row is None else f"{row['share']:.0%} ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
