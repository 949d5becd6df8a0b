"""docs/reports/speed.md, written from speed.json beside it."""

from __future__ import annotations

import statistics
from typing import Any

from bench import gpu
from bench.comparison import break_even
from bench.figures import Run, goals
from bench.growth import BASE, GOAL, PICTURE, name_of
from bench.protocol import AGAIN, CONTROL, SPREAD, Ratio, Turns
from bench.sections import SECTIONS

HEAD = """# Speed, measured

Written by `make bench` from `speed.json` beside it; `python -m bench --check` measures again and says whether the
intervals meet. All sides of a table take turns in one process, in an order that rotates, on the same noise, words,
scheduler, steps and threads; a ratio is the median over the turns, with the interval that 95 of 100 such runs would
give (bootstrap). One side runs twice in each turn: where the median of its ratio to itself is outside {low} to {high},
or the interval around it outside {least} to {most}, the section is **void** and says so. The report shows quality
beside every figure, and beside a goal for exact speed the ceiling: what this processor's best matrix product would
allow (sections of the published size, and of the roofline). [speed.md](../speed.md) describes `--speed balanced`.
"""


def table(head: list[str], rows: list[list[str]]) -> str:
    """As Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(run: Run) -> str:
    """The whole page."""
    parts = [HEAD.format(low=CONTROL[0], high=CONTROL[1], least=SPREAD[0], most=SPREAD[1]), _goals(run)]
    writers = {
        "builtin": ("The built-in film", _builtin),
        "rivals": ("Beside all others", _rivals),
        "quality": ("Balanced, over prompts", _quality),
        "replica": ("A model of the published size", _replica),
        "memory": ("The memory of the published size", _memory),
        "roofline": ("Roofline", _roofline),
        "cold": ("Cold starts", _cold),
        "growth": ("Growth", _growth),
        "training": ("Training", _training),
    }
    for name, (title, write) in writers.items():
        if name in run:
            parts += [f"## {title}", _about(name, run[name]), write(run[name])]
    missing = [name for name in writers if name not in run]
    if missing:
        parts += ["## Not measured", ", ".join(missing) + ": `python -m bench --only " + " ".join(missing) + "`."]
    absent = (
        "No GPU was at hand. `python -m bench.gpu --out FILE.json` measures all of it in one call where there is one."
    )
    parts += ["## On a GPU", gpu.table(run["gpu"]) if "gpu" in run else absent]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _goals(run: Run) -> str:
    words = {True: "met", False: "**missed**", None: ""}
    rows = [[goal.what, goal.bound, goal.said, words[goal.met]] for goal in goals(run)]
    return "## Goals\n\n" + table(["what", "goal", "found", ""], rows)


def _about(name: str, part: dict[str, Any]) -> str:
    """When, where and whether it may be believed."""
    about, machine = part["about"], part["about"]["machine"]
    turns = f"{about['pairs']} turns; " if SECTIONS[name].turn else ""
    libraries = ", ".join(f"{name} {each}" for name, each in machine["libraries"].items())
    lines = [
        f"{about['date']}, {machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['memory_gb']} GB; {libraries}; {turns}load before it {about['load_before']}."
    ]
    if part["void"]:
        lines.insert(
            0, "**VOID: the machine was not quiet; the control was outside its bounds. These are no results.**\n"
        )
    return "\n".join(lines)


def _control(values: dict[str, Any]) -> str:
    turns = Turns.from_dict(values)
    tries = f", after {len(turns.controls)} void tries" if turns.controls else ""
    late = " **Outside the bounds, whose interval did not count yet when this was measured.**" if turns.void else ""
    return f"Control, {turns.control} against itself: {turns.quiet}{tries}.{late}"


def _likeness(found: dict[str, Any] | None) -> list[str]:
    if not found:
        return ["", ""]
    if "error" in found:
        return [f"error {found['error']:.1e}", ""]
    return [f"{found['psnr']:.1f} dB", f"{found['ssim']:.3f}"]


def _sides(part: dict[str, Any]) -> str:
    """One row a side: seconds, ratios, likeness, and what it could not do."""
    turns, reference = Turns.from_dict(part["turns"]), part["reference"]
    tuned = next((name for name in turns.seconds if name.startswith("stock tuned, ")), reference)
    medians, rows, notes = turns.medians(), [], []
    for name in sorted(part["sides"], key=lambda side: medians[side]):
        side = part["sides"][name]
        row = [name, f"{medians[name]:.2f}"]
        row += [str(turns.ratio(over, name)) if over != name else "1" for over in dict.fromkeys((reference, tuned))]
        own = side.get("beside_own")
        rows.append([*row, *_likeness(side.get("beside_reference")), _likeness(own)[0] if own else ""])
        notes += [f"- {name}: {note}." for note in side["notes"]]
        if prepared := side.get("prepared_s"):
            notes.append(
                f"- {name}: {prepared:.0f} s to prepare, not in the table; {_paid(turns, name, tuned, prepared)}."
            )
    faster = [f"{over} / it" for over in dict.fromkeys((reference, tuned))]
    head = ["side", "s", *faster, f"PSNR to {reference}", "SSIM", "PSNR to our exact"]
    return "\n\n".join([table(head, rows), _control(part["turns"]), "\n".join(notes)])


def _builtin(part: dict[str, Any]) -> str:
    """`_sides`, of several films."""
    words = (
        "Each turn makes another of the evaluation's films; PSNR and SSIM are the worst one's, the untimed first too."
    )
    return f"{words}\n\n{_sides(part)}"


def _paid(turns: Turns, name: str, without: str, prepared: float) -> str:
    films = break_even(turns, name, without, prepared)
    return f"paid back after {films:.0f} films, beside {without}" if films else f"never paid back, beside {without}"


def _rivals(part: dict[str, Any]) -> str:
    missing = [f"- {name}: could not be measured. {why}" for name, why in part["missing"].items()]
    return _sides(part) + ("\n" + "\n".join(missing) if missing else "")


def _quality(part: dict[str, Any]) -> str:
    low = statistics.quantiles(part["psnr"], n=20)[0] if len(part["psnr"]) > 1 else part["psnr"][0]
    half = part.get("bf16")
    halved = (
        f" In bfloat16, which `auto` takes for balanced where the processor computes in it, denoising is "
        f"{Ratio.of(half['ratios'], [1.0] * part['films'])} times as fast as exact in fp32; PSNR to that: mean "
        f"{statistics.mean(half['psnr']):.1f} dB, worst {min(half['psnr']):.1f}, SSIM of the worst frame "
        f"{min(half['ssim']):.3f}."
        if half
        else ""
    )
    return (
        f"{part['films']} prompts, each made exactly and balanced in turn, fp32. The network was asked "
        f"{statistics.mean(part['asked']):.1f} times ({min(part['asked'])} to {max(part['asked'])}) of 25; denoising "
        f"{Ratio.of(part['ratios'], [1.0] * part['films'])} times as fast. PSNR to exact: mean "
        f"{statistics.mean(part['psnr']):.1f} dB, 5 % below {low:.1f}, worst {min(part['psnr']):.1f}. "
        f"SSIM of the worst frame: mean {statistics.mean(part['ssim']):.3f}, worst {min(part['ssim']):.3f}. "
        f"Right in everything by the world's judge: exact {part['right'][0]}, balanced {part['right'][1]}; of what the "
        f"prompts say the films show {part['adherence'][0]:.1f} % and {part['adherence'][1]:.1f} %." + halved
    )


def _replica(part: dict[str, Any]) -> str:
    """Both precisions, the default call, and what is not known."""
    parts = []
    for name in ("fp32", "bf16"):
        if name in part:
            medians = Turns.from_dict(part[name]["turns"]).medians()
            rates = [f"{side} {1e3 * part['tflop']['step'] / medians[side]:.0f}" for side in part[name]["sides"]]
            parts += [f"### {name}, seconds of a guided step, 8 x 256 x 256", _sides(part[name])]
            parts.append(f"GFLOP/s by the stock network's operations: {', '.join(rates)}.")
    turns = Turns.from_dict(part["across"]["turns"])
    parts.append(f"The default call (stock, fp32) / ours in bf16: {turns.ratio('stock, fp32', 'ours, bf16')}.")
    stocks = {kind: Turns.from_dict(part[kind]["turns"]).medians() for kind in ("fp32", "bf16") if kind in part}
    parts.append(_ceiling(part, {kind: seconds[part[kind]["reference"]] for kind, seconds in stocks.items()}))
    parts.append("\n".join(f"- {name}: could not be measured. {why}" for name, why in part["missing"].items()))
    parts.append("\n".join(f"- Not measured: {each}." for each in part["unmeasured"]))
    return "\n\n".join(each for each in parts if each)


def _memory(part: dict[str, Any]) -> str:
    """Of loading, and of a film."""
    rows = [
        [f"{side}, {dtype}", f"{each['own']:.2f}", f"{each['with_files']:.2f}"]
        for dtype, sides in part["loading"].items()
        for side, each in sides.items()
    ]
    loads = table(["load peak over the weights", "the process's own", "with mapped files"], rows)
    sizes = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in part["film"].items())
    made = "Peak of a process that makes 16 frames of 256 x 256 from words, mapped files not counted, one run each"
    plain = "Stock's is its plain call, which on a processor computes in fp32 unless told otherwise."
    return f"{loads}\n\n{made}: {sizes}. {plain}"


def _best(peaks: dict[str, float], kind: str) -> float:
    """GFLOP/s of the fastest matrix product in a precision."""
    return max(value for peak, value in peaks.items() if f"matmul {kind}" in peak)


def _ceiling(part: dict[str, Any], stocks: dict[str, float]) -> str:
    """How fast a step could be at most, beside stock's seconds in each precision."""
    floors = {kind: part["tflop"]["step, ours"] / _best(part["peaks"], kind) * 1e3 for kind in stocks}
    said = [
        f"{floors[kind]:.3g} s in {kind}, {seconds / floors[kind]:.2f} times as fast as stock in it"
        for kind, seconds in stocks.items()
    ]
    return (
        "All of ours at the rate of this processor's best matrix product, and nothing but products, would be a step in "
        + "; ".join(said)
        + ": the ceiling of what is exact here."
    )


