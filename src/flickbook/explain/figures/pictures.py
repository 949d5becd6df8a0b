"""The figures made of pictures: forward and reverse process, words, guidance, latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from flickbook.explain.figures.grid import Row, coloured, grid, heated
from flickbook.explain.measures import (
    Projection,
    estimates,
    forward_levels,
    mean_attention,
    predicted_noise,
    word_numbers,
)
from flickbook.explain.record import Record, StepRecord

#: What a network predicts, by the schedule's name for it.
PREDICTS: Final = {"epsilon": "the noise eps", "v_prediction": "v = alpha eps - sigma x0", "sample": "x0"}
#: The most words that a figure has rows for.
_WORDS: Final = 12


def spread(count: int, most: int, power: float = 1.0) -> list[int]:
    """At most `most` places of `count` with the first and the last; evenly, or with a higher `power` more of them
    early."""
    most = min(most, count)
    return sorted({round((count - 1) * (i / max(1, most - 1)) ** power) for i in range(most)})


def early(steps: Sequence[StepRecord], most: int) -> list[StepRecord]:
    """At most `most` steps with the first and the last, more of them early, where a film changes most."""
    return [steps[place] for place in spread(len(steps), most, 1.4)]


def forward(record: Record, path: Path) -> None:
    """q(x_t | x_0) of the film itself at ten noise levels: encoded, mixed with one noise, decoded."""
    assert record.networks is not None
    networks, levels = record.networks, forward_levels(record)
    x0 = networks.encode(torch.from_numpy(record.frames)).cpu()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(record.plan.seed))
    colours, frames = Projection(x0), spread(len(record.frames), 3)
    noisy = [networks.schedule.add_noise(x0[None], noise[None], level["timestep"])[0] for level in levels]
    shown = [record.show(x[:, frames]) for x in noisy]
    rows = [
        Row(f"frame {frame + 1}", "x_t, decoded", [pictures[i] for pictures in shown]) for i, frame in enumerate(frames)
    ]
    middle = len(frames) // 2
    latents = [colours(x[:, frames])[middle] for x in noisy]
    rows.append(Row(f"frame {frames[middle] + 1}", "x_t, latents as colours", latents, raw=True))
    titles = [f"t = {each['timestep']}\nalpha {each['alpha']:.2f}\nSNR {_db(each['snr_db'])}" for each in levels]
    note = "The finished film is encoded and mixed with one fixed noise: x_t = alpha x0 + sigma eps.\n"
    note += "Latents as colours: their 3 principal components as red, green and blue; grey is 0."
    grid(rows, titles, path, title="Forward process: from the film to noise", note=note)


def _db(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f} dB"


def reverse(record: Record, path: Path) -> None:
    """x_t, the x0 estimate and the predicted noise, step by step, for the middle frame."""
    chosen, frame = early(record.steps, 9), len(record.frames) // 2
    one = _one_frame(record, frame)
    rows = [
        Row("x_t", "the step's input, decoded", [None if s.x_t is None else one(s.x_t) for s in chosen]),
        Row("x0 estimate", "the step's guess of\nthe film, decoded", [one(s.x0) for s in chosen]),
    ]
    note = f"Frame {frame + 1} of {len(record.frames)}. "
    if record.networks is not None:
        colours = Projection(record.steps[-1].x0)
        noises = [(s.x_t, predicted_noise(record, s)) for s in chosen]
        inputs = [None if x is None else colours(x[:, frame : frame + 1])[0] for x, _ in noises]
        eps = [None if x is None else colours(x[:, frame : frame + 1])[0] for _, x in noises]
        rows += [
            Row("x_t", "latents as colours", inputs, raw=True),
            Row("predicted noise", "eps from x0, latents\nas colours", eps, raw=True),
        ]
        kind = record.networks.schedule.prediction_type
        note += f"The network predicts {PREDICTS[kind]}; x0 and eps follow from it and from x_t.\n"
        note += "Latents as colours: their 3 principal components as red, green and blue; grey is 0."
    titles = [_step_title(s) for s in chosen]
    grid(rows, titles, path, title="Reverse process: from noise to the film", note=note)


def _step_title(step: StepRecord) -> str:
    at = "" if step.timestep is None else f"\nt = {step.timestep}"
    return f"step {step.index}{at}" + ("" if step.sigma is None else f"\nsigma {step.sigma:.2f}")


def _one_frame(record: Record, frame: int) -> Callable[[Any], np.ndarray]:
    """Decode one frame of latents: alone if the autoencoder works frame by frame, else with the whole film."""
    if record.networks is not None:
        return lambda x: record.show(x[:, frame : frame + 1])[0]

    def shown(x: Any) -> np.ndarray:
        frames = record.show(x)
        picture: np.ndarray = frames[min(frame, len(frames) - 1)]
        return picture

    return shown


def words(record: Record, path: Path) -> None:
    """Each word's share of cross-attention over the moving film, averaged over steps."""
    heat, numbers = mean_attention(record), word_numbers(record)[:_WORDS]
    assert heat is not None
    frames = spread(len(record.frames), 8)
    rows = []
    for number, row in enumerate(numbers):
        low, high = float(heat[number].min()), float(heat[number].max())
        note = f"{row['share']:.1%} of attention"
        note += f"\ninside / outside {row['ratio']:.2f}" if "ratio" in row else ""
        pictures = [heated(record.frames[f], heat[number, f].numpy(), low, high) for f in frames]
        rows.append(Row(row["word"], note, pictures))
    note = (
        "Share of each word in cross-attention with the prompt, mean over all layers, heads and steps, over the film.\n"
    )
    note += "Each word has its own scale, from its least share (dark) to its greatest (light)."
    if numbers and "ratio" in numbers[0]:
        note += " Inside / outside: mean share on the\nobjects of the film divided by that on the background."
    titles = [f"frame {f + 1}" for f in frames]
    grid(rows, titles, path, title="Cross-attention: where each word is read", note=note, cell=0.68)


