"""The figures made of curves and matrices: noise schedule, temporal attention, the sampler's path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flickbook.explain.figures.pictures import spread
from flickbook.explain.measures import forward_levels, path_of
from flickbook.explain.record import Record
from flickbook.media.plot import ACCENT, FAINT, LINES, QUIET, canvas, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _head(figure: Figure, title: str, note: str) -> None:
    wide, tall = figure.get_size_inches()
    figure.text(0.25 / wide, 1 - 0.34 / tall, title, fontsize=11, va="baseline")
    for number, line in enumerate(note.split("\n")):
        place = 1 - (0.57 + 0.17 * number) / tall
        figure.text(0.25 / wide, place, line, fontsize=7.5, color=QUIET, va="baseline")


def _name(axes: Axes, text: str, below: str = "") -> None:
    axes.set_title(text, loc="left", fontsize=8.5, color=QUIET, pad=6)
    axes.set_xlabel(below, fontsize=8)


def schedule(record: Record, path: Path) -> None:
    """alpha and sigma over the timesteps, and the signal-to-noise ratio, with the sampled timesteps marked."""
    assert record.networks is not None
    levels, table = forward_levels(record), record.networks.schedule
    t = np.arange(table.num_train_timesteps)
    both = np.array([table.level(int(each)) for each in t])
    with np.errstate(divide="ignore"):
        ratio = 20 * np.log10(both[:, 0] / both[:, 1])
    sampled = [step.timestep for step in record.steps if step.timestep is not None]
    with canvas(9.6, 3.5) as figure:
        note = (
            f"Dots: the {len(levels)} levels of the forward figure. Ticks below: the {len(sampled)} timesteps of this"
        )
        _head(figure, "Noise schedule", f"{note} run, from right to left.")
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.05, right=0.97, top=0.72, bottom=0.16, wspace=0.3)
        for column, name in enumerate(("alpha, signal", "sigma, noise")):
            left.plot(t, both[:, column], color=LINES[column])
            left.text(t[-1] * 1.015, both[-1, column], name, color=LINES[column], fontsize=8, va="center")
            dots = [level["alpha" if column == 0 else "sigma"] for level in levels]
            left.plot([level["timestep"] for level in levels], dots, "o", color=LINES[column], markersize=3)
        _name(left, "shares of signal and noise in x_t", "timestep t")
        shown = np.isfinite(ratio)
        shown &= ratio > -60
        right.plot(t[shown], ratio[shown], color=ACCENT)
        known = [level for level in levels if level["snr_db"] is not None and level["snr_db"] > -60]
        right.plot(
            [level["timestep"] for level in known], [level["snr_db"] for level in known], "o", color=ACCENT, ms=3
        )
        right.axhline(0, color=QUIET, linewidth=0.7, linestyle=(0, (2, 3)))
        right.text(t[-1], 1.5, "as much signal as noise", color=QUIET, fontsize=7, ha="right")
        end = "" if np.isfinite(ratio[-1]) else "; pure noise at the last t"
        _name(right, f"signal-to-noise ratio, dB{end}", "timestep t")
        for axes in (left, right):
            low = axes.get_ylim()[0]
            axes.plot(sampled, [low] * len(sampled), "|", color=QUIET, markersize=6, clip_on=False)
        saved(figure, path, overwrite=True)


def temporal(record: Record, path: Path) -> None:
    """Temporal attention: for each size and three steps, how much each frame looks at each other frame."""
    seen = [step for step in record.steps if step.temporal]
    chosen = sorted({0, len(seen) // 2, len(seen) - 1})
    sizes = list(seen[0].temporal)
    frames = len(record.frames)
    high = max(float(seen[i].temporal[size].max()) for i in chosen for size in sizes)
    with canvas(9.0, 0.9 + 2.75 * len(sizes)) as figure:
        note = "Row: the frame that looks; column: the frame it looks at. Mean over layers, heads and pixels.\n"
        note += f"One scale: dark 0 to light {high:.2f}; uniform weights would be {1 / frames:.3f} everywhere."
        _head(figure, "Temporal attention: which frames look at which", note)
        tall = figure.get_size_inches()[1]
        grid = figure.subplots(len(sizes), len(chosen), squeeze=False)
        figure.subplots_adjust(left=0.06, right=0.98, top=1 - 1.15 / tall, bottom=0.5 / tall, hspace=0.42, wspace=0.18)
        for row, size in enumerate(sizes):
            for column, place in enumerate(chosen):
                step, axes = seen[place], grid[row][column]
                weights = step.temporal[size].numpy()
                extent = (0.5, frames + 0.5, frames + 0.5, 0.5)
                axes.imshow(weights, cmap="inferno", vmin=0, vmax=high, extent=extent, interpolation="nearest")
                axes.grid(False)
                ticks = [frame + 1 for frame in spread(frames, 4)]
                axes.set_xticks(ticks)
                axes.set_yticks(ticks)
                _name(
                    axes, f"{size[0]} x {size[1]} latents, step {step.index}: own frame {weights.diagonal().mean():.3f}"
                )
        saved(figure, path, overwrite=True)


def path_figure(record: Record, numbers: list[dict[str, Any]], path: Path) -> None:
    """The sampler's path: x_t and x0 estimates in a plane, how fast the estimate settles, and what guidance adds."""
    noisy, clean, held = path_of(record)
    guided = [(row["index"], row["guidance_difference"]) for row in numbers if "guidance_difference" in row]
    with canvas(10.4, 3.9) as figure:
        note = f"The plane of the two largest principal components of all x_t and x0, which holds {held:.0%} of their"
        _head(figure, "The sampler's path", f"{note} variance. {record.plan.scheduler}, {len(numbers)} steps.")
        ratios = {"width_ratios": [1.5, 1, 1][: 2 + bool(guided)]}
        panels = figure.subplots(1, 2 + bool(guided), squeeze=False, gridspec_kw=ratios)[0]
        figure.subplots_adjust(left=0.06, right=0.97, top=0.76, bottom=0.15, wspace=0.25)
        plane = panels[0]
        for (x, y), (u, v) in zip(noisy, clean, strict=True):
            plane.plot([x, u], [y, v], color=FAINT, linewidth=0.8, zorder=1)
        plane.plot(*noisy.T, "o-", color=LINES[0], markersize=3, label="x_t")
        plane.plot(*clean.T, "o-", color=LINES[1], markersize=3, label="x0 estimate")
        plane.plot(*clean[-1], "o", color=LINES[2], markersize=7, label="result")
        plane.legend(frameon=False, fontsize=8, loc="best")
        _name(plane, "x_t and the estimate that each step makes from it", "first component")
        steps = [row["index"] for row in numbers]
        panels[1].plot(steps, [row["x0_to_result"] for row in numbers], color=LINES[1])
        panels[1].set_ylim(bottom=0)
        _name(panels[1], "distance of the x0 estimate to the result", "step")
        if guided:
            panels[2].plot(*zip(*guided, strict=True), color=LINES[3])
            panels[2].set_ylim(bottom=0)
            _name(panels[2], "with and without prompt: difference", "step")
        saved(figure, path, overwrite=True)