def _roofline(part: dict[str, Any]) -> str:
    """Peaks, then what is reached of them, and what would be the end of it."""
    peaks, work, turns = part["peaks"], part["tflop"], Turns.from_dict(part["turns"])
    rows = [[name, f"{value:.0f}"] for name, value in peaks.items()]
    medians, reached = turns.medians(), []
    for name, rate in part["reached"].items():
        best = _best(peaks, name[-4:])
        reached.append([name, f"{1e3 * medians[name]:.0f}", f"{rate:.0f}", f"{100 * rate / best:.0f} %"])
    counts = (
        f"A guided step is {work['step']:.4g} TFLOP as stock computes it and {work['step, ours']:.4g} as ours does, "
        f"which computes once what both halves of guidance share; decoding is {work['decode']:.4g}. "
        "Rates are by stock's count, so what is left out counts as done. Attention's operations are included."
    )
    stocks = {kind: medians[name] for kind in ("fp32", "bf16") if (name := f"step: stock, {kind}") in medians}
    head, tops = ["what", "ms", "GFLOP/s", "of the best matmul"], table(["peak of this processor", "GFLOP/s"], rows)
    return "\n\n".join([tops, counts, table(head, reached), _ceiling(part, stocks), _control(part["turns"])])


def _cold(part: dict[str, Any]) -> str:
    turns = Turns.from_dict(part["turns"])
    rows = [
        [name, f"{seconds:.2f}", f"{part['peak_mib'][name]:.0f}"]
        for name, seconds in turns.medians().items()
        if not name.endswith(AGAIN)
    ]
    parts = [
        "From the start of Python to a file on disk, page cache warm.",
        table(["command", "s", "peak MiB"], rows),
        f"stock / ours: {turns.ratio('stock', 'ours')}. {_control(part['turns'])}",
    ]
    return "\n\n".join(parts)


