"""The coverage curve: abnormal films on seen and on unseen pairs against the share of pairs that training showed.

It mirrors Kang et al. 2024 ("How Far is Video Generation from World Model: A Physical Law Perspective", arXiv
2411.02385): on unseen combinations the share of abnormal films falls with the number of combinations in training, not
with the number of films. Here a film is abnormal if any word of its prompt is wrong.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from flickbook.errors import MediaError
from flickbook.learn.evaluation.page import write
from flickbook.learn.evaluation.report import percent

#: The share of the templates in training, and of abnormal films in and out of them: DiT-XL, 6, 30 and 60 of 60.
KANG: Final = ((0.1, 0.03, 0.67), (0.5, 0.03, 0.18), (1.0, 0.02, 0.10))
SEEN, UNSEEN = "core", "core held out"
_WIDE, _HIGH, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 420, 64, 40, 700, 350
_LARGEST = 64 << 20  # bytes of a report


def point(path: Path) -> dict[str, Any]:
    """One report.json as a point of the curve. Raises MediaError for another file, or one without both groups."""
    remedy = "name the report.json of `flickbook evaluate MODEL --out DIR`"
    try:
        if path.stat().st_size > _LARGEST:
            raise MediaError(path, "larger than 64 MiB", remedy)
        result = json.loads(path.read_text(encoding="utf-8"))
        groups, found = result["groups"], {"model": str(result["model"]), "coverage": float(result["coverage"])}
        for name, group in (("seen", SEEN), ("unseen", UNSEEN)):
            row = groups[group]["all correct"]
            ends = {"share": 1 - row["share"], "low": 1 - row["high"], "high": 1 - row["low"]}
            found[name] = {**{end: float(value) for end, value in ends.items()}, "total": int(row["total"])}
    except OSError as error:
        raise MediaError(path, error.strerror or "cannot be read", remedy) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise MediaError(path, f"is no report with the groups {SEEN} and {UNSEEN}", remedy) from error
    return found


def curve(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The points of several reports, by coverage. Raises MediaError."""
    return sorted(map(point, paths), key=lambda each: float(each["coverage"]))


def _place(coverage: float, share: float) -> tuple[float, float]:
    """A point of the picture, in pixels."""
    return _LEFT + coverage * (_RIGHT - _LEFT), _BOTTOM - share * (_BOTTOM - _TOP)


def _line(points: Sequence[tuple[float, float]], colour: str, label: str, dashed: bool = False) -> list[str]:
    """A line with a dot at each point (coverage, share)."""
    places = [_place(*each) for each in points]
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    found = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>']
    for (x, y), (coverage, share) in zip(places, points, strict=True):
        title = html.escape(f"{label}: {percent(share)} at {percent(coverage)}")
        found.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{title}</title></circle>')
    return found


def svg(points: Sequence[dict[str, Any]]) -> str:
    """The curve as a picture, with 95 % intervals and the figures of Kang et al. beside it."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}" width="{_WIDE}" height="{_HIGH}" '
        'font-family="DejaVu Sans, sans-serif" font-size="12" fill="#24292f">',
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="white"/>',
        '<text x="20" y="22" font-size="14">Abnormal films against the share of pairs that training showed</text>',
    ]
    for step in range(0, 101, 25):
        x, y = _place(step / 100, step / 100)
        lines.append(f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e8ec"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#57606a">{step} %</text>')
        lines.append(f'<text x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle" fill="#57606a">{step} %</text>')
    sides = [("unseen", "#c8553d", "unseen pairs"), ("seen", "#3454a4", "seen pairs")]
    for name, colour, _ in sides:
        for each in points:
            (x, low), (_, high) = (_place(each["coverage"], each[name][end]) for end in ("low", "high"))
            lines.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}" opacity=".4" '
                'stroke-width="6"/>'
            )
        lines += _line([(each["coverage"], each[name]["share"]) for each in points], colour, name)
    lines += _line([(share, out) for share, _, out in KANG], "#8b949e", "Kang et al., unseen templates", dashed=True)
    labels = [*((colour, text) for _, colour, text in sides), ("#8b949e", "Kang et al. 2024, unseen templates")]
    for number, (colour, text) in enumerate(labels):
        x = _LEFT + (0, 130, 240)[number]
        lines.append(f'<rect x="{x}" y="{_HIGH - 26}" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 18}" y="{_HIGH - 16}">{html.escape(text)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def table(points: Sequence[dict[str, Any]]) -> str:
    """The curve as Markdown."""
    lines = [
        "# Coverage",
        "",
        "Share of films with a wrong word (abnormal), with 95 % Wilson intervals, against the share of the colour x "
        "shape and shape x motion pairs that training showed. The unseen pairs are the same for every model.",
        "",
        "| model | pairs in training | seen pairs, abnormal | unseen pairs, abnormal |",
        "|---|---|---|---|",
    ]
    for each in points:
        cells = [each["model"], percent(each["coverage"])]
        for name in ("seen", "unseen"):
            row = each[name]
            cells.append(f"{percent(row['share'])} ({percent(row['low'])} to {percent(row['high'])}; {row['total']})")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "For comparison, Kang et al. 2024 (arXiv 2411.02385), DiT-XL on another world, with their own measure:",
        "",
    ]
    lines += ["| templates in training | in template, abnormal | out of template, abnormal |", "|---|---|---|"]
    lines += [f"| {60 * share:.0f} of 60 | {percent(seen)} | {percent(unseen)} |" for share, seen, unseen in KANG]
    return "\n".join(lines) + "\n"


def main(paths: Sequence[Path], out: Path | None = None) -> list[dict[str, Any]]:
    """The curve of several report.json; with `out` also coverage.json, coverage.md and coverage.svg. MediaError."""
    points = curve(paths)
    if out is not None:
        texts = {"coverage.json": json.dumps(points, indent=1) + "\n", "coverage.md": table(points)}
        for name, text in {**texts, "coverage.svg": svg(points)}.items():
            write(out / name, text)
    return points
