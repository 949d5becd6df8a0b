"""The report of an evaluation: one HTML file with the table and films that play, without a script or another file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flickbook.files import replace_whole
from flickbook.world.scenes import FPS

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #24292f }
table { border-collapse: collapse } td, th { border-bottom: 1px solid #d0d7de; padding: .2rem .7rem; text-align: right }
td:first-child, th:first-child, td:nth-child(2), th:nth-child(2) { text-align: left }
ul { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)) }
ul { list-style: none; padding: 0 }
img { display: block; height: 128px; image-rendering: pixelated; width: 128px }
figcaption { font-size: .8rem } figure { margin: 0 } .wrong { color: #b3391d }
"""
_COLUMNS = ("Group", "Attribute", "Right", "Share", "95 % interval", "Turbo")
#: A film, its caption, and the words that it misses.
Shown = tuple[np.ndarray, str, Sequence[str]]


def animation(film: np.ndarray) -> str:
    """A film (n, h, w, 3) uint8 as a data URI: an animated WebP that loops forever."""
    first, *rest = (Image.fromarray(frame) for frame in film)
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=round(1000 / FPS), loop=0, quality=80)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rows(result: dict[str, Any]) -> list[str]:
    turbo = result.get("turbo", {}).get("groups", {})
    rows = []
    for group, found in result["groups"].items():
        for word, row in found.items():
            other = turbo.get(group, {}).get(word)
            cells = [group, word, f"{row['right']:.0f}/{row['total']:.0f}", _percent(row["share"])]
            cells += [f"{_percent(row['low'])} to {_percent(row['high'])}", _percent(other["share"]) if other else ""]
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return rows


def page(result: dict[str, Any], films: dict[str, list[Shown]], model: str) -> str:
    """The HTML of an evaluation: `result` as `evaluate` returns it, and the first films of each group."""
    settings = result["settings"]
    lines = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation of {html.escape(model)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style><h1>Evaluation of {html.escape(model)}</h1>",
        f"<p>{result['prompts']} prompts, {settings['num_inference_steps']} steps, guidance "
        f"{settings['guidance_scale']:g}, {settings['scheduler']}; {result['seconds_per_film']:.2f} s a film.</p>",
        "<table><tr>" + "".join(f"<th>{word}</th>" for word in _COLUMNS) + "</tr>",
        *_rows(result),
        "</table>",
    ]
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
    for group, shown in films.items():
        lines.append(
            f"<h2>{html.escape(group.capitalize())}</h2><p>The first films, in the order of their seeds.</p><ul>"
        )
        for film, caption, wrong in shown:
            missed = f'<br><span class="wrong">wrong: {html.escape(", ".join(wrong))}</span>' if wrong else ""
            text = html.escape(caption)
            lines.append(
                f'<li><figure><img src="{animation(film)}" alt="{text}"><figcaption>{text}{missed}</figcaption>'
                "</figure></li>"
            )
        lines.append("</ul>")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
