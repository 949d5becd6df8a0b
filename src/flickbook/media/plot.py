"""Figures of sampling steps, sequences and training runs. Only `explain/figures/` imports matplotlib as well."""

from __future__ import annotations

import csv
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flickbook.errors import MediaError, MissingExtra, RequestError
from flickbook.media.sheet import chosen
from flickbook.media.write import FilePath, check_frames, staged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#24292f"
QUIET: Final = "#8b949e"
FAINT: Final = "#e4e8ec"
ACCENT: Final = "#3454a4"
LINES: Final = ("#3454a4", "#c8553d", "#3f8f6b", "#b8892b", "#7a4f9a", "#3b8ea5", "#8c5a3c", "#5c6670")
_POINTS: Final = 240  # a curve is averaged to this many points, however long the run
_APART: Final = 0.085  # least distance of the labels at the ends of curves, as a share of the panel
_DPI: Final = 150
_STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a prompt does not begin a formula
    "axes.edgecolor": FAINT,
    "axes.labelcolor": QUIET,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


def steps_sheet(
    previews: Sequence[np.ndarray],
    steps: Sequence[int],
    noise_levels: Sequence[float],
    path: FilePath,
    *,
    title: str,
    noisy: Sequence[np.ndarray] = (),
    rows: int = 8,
    columns: int = 6,
    overwrite: bool = False,
) -> Path:
    """Write a PNG of the sampling steps of a film: for each step a row of x_t and a row of x0, labelled.

    `previews` are the x0 estimates of each step; `noisy` are the decoded latents x_t after each step, or empty if the
    model does not provide them. Each is (frames, height, width, 3) uint8, all of one shape. `steps` are the step
    numbers; `noise_levels` is the share of noise left in x_t, 0 to 1, where 1 is pure noise. Shows at most `rows`
    steps, evenly chosen, and `columns` frames. Raises RequestError for sequences of different lengths or shapes,
    OutputError for the path, MissingExtra without matplotlib.
    """
    _check_steps(previews, noisy, steps, noise_levels)
    shown, frames = chosen(len(previews), rows), chosen(len(previews[0]), columns)
    height, width = previews[0].shape[1:3]
    cell, label, head, gap, apart = 0.9, 1.25, 1.1, 0.05, 0.16  # inches
    across, down = cell + gap, cell * height / width + gap
    lines = 1 + bool(len(noisy))
    block = down * lines + apart
    with canvas(label + across * len(frames) + 0.2, head + block * len(shown) + 0.1) as figure:
        wide, tall = figure.get_size_inches()
        figure.text(0.2 / wide, 1 - 0.36 / tall, cut(title, int(wide * 9.5)), fontsize=11, va="baseline")
        legend = "x0: the finished film as each step estimates it, decoded"
        legend = f"x_t: what each step leaves, decoded      {legend}" if len(noisy) else legend
        figure.text(0.2 / wide, 1 - 0.6 / tall, legend, fontsize=7.5, color=QUIET, va="baseline")
        for row, index in enumerate(shown):
            top = tall - head - block * row
            films = [noisy[index], previews[index]] if len(noisy) else [previews[index]]
            for line, film in enumerate(films):
                base = top - down * (line + 1) + gap
                name = "x_t" if line + 1 < lines else "x0"
                _step_label(figure, base + (down - gap) / 2, steps[index], name, noise_levels[index])
                for column, frame in enumerate(frames):
                    axes = figure.add_axes(
                        ((label + across * column) / wide, base / tall, cell / wide, (down - gap) / tall)
                    )
                    axes.imshow(film[frame], interpolation="antialiased")
                    axes.set_axis_off()
                    if row == line == 0:
                        axes.set_title(f"frame {frame + 1}", fontsize=7.5, color=QUIET, pad=4)
        return saved(figure, path, overwrite)


def _check_steps(
    previews: Sequence[np.ndarray], noisy: Sequence[np.ndarray], steps: Sequence[int], noise_levels: Sequence[float]
) -> None:
    """Raises RequestError for sequences of different lengths or shapes."""
    if not len(previews) == len(steps) == len(noise_levels) > 0 or len(noisy) not in (0, len(previews)):
        found = f"{len(previews)} previews, {len(noisy)} noisy, {len(steps)} steps, {len(noise_levels)} noise levels"
        raise RequestError("previews", found, "must be as many of each, and at least one", "give one of each a step")
    for film in (*previews, *noisy):
        check_frames(film)
        if film.shape != previews[0].shape:
            raise RequestError("previews", film.shape, "must have one shape", f"make all {previews[0].shape}")