def words_in_time(record: Record, path: Path) -> None:
    """Each word's share of cross-attention from step to step, in the middle frame."""
    chosen = early([s for s in record.steps if s.attention is not None], 8)
    frame = len(record.frames) // 2
    one, rows = _one_frame(record, frame), []
    under = [one(step.x0) for step in chosen]
    for number, (word, _) in enumerate(record.words[:_WORDS]):
        heat = [step.attention[number, frame].numpy() for step in chosen if step.attention is not None]
        low, high = float(min(h.min() for h in heat)), float(max(h.max() for h in heat))
        rows.append(Row(word, "", [heated(p, h, low, high) for p, h in zip(under, heat, strict=True)]))
    note = f"Frame {frame + 1}, over the x0 estimate of each step. Each word has one scale for all steps."
    titles = [_step_title(step) for step in chosen]
    title = "Cross-attention from step to step"
    grid(rows, titles, path, title=title, note=note, cell=0.68)


def guidance(record: Record, path: Path) -> None:
    """x0 estimates without the prompt, with it, and guided, and where they differ."""
    chosen = early([s for s in record.steps if s.answers is not None and len(s.answers) == 2], 8)
    frame = len(record.frames) // 2
    one, pairs = _one_frame(record, frame), [estimates(record, step) for step in chosen]
    both = [pair for pair in pairs if pair is not None]
    differences = [(b - a)[:, frame].square().mean(0).sqrt().numpy() for a, b in both]
    high = max(float(d.max()) for d in differences)
    rows = [
        Row("without prompt", "x0 estimate, decoded", [one(a) for a, _ in both]),
        Row("with prompt", "x0 estimate, decoded", [one(b) for _, b in both]),
        Row("guided", "x0 estimate, decoded", [one(step.x0) for step in chosen]),
        Row("difference", "with - without,\nsize in latents", [coloured(d, 0, high) for d in differences], raw=True),
    ]
    scale = record.plan.guidance_scale
    note = f"Frame {frame + 1}. guided = without + {scale:g} (with - without); guidance scale {scale:g}.\n"
    note += f"Difference: root mean square over channels, dark 0 to light {high:.2f}."
    if record.plan.negative_prompt:
        note += " Without prompt: with the negative prompt."
    titles = [_step_title(step) for step in chosen]
    grid(rows, titles, path, title="Guidance: what the prompt changes", note=note)


def latents(record: Record, numbers: dict[str, Any], path: Path) -> None:
    """The film as pixels and as latents, and every channel of the latents of one frame."""
    x0, frames = record.steps[-1].x0, spread(len(record.frames), 8)
    colours, middle = Projection(x0)(x0), len(record.frames) // 2
    channels = x0[:16, middle]
    reach = float(channels.abs().max())
    greys = [((c / reach + 1) * 127.5).round().to(torch.uint8).numpy() for c in channels]
    rows = [
        Row("pixels", "x".join(map(str, record.frames.shape[1:])) + " a frame", [record.frames[f] for f in frames]),
        Row("latents", "as colours", [colours[f] for f in frames], raw=True),
    ]
    for first in range(0, len(greys), 8):
        part = [np.repeat(each[..., None], 3, -1) for each in greys[first : first + 8]]
        titles = [f"channel {first + i + 1}" for i in range(len(part))]
        rows.append(Row("one frame", f"frame {middle + 1}, by channel", part, raw=True, titles=titles))
    f, h, w, c = numbers["pixels_shape"]
    shape = tuple(numbers["latents_shape"])
    note = f"[F, H, W, C] = [{f}, {h}, {w}, {c}] are {numbers['pixels']:,} numbers; (c, f, h, w) = {shape} are"
    note += f" {numbers['latents']:,}: {numbers['ratio']:.0f} times fewer.\nEncoded and decoded again, the film has a"
    note += f" PSNR of {numbers['psnr_db']:.1f} dB. Channels: grey 0, white {reach:.1f}, black -{reach:.1f}."
    titles = [f"frame {f + 1}" for f in frames]
    grid(rows, titles, path, title="Autoencoder: latents against pixels", note=note)
