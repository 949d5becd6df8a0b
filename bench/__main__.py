"""The built-in film against stock diffusers loading the same directory: `python -m bench [--pairs 5] [--json]`.

Warm: one process, both pipelines loaded, runs in turn (ours, stock, ours, balanced, ours, ...), the ratio pair by pair;
ours against itself is the control, and balanced is ours at that speed. Cold: fresh processes in turn, from start to a
file on disk. All fp32, the same prompt, seed, steps and latents. Where the built-in network has frame positions, which
stock diffusers refuses, both sides run the same size without them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import cold, warm


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(over: list[float], under: list[float]) -> dict[str, float]:
    """The spread of over / under, pair by pair."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def measure(pairs: int) -> dict[str, Any]:
    """All figures."""
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "pairs": pairs}
    with tempfile.TemporaryDirectory() as folder:
        directory = warm.comparable(Path(folder))
        runs, near = warm.measure(directory, pairs)
        mine, stock, balanced = runs["ours"], runs["stock"], runs["balanced"]
        result["warm"] = {
            "ours_s": spread(mine),
            "stock_s": spread(stock),
            "stock_over_ours": ratios(stock, mine),
            "near_stock_db": near["ours"],
            "control": ratios(mine, runs["ours again"]),
        }
        result["balanced"] = {
            "ours_s": spread(balanced),
            "stock_s": spread(stock),
            "stock_over_ours": ratios(stock, balanced),
            "near_exact_db": near["balanced"],
        }
        ours, theirs = cold.seconds(directory, Path(folder), pairs)
        result["cold"] = {
            "ours_s": spread([s for s, _ in ours]),
            "stock_s": spread([s for s, _ in theirs]),
            "stock_over_ours": ratios([s for s, _ in theirs], [s for s, _ in ours]),
            "ours_peak_mib": spread([m for _, m in ours]),
            "stock_peak_mib": spread([m for _, m in theirs]),
        }
    helps = [cold.timed([sys.executable, "-m", "flickbook", "--help"])[0] for _ in range(pairs)]
    result["help_s"] = spread(helps)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.pairs)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{result['machine']}, {result['pairs']} pairs, medians (smallest to largest)")
    for name, unit, goal in (
        ("warm", "s", "at least 1.3"),
        ("balanced", "s", "at least 2.3"),
        ("cold", "s", "at least 2"),
    ):
        part = result[name]
        ratio = part["stock_over_ours"]
        print(
            f"{name}: ours {part['ours_s']['median']:.2f} {unit}, stock {part['stock_s']['median']:.2f} {unit}, "
            f"stock / ours {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}), goal {goal}"
        )
    near_stock, near_exact = result["warm"]["near_stock_db"], result["balanced"]["near_exact_db"]
    print(f"PSNR: exact to stock {near_stock:.1f} dB, balanced to exact {near_exact:.1f} dB, goals 60 and 30")
    control = result["warm"]["control"]
    print(f"control (ours / ours): {control['median']:.2f} ({control['min']:.2f} to {control['max']:.2f})")
    print(
        f"peak memory: ours {result['cold']['ours_peak_mib']['median']:.0f} MiB, "
        f"stock {result['cold']['stock_peak_mib']['median']:.0f} MiB, goal at most 1024"
    )
    print(f"flickbook --help: {result['help_s']['median']:.2f} s, goal at most 0.4")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"a measured command failed: {error}")