def _step_label(figure: Figure, middle: float, step: int, name: str, noise: float) -> None:
    """Draw the label of a row, `middle` inches above the figure's bottom: x_t with a meter of its noise, or x0."""
    from matplotlib.lines import Line2D

    wide, tall = figure.get_size_inches()
    left, right = 0.2, 1.08
    figure.text(left / wide, (middle + 0.1) / tall, f"step {step}, {name}", fontsize=9, va="baseline")
    if name == "x0":
        figure.text(left / wide, (middle - 0.06) / tall, "estimate", fontsize=7.5, color=QUIET, va="baseline")
        return
    for end, colour in ((right, FAINT), (left + (right - left) * float(np.clip(noise, 0, 1)), ACCENT)):
        ends = [left / wide, end / wide], [middle / tall, middle / tall]
        figure.add_artist(Line2D(*ends, color=colour, linewidth=2.2, solid_capstyle="butt"))
    figure.text(left / wide, (middle - 0.19) / tall, f"noise {noise:.2f}", fontsize=7.5, color=QUIET, va="baseline")


def sequence_sheet(
    frames: np.ndarray,
    prompts: Sequence[tuple[int, str]],
    likeness: Sequence[float],
    path: FilePath,
    *,
    title: str,
    cells: int = 12,
    columns: int = 6,
    overwrite: bool = False,
) -> Path:
    """Write a PNG of a sequence: about `cells` of its frames with their prompts, and the similarity of neighbours.

    `frames` is (frames, height, width, 3) uint8, two or more; `prompts` pairs the frame at which each prompt is
    reached, the first at 0, with its text; `likeness` is the SSIM of each frame and the next. Raises RequestError for
    arguments that do not match, OutputError for the path, MissingExtra without matplotlib.
    """
    check_frames(frames)
    if not len(likeness) == len(frames) - 1 > 0 or not prompts:
        found = f"{len(frames)} frames, {len(prompts)} prompts, {len(likeness)} likenesses"
        raise RequestError("frames", found, "must be two or more, and one likeness fewer", "give one for each pair")
    shown = chosen(len(frames), cells)
    columns = min(columns, len(shown))
    side, cell, gap, label, head, curve = 0.35, 1.3, 0.12, 0.5, 0.75, 1.75  # inches
    tall_cell = cell * frames.shape[1] / frames.shape[2]
    down = tall_cell + label
    wide = max(4.6, 2 * side + columns * (cell + gap) - gap)
    tall = head + -(-len(shown) // columns) * down + curve
    with canvas(wide, tall) as figure:
        from matplotlib.transforms import Bbox, TransformedBbox

        figure.text(side / wide, 1 - 0.36 / tall, cut(title, int(wide * 11)), fontsize=11, va="baseline")
        for number, frame in enumerate(shown):
            left, top = side + number % columns * (cell + gap), head + number // columns * down
            axes = figure.add_axes((left / wide, 1 - (top + tall_cell) / tall, cell / wide, tall_cell / tall))
            axes.imshow(frames[frame], interpolation="antialiased")
            axes.set_axis_off()
            axes.set_title(f"frame {frame + 1}", fontsize=7.5, color=QUIET, pad=3)
            nearest = min(prompts, key=lambda turn: abs(turn[0] - frame))[1]
            words = "\n".join(textwrap.wrap(cut(nearest, 42), 23)[:2])
            caption = figure.text(left / wide, 1 - (top + tall_cell + 0.05) / tall, words, fontsize=6.5, va="top")
            # Clip text so that wide letters do not run into the next cell.
            caption.set_clip_box(TransformedBbox(Bbox.from_bounds(left / wide, 0, cell / wide, 1), figure.transFigure))
            caption.set_clip_on(True)
        room = (side + 0.3) / wide, 0.42 / tall, 1 - (2 * side + 0.9) / wide, (curve - 0.85) / tall
        _likeness_panel(figure.add_axes(room), likeness, [frame for frame, _ in prompts])
        return saved(figure, path, overwrite)


def _likeness_panel(axes: Axes, likeness: Sequence[float], reached: Sequence[int]) -> None:
    """Draw the SSIM of neighbouring frames, with a thin line where each prompt is reached."""
    from matplotlib.ticker import MaxNLocator

    places = np.arange(len(likeness)) + 1.5  # between a frame and the next, counted from 1
    axes.plot(places, likeness, color=ACCENT, marker="o", markersize=2 if len(likeness) > 1 else 4)
    for frame in reached:
        axes.axvline(frame + 1, color=QUIET, linewidth=0.7, linestyle=(0, (2, 3)))
    mean = float(np.mean(likeness))
    axes.set_xlim(0.5, len(likeness) + 1.5)
    axes.set_ylim(min(0.9, min(likeness)) - 0.02, 1.005)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _heading(axes, "likeness (SSIM) of each frame and the next")
    _end_labels(axes, [(float(places[-1]), mean, f"mean {mean:.3f}", ACCENT)])


def training_plot(run: FilePath, path: FilePath) -> Path:
    """Write a PNG of a training run, replacing an older one: loss, loss by noise level, and adherence over clips seen.

    `run` is the run's directory. Its log.csv has the columns clips and loss, loss_0, loss_1, … (one per band of noise
    levels, the least noise first; cells may be empty) and stage if the run has stages. Its optional adherence.csv has
    clips and one column of shares (0 to 1) per attribute. Unreadable rows, such as half-written ones, are skipped.
    Raises MediaError if no row is readable, OutputError for the path, MissingExtra without matplotlib.
    """
    log = _table(Path(run) / "log.csv")
    if log is None or not np.isfinite(log.get("loss", np.array([]))).any():
        raise MediaError(Path(run) / "log.csv", "holds no rows with clips and loss", "let training write some first")
    adherence = _table(Path(run) / "adherence.csv")
    bands = sorted((name for name in log if name[:5] == "loss_" and name[5:].isdigit()), key=lambda name: int(name[5:]))
    panels = 1 + bool(bands) + (adherence is not None)
    with canvas(7.6, 0.7 + 2.15 * panels) as figure:
        grid = list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
        tall = figure.get_size_inches()[1]
        figure.subplots_adjust(left=0.08, right=0.84, top=1 - 0.72 / tall, bottom=0.45 / tall, hspace=0.32)
        figure.text(0.03, 1 - 0.32 / tall, "Training", fontsize=11, va="baseline")
        remaining = list(grid)
        _loss_panel(remaining.pop(0), log)
        if bands:
            _bands_panel(remaining.pop(0), log, bands)
        if adherence is not None:
            _adherence_panel(remaining.pop(0), adherence)
        _stage_marks(grid, _stages(Path(run) / "log.csv"))
        grid[-1].set_xlabel("clips seen")
        grid[-1].xaxis.set_major_formatter(_thousands)
        return saved(figure, path, overwrite=True)


def _loss_panel(axes: Axes, log: Mapping[str, np.ndarray]) -> None:
    clips, loss = _averaged(log["clips"], log["loss"])
    axes.plot(clips, loss, color=ACCENT, alpha=0.25, linewidth=1)
    smooth = _smoothed(loss)
    axes.plot(clips, smooth, color=ACCENT)
    _heading(axes, "loss")
    _end_labels(axes, [(float(clips[-1]), float(smooth[-1]), f"{smooth[-1]:.3g}", ACCENT)])


def _bands_panel(axes: Axes, log: Mapping[str, np.ndarray], bands: Sequence[str]) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    colours = [colormaps["viridis"](0.78 * i / max(1, len(bands) - 1)) for i in range(len(bands))]
    ends = []
    for number, (name, colour) in enumerate(zip(bands, colours, strict=True)):
        clips, loss = _averaged(log["clips"], log[name])
        if len(clips):
            smooth = _smoothed(loss)
            axes.plot(clips, smooth, color=colour, linewidth=1.3)
            extreme = {0: "least noise", len(bands) - 1: "most noise"}.get(number)
            ends += [(float(clips[-1]), float(smooth[-1]), extreme, colour)] if extreme else []
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _heading(axes, "loss by noise level")
    _end_labels(axes, ends)


def _adherence_panel(axes: Axes, table: Mapping[str, np.ndarray]) -> None:
    from matplotlib.ticker import PercentFormatter

    ends = []
    names = [name for name in table if name not in ("clips", "step") and np.isfinite(table[name]).any()]
    for number, name in enumerate(names):
        seen = np.isfinite(table[name])
        clips, share = table["clips"][seen], table[name][seen]
        colour = LINES[number % len(LINES)]
        axes.plot(clips, share, color=colour, marker="o", markersize=2.5)
        ends.append((float(clips[-1]), float(share[-1]), f"{name} {share[-1]:.0%}", colour))
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _heading(axes, "films of fixed prompts that show what was asked")
    _end_labels(axes, ends)


def _heading(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9, color=QUIET, pad=6)


def _end_labels(axes: Axes, ends: Sequence[tuple[float, float, str, Any]]) -> None:
    """Label each curve to the right of its end (x, y); overlapping labels are moved apart."""
    axes.margins(x=0.01)
    low, high = axes.get_ylim()
    to_axes = axes.transScale.transform
    bottom, top = to_axes((1, low))[1], to_axes((1, high))[1]
    spots = sorted(((to_axes((1, y))[1] - bottom) / (top - bottom), text, colour) for _, y, text, colour in ends)
    heights: list[float] = []
    for height, _, _ in spots:
        heights.append(max(height, heights[-1] + _APART) if heights else height)
    ceiling = 1.0
    for number in reversed(range(len(heights))):  # labels that were pushed beyond the top move down again
        heights[number] = min(heights[number], ceiling)
        ceiling = heights[number] - _APART
    for height, (_, text, colour) in zip(heights, spots, strict=True):
        axes.text(1.015, height, text, color=colour, fontsize=8, va="center", transform=axes.transAxes)


def _stage_marks(panels: Sequence[Axes], stages: Sequence[tuple[float, str]]) -> None:
    """Draw a thin line through all panels where a stage begins, and the stages' names in the first panel."""
    if len(stages) < 2:
        return
    for number, (clips, name) in enumerate(stages):
        for axes in panels if number else ():
            axes.axvline(clips, color=QUIET, linewidth=0.7, linestyle=(0, (2, 3)))
        place = panels[0].get_xaxis_transform()
        panels[0].text(clips, 1.0, f" {name}", fontsize=7, color=QUIET, va="top", transform=place)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            yield from csv.DictReader(line.replace("\0", "") for line in file)
    except FileNotFoundError:
        return
    except (OSError, csv.Error) as error:
        raise MediaError(path, f"cannot be read ({error})", "check that it is a CSV file") from error


def _table(path: Path) -> dict[str, np.ndarray] | None:
    """Return the numeric columns of a CSV, each (rows,) float with NaN for an empty cell; None if no row has clips."""
    rows = [row for row in _rows(path) if np.isfinite(_number(row.get("clips")))]
    if not rows:
        return None
    rows.sort(key=lambda row: _number(row["clips"]))
    names = [name for name in rows[0] if name]
    return {name: np.array([_number(row.get(name)) for row in rows]) for name in names}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _stages(path: Path) -> list[tuple[float, str]]:
    """Return the start of each stage: (clips seen, name), in order."""
    found: list[tuple[float, str]] = []
    for row in _rows(path):
        clips, name = _number(row.get("clips")), row.get("stage")
        if name and np.isfinite(clips) and (not found or found[-1][1] != name):
            found.append((clips, name))
    return found


def _averaged(clips: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a curve over at most 240 intervals of the run, omitting intervals without a value."""
    finite = np.isfinite(values)
    clips, values = clips[finite], values[finite]
    parts = np.array_split(np.arange(len(values)), min(_POINTS, len(values)) or 1)
    parts = [part for part in parts if len(part)]
    return np.array([clips[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Smooth with a Gaussian over about 2 % of the curve, normalised at the ends to avoid edge bias."""
    width = max(1.0, len(values) / 60)
    reach = np.arange(-int(3 * width), int(3 * width) + 1)
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    weights = np.convolve(np.ones_like(values), kernel, mode="full")
    start = len(kernel) // 2
    return (np.convolve(values, kernel, mode="full") / weights)[start : start + len(values)]


def _thousands(value: float, _: object) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e3 else f"{value:g}"


def cut(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


@contextmanager
def canvas(wide: float, tall: float) -> Iterator[Figure]:
    """Yield a figure of `wide` by `tall` inches in the project's style, without a display. Raises MissingExtra."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "gen") from error
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(wide, tall), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure


def saved(figure: Figure, path: FilePath, overwrite: bool) -> Path:
    with staged(path, overwrite=overwrite) as (part,), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # letters that the font lacks appear as boxes
        # Omit matplotlib's version, so that equal figures are equal files.
        figure.savefig(part, format="png", metadata={"Software": None})
    return Path(path)
