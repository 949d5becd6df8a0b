"""The page of an explained run: one HTML file with its pictures, two sliders and the figures; it requests nothing."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from flickbook.explain.figures.pictures import PREDICTS, spread
from flickbook.explain.measures import Projection, decibels, mean_attention, predicted_noise
from flickbook.explain.record import Record, StepRecord

#: The most steps, frames and pixels of width that the sliders show.
STEPS: Final = 25
FRAMES: Final = 16
WIDTH: Final = 160
#: Bytes of attention maps in the page, before base64.
_HEAT_BYTES: Final = 400_000
_COLUMNS: Final = 4
_STATIC: Final = Path(__file__).parent / "static"


def _sheet(frames: np.ndarray, raw: bool = False) -> str:
    """Frames (n, h, w, 3) uint8 as one WebP with four a row, as a data URI; `raw` ones without loss if they are
    small."""
    height, width = frames.shape[1:3]
    if width > WIDTH:
        size = (WIDTH, max(1, round(height * WIDTH / width)))
        frames = np.stack([np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BOX)) for each in frames])
        height, width = frames.shape[1:3]
    rows = -(-len(frames) // _COLUMNS)
    whole = np.zeros((rows * height, _COLUMNS * width, 3), np.uint8)
    for number, each in enumerate(frames):
        top, left = number // _COLUMNS * height, number % _COLUMNS * width
        whole[top : top + height, left : left + width] = each
    return _embedded(whole, lossless=raw and width <= 16)


def _embedded(picture: np.ndarray, lossless: bool = False) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", lossless=lossless, quality=72, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def embedded_figure(path: Path) -> str:
    """A figure's file as a data URI."""
    file = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(file, "WEBP", quality=80, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _decoded(record: Record, latents: Any, places: Sequence[int]) -> np.ndarray:
    """The chosen frames of latents, decoded."""
    if record.networks is not None:
        return record.show(latents[:, list(places)])
    frames = record.show(latents)
    chosen: np.ndarray = frames[[min(place, len(frames) - 1) for place in places]]
    return chosen


def _step(record: Record, step: StepRecord, places: Sequence[int], colours: Projection | None) -> dict[str, Any]:
    """What the sliders show of a step."""
    found: dict[str, Any] = {"index": step.index, "level": _level(record, step)}
    found["x0"] = _sheet(_decoded(record, step.x0, places))
    found["x_t"] = None if step.x_t is None else _sheet(_decoded(record, step.x_t, places))
    if colours is not None and step.x_t is not None:
        found["x_t_latents"] = _sheet(colours(step.x_t[:, list(places)]), raw=True)
        eps = predicted_noise(record, step)
        found["noise"] = None if eps is None else _sheet(colours(eps[:, list(places)]), raw=True)
    return found


def _level(record: Record, step: StepRecord) -> str:
    if step.sigma is None:
        return "noise level of the input unknown"
    if record.networks is None or step.timestep is None:
        return f"input: noise sigma {step.sigma:.3f}"
    alpha, sigma = record.networks.schedule.level(step.timestep)
    ratio = decibels(alpha, sigma)
    text = f"t = {step.timestep}: signal alpha {alpha:.3f}, noise sigma {sigma:.3f}, "
    text += "pure noise" if ratio is None else f"signal-to-noise {ratio:.1f} dB"
    return text if step.answers is not None else f"{text}; the network was not run, or on parts of the film"


def _heat(record: Record, steps: Sequence[StepRecord], places: Sequence[int]) -> dict[str, Any] | None:
    """Attention maps as bytes (steps + 1, words, frames, h, w), each word on its own scale; last is the mean of all."""
    mean = mean_attention(record)
    known = [(place, step.attention) for place, step in enumerate(steps) if step.attention is not None]
    if mean is None or not known or not record.words:
        return None
    count, (height, width) = len(record.words), mean.shape[-2:]
    most = max(2, _HEAT_BYTES // (count * len(places) * height * width) - 1)
    known = [known[i] for i in spread(len(known), most)]
    maps = torch.stack([*(each[:count][:, list(places)] for _, each in known), mean[:count][:, list(places)]])
    low, high = maps.amin((0, 2, 3, 4), keepdim=True), maps.amax((0, 2, 3, 4), keepdim=True)
    values = ((maps - low) / (high - low).clamp(min=1e-9) * 255).round().to(torch.uint8).numpy()
    text = base64.b64encode(values.tobytes()).decode("ascii")
    return {"steps": [place for place, _ in known], "height": height, "width": width, "values": text}


def page(record: Record, numbers: dict[str, Any], figures: Sequence[tuple[str, str, str]]) -> str:
    """The HTML of a run. `figures` are (title, text, data URI) in their order."""
    plan, chosen = record.plan, [record.steps[i] for i in spread(len(record.steps), STEPS)]
    places = spread(len(record.frames), FRAMES)
    colours = None if record.networks is None else Projection(record.steps[-1].x0)
    data = {
        "columns": _COLUMNS,
        "frames": len(places),
        "numbers": [place + 1 for place in places],
        "num_frames": len(record.frames),
        "fps": min(plan.fps * len(places) / len(record.frames), 16),
        "total": len(record.steps),
        "words": [word for word, _ in record.words],
        "heat": _heat(record, chosen, places),
        "steps": [_step(record, step, places, colours) for step in chosen],
    }
    # `<` would end the element in some texts.
    text = json.dumps(data).replace("<", "\\u003c")
    title = html.escape(plan.prompt or plan.model)
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>How it was made: {title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{(_STATIC / 'explain.css').read_text(encoding='utf-8')}</style>",
        f"<header><h1>{title}</h1><p class=quiet>{html.escape(_summary(record))}</p></header><main>",
        *(f"<p class=quiet>{html.escape(note)}</p>" for note in record.notes),
        _player(record, len(chosen), len(places)),
        _words(record, numbers) if data["heat"] else "",
        "<h2>Figures</h2>",
        *(_figure(*each) for each in figures),
        f'</main><script id="data" type="application/json">{text}</script>',
        f"<script>{(_STATIC / 'explain.js').read_text(encoding='utf-8')}</script></html>\n",
    ]
    return "\n".join(parts)


def _summary(record: Record) -> str:
    plan = record.plan
    n, h, w, _ = record.frames.shape
    made = sum(record.seconds.values())
    return (
        f"{plan.model} {plan.revision[:12]}, seed {plan.seed}, {len(record.steps)} steps of {plan.scheduler}, "
        f"guidance scale {plan.guidance_scale:g}, {n} frames of {w} x {h} at {plan.fps:g} per second; "
        f"{made:.1f} s on {record.device}"
    )


def _player(record: Record, steps: int, frames: int) -> str:
    """The sliders and the pictures of a step."""
    panels = [
        ("x_t", "x_t, decoded", "what the step starts from, through the autoencoder", ""),
        ("x0", "x0 estimate, decoded", "the film as this step estimates it", ""),
        ("x_t_latents", "x_t, latents as colours", "3 principal components as red, green, blue", "raw"),
        ("noise", "predicted noise, latents as colours", _predicted(record), "raw"),
    ]
    drawn = "".join(
        f'<figure><canvas id="{id}" class="{kind}" role="img" aria-label="{name}"></canvas>'
        f"<figcaption>{name}<span>{html.escape(note)}</span></figcaption></figure>"
        for id, name, note, kind in panels
        if record.networks is not None or not kind
    )
    hidden = "".join(
        f'<canvas id="{id}" hidden></canvas>' for id, *_, kind in panels if record.networks is None and kind
    )
    return (
        "<h2>From noise to the film</h2><p>Move the sliders, or focus one and press the arrow keys.</p>"
        '<div class="controls"><label>Step <output id="step-now"></output>'
        f'<input id="step" type="range" min="0" max="{steps - 1}" value="{steps // 2}"></label>'
        '<label>Frame <output id="frame-now"></output>'
        f'<input id="frame" type="range" min="0" max="{frames - 1}" value="{frames // 2}"></label>'
        '<button id="play" type="button">Play</button></div>'
        f'<div class="panels">{drawn}{hidden}</div><p class="quiet"><span id="level"></span></p>'
    )


def _predicted(record: Record) -> str:
    if record.networks is None:
        return ""
    kind = record.networks.schedule.prediction_type
    if kind == "epsilon":
        return "what the network predicts, with guidance"
    return f"derived: the network predicts {PREDICTS[kind]}"


def _words(record: Record, numbers: dict[str, Any]) -> str:
    """The film under the attention of the chosen word, and the table of words."""
    rows: list[dict[str, Any]] = numbers["words"]
    shares = numbers["attention_shares"]
    start = max(range(len(rows)), key=lambda i: rows[i].get("ratio", rows[i]["share"]))
    chips = '<label><input type="radio" name="word" value="">film alone</label>'
    for number, row in enumerate(rows):
        checked = " checked" if number == start else ""
        chips += f'<label><input type="radio" name="word" value="{number}"{checked}>{html.escape(row["word"])}</label>'
    measured = "ratio" in rows[0]
    head = "<th>Word<th>Share" + ("<th>Inside<th>Outside<th>Ratio" if measured else "")
    body = ""
    for row in rows:
        cells = [html.escape(row["word"]), f"{row['share']:.1%}"]
        if measured:
            cells += [f"{row['inside']:.1%}", f"{row['outside']:.1%}", f"{row['ratio']:.2f}"]
        body += "<tr>" + "".join(f"<td>{cell}" for cell in cells)
    text = (
        f"The words together get {shares['words']:.0%} of cross-attention, the start token {shares['start']:.0%}, "
        f"the end token and padding {shares['end_and_padding']:.0%}. The text encoder is causal: a word's "
        "token also knows the words before it, and the end tokens know the whole prompt."
    )
    if measured:
        text += (
            " Inside and outside are the objects of the finished film and its background. A ratio above 1 means that "
        )
        text += "the word is read more inside."
    return (
        "<h2>Where each word is read</h2>"
        "<p>Share of a word in cross-attention, over the x0 estimate of the step; mean over layers and heads, "
        "conditional branch only. Each word has its own scale, from its least share to its greatest.</p>"
        '<div class="words"><div><canvas id="film" role="img" aria-label="Film under the attention of the chosen word">'
        '</canvas><div class="bar"></div><span class="quiet">least to greatest share</span></div><div>'
        f'<fieldset><legend>Word</legend><div class="chips">{chips}</div></fieldset>'
        '<p><label><input id="mean" type="checkbox" checked> Mean over all steps</label></p>'
        f'<div class="scroll"><table><thead><tr>{head}</thead><tbody>{body}</tbody></table></div>'
        f"<p class=quiet>{html.escape(text)}</p></div></div>"
    )


def _figure(title: str, text: str, address: str) -> str:
    title, text = html.escape(title), html.escape(text)
    picture = f'<img src="{address}" alt="{title}. {text}">'
    drawn = f'<div class="drawn" tabindex="0" role="region" aria-label="{title}">{picture}</div>'
    return f"<section><h3>{title}</h3><p>{text}</p>{drawn}</section>"
