"""The files of an explained run: numbered figures, index.html and explain.json, written together or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from PIL import Image

from flickbook.explain import blocks, measures
from flickbook.explain.figures import charts, network, pictures
from flickbook.explain.page import embedded_figure, page
from flickbook.explain.record import Record
from flickbook.media.write import check_target, staged

SCHEMA_VERSION: Final = 1
#: Colours of a figure's file: with all of them the figures of one run take 4 MB instead of 1 MB.
_COLOURS: Final = 256
#: Charts have hundreds of colours, small pictures ten thousands, noise more than this.
_MANY_COLOURS: Final = 1 << 16
#: File name of a figure -> its title and text on the page.
FIGURES: Final = {
    "01-forward.png": (
        "Forward process",
        "The finished film, encoded and mixed with more and more noise: q(x_t | x_0) at ten timesteps.",
    ),
    "02-noise-schedule.png": (
        "Noise schedule",
        "Signal, noise and their ratio at every timestep of training, and the timesteps that this run visited.",
    ),
    "03-reverse.png": (
        "Reverse process",
        "What a step starts from, the film that it estimates from it, and the noise that this implies.",
    ),
    "04-words.png": ("Words over space and time", "Where each word is read, over the moving film; mean over steps."),
    "05-words-by-step.png": (
        "Words from step to step",
        "Where each word is read in one frame, from the first step on.",
    ),
    "06-temporal-attention.png": (
        "Temporal attention",
        "How much each frame looks at the others. A bright diagonal means that a frame looks at itself and neighbours.",
    ),
    "07-guidance.png": (
        "Guidance",
        "The estimate without and with the prompt, the guided one, and where the two differ.",
    ),
    "08-path.png": (
        "The sampler's path",
        "Latents and estimates in one plane; how far each estimate is from the result (root mean square); how much the "
        "network's outputs with and without the prompt differ (relative root mean square).",
    ),
    "09-latents.png": ("Latents against pixels", "What the networks work on, beside what you see."),
    "10-network.png": ("The network", "The blocks of the 3D U-Net with shapes, parameters and measured time."),
}
PAGE: Final = "index.html"
NUMBERS: Final = "explain.json"


def file_names() -> list[str]:
    """The names of all files that a report may have."""
    return [*FIGURES, PAGE, NUMBERS]


def write(
    record: Record, directory: Path, *, more: dict[str, Any] | None = None, overwrite: bool = False
) -> list[Path]:
    """Write the report into `directory` and return its files, the page first; `more` is added to explain.json.

    Files are written under temporary names and renamed together. With `overwrite`, figures of an earlier report that
    this run has no data for are removed. Raises OutputError, before anything is drawn if possible, and MissingExtra
    without matplotlib.
    """
    for name in (PAGE, NUMBERS):
        check_target(directory / name, overwrite=overwrite)
    numbers = numbers_of(record) | (more or {})
    with tempfile.TemporaryDirectory() as scratch:
        drawn = {}
        for name, draw in _drawings(record, numbers).items():
            draw(Path(scratch) / name)
            _reduce_colours(Path(scratch) / name)
            drawn[name] = (Path(scratch) / name).read_bytes()
        figures = [(*FIGURES[name], embedded_figure(Path(scratch) / name)) for name in drawn]
    text = page(record, numbers, figures)
    contents = {
        PAGE: text.encode("utf-8"),
        **drawn,
        NUMBERS: (json.dumps(numbers, indent=1, ensure_ascii=False) + "\n").encode("utf-8"),
    }
    targets = [directory / name for name in contents]
    with staged(*targets, overwrite=overwrite) as parts:
        for part, content in zip(parts, contents.values(), strict=True):
            part.write_bytes(content)
    if overwrite:
        for name in FIGURES.keys() - drawn.keys():
            (directory / name).unlink(missing_ok=True)
    return targets


def numbers_of(record: Record) -> dict[str, Any]:
    """The measured numbers of a run, for explain.json."""
    found: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "plan": record.plan.model_dump(mode="json"),
        "device": record.device,
        "seconds": {name: round(value, 4) for name, value in record.seconds.items()},
        "notes": record.notes,
        "steps": measures.step_numbers(record),
        "words": measures.word_numbers(record),
        "attention_shares": measures.shares(record),
        "temporal_attention": measures.temporal_numbers(record),
    }
    if record.networks is not None:
        found |= {
            "prediction_type": record.networks.schedule.prediction_type,
            "forward": measures.forward_levels(record),
            "latents": measures.latent_numbers(record),
            "networks": blocks.measured(record),
        }
    return found


def _drawings(record: Record, numbers: dict[str, Any]) -> dict[str, Callable[[Path], None]]:
    """The figures that this run has data for, by file name."""
    own = record.networks is not None
    answered = [step for step in record.steps if step.answers is not None]
    attended = any(step.attention is not None for step in answered) and bool(record.words)
    guided = any(step.answers is not None and len(step.answers) == 2 for step in answered)
    several = len(record.frames) > 1 and any(step.temporal for step in answered)
    paths = sum(step.x_t is not None for step in record.steps) > 1
    wanted: dict[str, tuple[bool, Callable[[Path], None]]] = {
        "01-forward.png": (own, lambda path: pictures.forward(record, path)),
        "02-noise-schedule.png": (own, lambda path: charts.schedule(record, path)),
        "03-reverse.png": (True, lambda path: pictures.reverse(record, path)),
        "04-words.png": (attended, lambda path: pictures.words(record, path)),
        "05-words-by-step.png": (attended, lambda path: pictures.words_in_time(record, path)),
        "06-temporal-attention.png": (several, lambda path: charts.temporal(record, path)),
        "07-guidance.png": (guided, lambda path: pictures.guidance(record, path)),
        "08-path.png": (paths, lambda path: charts.path_figure(record, numbers["steps"], path)),
        "09-latents.png": (own, lambda path: pictures.latents(record, numbers["latents"], path)),
        "10-network.png": (bool(answered), lambda path: network.network(numbers["networks"], path)),
    }
    return {name: draw for name, (has, draw) in wanted.items() if has}


def _reduce_colours(path: Path) -> None:
    with Image.open(path) as picture:
        full = picture.convert("RGB")
    # The best for charts takes ten times as long in pictures of noise, where it is no better.
    noisy = full.getcolors(_MANY_COLOURS) is None
    reduced = full.quantize(_COLOURS, Image.Quantize.MEDIANCUT if noisy else Image.Quantize.MAXCOVERAGE)
    reduced.save(path, optimize=True)