def _growth(part: dict[str, Any]) -> str:
    turns, base = Turns.from_dict(part["turns"]), name_of(BASE)
    medians = turns.medians()
    rows = [
        [
            name,
            f"{1e3 * medians[name]:.0f}",
            f"{part['tflop'][name] / part['tflop'][base]:.2f}",
            str(Ratio(**each)),
            *(f"{peak:.0f}" for peak in part["peak_mib"][name][1:]),
        ]
        for name, each in part["of_law"].items()
    ]
    head = [
        "frames x height x width",
        "ms a step",
        f"operations, {base} = 1",
        "time over that",
        "MiB, step",
        "MiB, decoded",
    ]
    words = (
        "One guided step of the built-in network in fp32. Of sizes above the first, time over the law is at most "
        f"{GOAL} if the goal is met."
    )
    return "\n\n".join([words, f"![growth]({PICTURE})", table(head, rows), _control(part["turns"])])


def _training(part: dict[str, Any]) -> str:
    rows, controls = [], []
    for name, values in part["turns"].items():
        turns = Turns.from_dict(values)
        medians = turns.medians()
        rates = [f"{part['batch'] / medians[side]:.2f}" for side in ("ours", name)]
        rows.append([name, *rates, str(Ratio(**part["ratios"][name]))])
        controls.append(_control(values))
    words = f"Batches of {part['batch']} clips of {part['frames']} frames, cached latents, both networks learning."
    head = ["beside", "ours, clips/s", "its clips/s", "ours is faster by"]
    return "\n\n".join([words, table(head, rows), " ".join(controls)])
