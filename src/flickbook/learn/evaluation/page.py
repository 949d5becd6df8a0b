"""The report of an evaluation: one HTML file with the table and films that play, without a script or another file.

`write_all` writes it with its companions: report.json, report.md and the page for blind rating.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from flickbook.files import replace_whole
from flickbook.learn.evaluation import rate
from flickbook.learn.evaluation.report import Section, heading, markdown, percent, sections
from flickbook.world.scenes import FPS

if TYPE_CHECKING:
    from flickbook.learn.evaluation.collect import Collector

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #24292f }
table { border-collapse: collapse }
td, th { border-bottom: 1px solid #d0d7de; padding: .2rem .7rem; text-align: right; white-space: nowrap }
td:first-child, th:first-child { min-width: 7rem; white-space: normal }
@media (max-width: 30rem) { td, th { font-size: .85rem; padding: .2rem .4rem } }
td:first-child, th:first-child, .groups td:nth-child(2), .groups th:nth-child(2) { text-align: left }
ul { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)) }
ul { list-style: none; padding: 0 }
img { display: block; height: 128px; image-rendering: pixelated; max-width: 100% }
.wide { overflow-x: auto }
figcaption { font-size: .8rem } figure { margin: 0 } .wrong { color: #b3391d }
"""
_COLUMNS = ("Group", "Attribute", "Right", "Share", "95 % interval", "Turbo")
#: A film or its data URI, its caption, and the words that it misses.
Shown = tuple[np.ndarray | str, str, Sequence[str]]


def animation(film: np.ndarray, fps: float = FPS) -> str:
    """A film (n, h, w, 3) uint8 as a data URI: an animated WebP that loops forever."""
    first, *rest = (Image.fromarray(frame) for frame in film)
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=80)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _rows(result: dict[str, Any]) -> list[list[str]]:
    turbo = result.get("turbo", {}).get("groups", {})
    rows = []
    for group, found in result["groups"].items():
        for word, row in found.items():
            other = turbo.get(group, {}).get(word)
            cells = [group, word, f"{row['right']:.0f}/{row['total']:.0f}", percent(row["share"])]
            cells += [f"{percent(row['low'])} to {percent(row['high'])}", percent(other["share"]) if other else ""]
            rows.append(cells)
    return rows


def _table(rows: Sequence[Sequence[str]], kind: str = "wide") -> str:
    """A table whose first row is its header; narrow windows scroll it."""
    cells = [
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
        for row, tag in zip(rows, ["th", *["td"] * len(rows)], strict=False)
    ]
    return f'<div class="{kind}"><table>' + "".join(cells) + "</table></div>"


def _section(section: Section) -> str:
    table = _table(section.rows) if section.rows else ""
    return f"<h2>{html.escape(section.heading)}</h2><p>{html.escape(section.text)}</p>{table}"


def _figure(film: np.ndarray | str, caption: str, wrong: Sequence[str]) -> str:
    missed = f'<br><span class="wrong">wrong: {html.escape(", ".join(wrong))}</span>' if wrong else ""
    text, source = html.escape(caption), film if isinstance(film, str) else animation(film)
    picture = f'<img src="{source}" alt="{text}">'
    return f"<li><figure>{picture}<figcaption>{text}{missed}</figcaption></figure></li>"


def page(result: dict[str, Any], films: dict[str, list[Shown]], model: str, rated: int = 0) -> str:
    """The HTML of an evaluation: `result` as `evaluate` returns it, and the first films of each group.

    `rated` is the number of films on the page for rating beside it, if there is one.
    """
    lines = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation of {html.escape(model)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style><h1>Evaluation of {html.escape(model)}</h1>",
        f"<p>{heading(result)}"
        + (f"; {result['seconds_per_film']:.2f} s a film.</p>" if "seconds_per_film" in result else ".</p>"),
    ]
    if rated:
        lines.append(rate.link(rated))
    if result["groups"]:
        lines += [_table([_COLUMNS, *_rows(result)], "wide groups")]
    if result["steadiness"]:
        lines.append("<h2>Steadiness</h2><p>Outline, colour and size from frame to frame, beside true films.</p><ul>")
        lines += [f"<li>{name}: {row['share']:.3f}</li>" for name, row in result["steadiness"].items()]
        lines.append("</ul>")
    if "turbo" in result:
        turbo = result["turbo"]
        lines.append(
            f"<h2>Turbo</h2><p>{turbo['num_inference_steps']} steps: motion {turbo['motion']:.2f} and diversity "
            f"{turbo['diversity']:.2f} of the exact films', {turbo['seconds_per_film']:.2f} seconds a film.</p>"
        )
    lines += map(_section, sections(result))
    for group, shown in films.items():
        lines.append(
            f"<h2>{html.escape(group.capitalize())}</h2><p>The first films, in the order of their seeds.</p><ul>"
        )
        lines += [_figure(*each) for each in shown]
        lines.append("</ul>")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, partial(_text, text))


def _text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def write_all(out: Path, result: dict[str, Any], collector: Collector, model: str, beside: Sequence[Path] = ()) -> None:
    """Write report.json, report.md, report.html, and the page for rating with its key, into `out`.

    The page also shows films of the reports in the directories `beside`, mixed. Raises MediaError for one without such
    a page.
    """
    films = rate.shares([rate.entries(collector.rated, model), *map(rate.read, beside)])
    texts = {
        rate.PAGE: rate.page(films),
        rate.KEY: rate.key(films),
        "report.html": page(result, collector.shown, model, len(films)),
        "report.md": markdown(result),
        "report.json": json.dumps(result, indent=1) + "\n",
    }
    for name, text in texts.items():
        write(out / name, text)
