"""The 3D U-Net as a drawing, with shapes and measured times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flickbook.explain.blocks import PARTS
from flickbook.media.plot import FAINT, INK, LINES, QUIET, canvas, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Part of a block -> its colour.
COLOURS: Final = dict(zip(PARTS, (LINES[0], LINES[4], LINES[3], LINES[1], LINES[7], LINES[7]), strict=True))
_WIDTH, _HIGH, _STEP = 2.5, 0.62, 1.12


def network(numbers: dict[str, Any], path: Path) -> None:
    """Write the drawing. `numbers` are those of `blocks.measured` with the U-Net's blocks."""
    blocks: list[dict[str, Any]] = numbers["unet"]["blocks"]
    down = [each for each in blocks if each["name"].startswith(("conv_in", "transformer_in", "down"))]
    middle = next(each for each in blocks if each["name"] == "mid_block")
    up = [each for each in blocks if each["name"].startswith(("up", "conv_out"))][::-1]
    levels = max(len(down), len(up))
    total = sum(each["milliseconds"] for each in blocks)
    tall = 2.6 + _STEP * (levels + 1)
    with canvas(10.4, tall) as figure:
        figure.text(0.25 / 10.4, 1 - 0.34 / tall, "The network: shapes and measured time", fontsize=11, va="baseline")
        both = "without and with the prompt" if middle["shape"][0] == 2 else "with the prompt"
        millions = numbers["unet"]["parameters"] / 1e6
        lines = [
            f"3D U-Net, {millions:.1f} million parameters, one step {both}: {total:.0f} ms.",
            "Shapes are (b, c, f, h, w); bars share one scale of time. Blocks of the same row are joined by skip",
            "connections. Median of 3 runs on plain layers; on a CPU films are made with packed, faster ones.",
        ]
        for number, line in enumerate(lines):
            figure.text(0.25 / 10.4, 1 - (0.58 + 0.17 * number) / tall, line, fontsize=7.5, color=QUIET, va="baseline")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1 - 1.25 / tall))
        high = tall - 1.25
        axes.set_xlim(0, 10.4)
        axes.set_ylim(0, high)
        axes.set_axis_off()
        longest = max(each["milliseconds"] for each in blocks)
        _columns(axes, down, middle, up, high, longest)
        _legend(axes, [part for part in PARTS if any(part in each["parts"] for each in blocks)])
        saved(figure, path, overwrite=True)


def _columns(
    axes: Axes,
    down: list[dict[str, Any]],
    middle: dict[str, Any],
    up: list[dict[str, Any]],
    high: float,
    longest: float,
) -> None:
    """Draw the two sides of the U and what joins them."""
    left, centre, right = 0.5, 3.95, 7.4
    tops = [high - 0.3 - _STEP * row for row in range(max(len(down), len(up)) + 1)]
    # The sides are aligned at the bottom, where they meet.
    first = {left: len(tops) - 1 - len(down), right: len(tops) - 1 - len(up)}
    for x, side in ((left, down), (right, up)):
        for row, each in enumerate(side, first[x]):
            _block(axes, x, tops[row], each, longest)
            if row + 1 < len(tops) - 1:
                ends = (tops[row] - _HIGH - 0.02, tops[row + 1] + 0.04)
                _arrow(axes, (x + 0.2, ends[0]), (x + 0.2, ends[1]), back=x == right)
    _block(axes, centre, tops[-1], middle, longest)
    lowest = tops[-2] - _HIGH
    _arrow(axes, (left + 0.2, lowest), (centre - 0.05, tops[-1] - _HIGH / 2))
    _arrow(axes, (centre + _WIDTH + 0.05, tops[-1] - _HIGH / 2), (right + 0.2, lowest))
    for row, each in enumerate(down, first[left]):
        if each["name"] != "conv_in" and row >= first[right] and up[row - first[right]]["name"] != "conv_out":
            y = tops[row] - _HIGH / 2
            axes.plot([left + _WIDTH + 0.25, right - 0.15], [y, y], color=QUIET, linewidth=0.8, linestyle=(0, (2, 3)))
            axes.text(centre + _WIDTH / 2, y + 0.05, "skip connections", fontsize=7, color=QUIET, ha="center")


def _arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float], back: bool = False) -> None:
    begin, end = (end, begin) if back else (begin, end)
    axes.annotate("", xy=end, xytext=begin, arrowprops={"arrowstyle": "->", "color": QUIET, "linewidth": 0.8})


def _block(axes: Axes, x: float, top: float, each: dict[str, Any], longest: float) -> None:
    """A block: its name, its shape, and a bar of its time, divided among its parts."""
    shape = "(" + ", ".join(map(str, each["shape"])) + ")"
    axes.text(x, top, each["name"], fontsize=9, color=INK, va="top")
    axes.text(x + _WIDTH, top, f"{each['milliseconds']:.1f} ms", fontsize=8, color=INK, va="top", ha="right")
    axes.text(x, top - 0.2, shape, fontsize=7.5, color=QUIET, va="top")
    base, begin = top - _HIGH + 0.02, x
    axes.barh(base, _WIDTH, height=0.14, left=x, color=FAINT, align="edge")
    for part, milliseconds in each["parts"].items():
        wide = _WIDTH * milliseconds / longest
        axes.barh(base, wide, height=0.14, left=begin, color=COLOURS[part], align="edge")
        begin += wide
    rest = max(0.0, x + _WIDTH * each["milliseconds"] / longest - begin)
    axes.barh(base, rest, height=0.14, left=begin, color=QUIET, align="edge")


def _legend(axes: Axes, parts: list[str]) -> None:
    names = [(PARTS[part], COLOURS[part]) for part in parts if part != "upsamplers"]
    names = [("change of size" if name == PARTS["downsamplers"] else name, colour) for name, colour in names]
    names.append(("other", QUIET))
    for number, (name, colour) in enumerate(names):
        x, y = 0.5 + 3.3 * (number % 3), 0.5 - 0.26 * (number // 3)
        axes.barh(y, 0.2, height=0.12, left=x, color=colour, align="edge")
        axes.text(x + 0.3, y + 0.05, name, fontsize=7.5, color=QUIET, va="center")
