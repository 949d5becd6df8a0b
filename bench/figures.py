"""What a run found, read out of its JSON: ratios with their intervals, and whether the goals are met."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from bench.protocol import AGAIN, Ratio, Turns

Run = dict[str, Any]  # section -> what it found

_STOCK, _TUNED = "stock, fp32", "stock tuned, bf16"


def ratios(run: Run) -> dict[str, Ratio]:
    """Every ratio that a run claims, by section and name; more is better, but for growth."""
    found: dict[str, Ratio] = {}
    for name in ("builtin", "rivals"):
        if name in run:
            found |= _beside(name, run[name], _STOCK) | _beside(name, run[name], _TUNED)
    if "cold" in run:
        found["cold: stock / ours"] = Turns.from_dict(run["cold"]["turns"]).ratio("stock", "ours")
    if "growth" in run:
        found |= {f"growth: {name}": Ratio(**each) for name, each in run["growth"]["of_law"].items()}
    if "training" in run:
        found |= {f"training: {name} / ours": Ratio(**each) for name, each in run["training"]["ratios"].items()}
    if "replica" in run:
        part = run["replica"]
        for name in ("fp32", "bf16"):
            if name in part:
                found |= _beside(f"replica {name}", part[name], part[name]["reference"])
        turns = Turns.from_dict(part["across"]["turns"])
        found["replica: stock, fp32 / ours exact, bf16"] = turns.ratio(_STOCK, "ours, bf16")
    return found


def _beside(section: str, part: dict[str, Any], over: str) -> dict[str, Ratio]:
    turns = Turns.from_dict(part["turns"])
    if over not in turns.seconds:
        return {}
    sides = [name for name in turns.seconds if name != over and not name.endswith(AGAIN)]
    return {f"{section}: {over} / {name}": turns.ratio(over, name) for name in sides}


@dataclass(frozen=True)
class Goal:
    """A figure, what it should be, and what it is; None where it was not measured."""

    what: str
    at_least: float | None
    at_most: float | None
    found: float | None
    digits: int = 2

    @property
    def met(self) -> bool | None:
        """Whether it is reached."""
        if self.found is None:
            return None
        return self.found >= self.at_least if self.at_least is not None else self.found <= (self.at_most or 0.0)

    @property
    def bound(self) -> str:
        """In words."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"

    @property
    def said(self) -> str:
        """The figure, or that there is none."""
        return "not measured" if self.found is None else f"{self.found:.{self.digits}f}"


def goals(run: Run) -> list[Goal]:
    """Everything that was aimed at; a void section says nothing of it."""
    run = {name: part for name, part in run.items() if not part["void"]}
    found = {name: each.median for name, each in ratios(run).items()}

    def ratio(what: str, name: str, bound: float) -> Goal:
        return Goal(what, bound, None, found.get(name))

    return [
        ratio("built-in, exact fp32 beside stock fp32", f"builtin: {_STOCK} / ours exact, fp32", 1.6),
        ratio("built-in, exact bf16 beside the default call", f"builtin: {_STOCK} / ours exact, bf16", 3.0),
        ratio("built-in, exact bf16 beside stock tuned", f"builtin: {_TUNED} / ours exact, bf16", 1.25),
        ratio("built-in, balanced fp32 beside stock fp32", f"builtin: {_STOCK} / ours balanced, fp32", 2.3),
        ratio("built-in, balanced bf16 beside stock tuned", f"builtin: {_TUNED} / ours balanced, bf16", 2.3),
        ratio("built-in, balanced bf16 beside the default call", f"builtin: {_STOCK} / ours balanced, bf16", 5.0),
        ratio("built-in, turbo beside the default call", f"builtin: {_STOCK} / ours turbo, fp32", 10.0),
        ratio("built-in, turbo bf16 beside the default call", f"builtin: {_STOCK} / ours turbo, bf16", 10.0),
        *_likeness(run),
        ratio("replica, exact fp32 beside stock fp32", f"replica fp32: {_STOCK} / ours exact, fp32", 1.6),
        ratio("replica, exact bf16 beside stock tuned", f"replica bf16: {_TUNED} / ours exact, bf16", 1.25),
        ratio("replica, exact bf16 beside the default call", "replica: stock, fp32 / ours exact, bf16", 3.0),
        ratio("cold start beside stock", "cold: stock / ours", 2.0),
        *_cold(run),
        *_growth(run),
        ratio("training beside a plain accelerate loop, fp32", "training: plain loop, fp32 / ours", 1.5),
    ]


def _likeness(run: Run) -> list[Goal]:
    """Of the films."""
    sides = run.get("builtin", {}).get("sides", {})
    exact = [sides.get(f"ours exact, {kind}", {}).get("beside_reference", {}).get("psnr") for kind in ("fp32", "bf16")]
    part = run.get("quality")
    worst, mean, alike = (None, None, None)
    if part:  # of both precisions the worse one
        both = [each for each in (part, part.get("bf16")) if each]
        worst, alike = (min(min(each[key]) for each in both) for key in ("psnr", "ssim"))
        mean = min(statistics.mean(each["psnr"]) for each in both)
    lost = part["adherence"][0] - part["adherence"][1] if part else None
    return [
        Goal("exact fp32 to stock, PSNR in dB", 60, None, exact[0], 1),
        Goal("exact bf16 to stock, PSNR in dB", 40, None, exact[1], 1),
        Goal("balanced to our exact, worst prompt, PSNR in dB", 30, None, worst, 1),
        Goal("balanced to our exact, mean, PSNR in dB", 32, None, mean, 1),
        Goal("balanced to our exact, worst frame of all films, SSIM", 0.95, None, alike, 3),
        Goal("of what prompts say, points that balanced shows less", None, 1, lost, 1),
    ]


def _cold(run: Run) -> list[Goal]:
    """Of fresh processes, and of loading."""
    part, loading = run.get("cold"), run.get("memory", {}).get("loading", {})
    medians = Turns.from_dict(part["turns"]).medians() if part else {}
    memory = part["peak_mib"]["ours"] / part["peak_mib"]["stock"] if part else None
    large = run.get("memory", {}).get("film")
    loaded = [each["ours"]["own"] for each in loading.values()]
    return [
        Goal("cold start, seconds from command to file", None, 3.5, medians.get("ours")),
        Goal("`flickbook --help`, seconds", None, 0.15, medians.get("help")),
        Goal("built-in, peak memory of the process beside stock's", None, 0.5, memory),
        Goal(
            "replica, 16 x 256 x 256, peak memory of the process beside the default call's",
            None,
            0.5,
            large["ours, bf16"] / large["stock, fp32"] if large else None,
        ),
        Goal("load peak over the weights (replica, the worse precision)", None, 1.1, max(loaded, default=None)),
    ]


def _growth(run: Run) -> list[Goal]:
    """Of the sizes above the base: a smaller one that takes more than its share means slower growth than the law."""
    part, worst = run.get("growth"), None
    if part:
        base = part["tflop"][part["turns"]["control"]]
        larger = (each["median"] for name, each in part["of_law"].items() if part["tflop"][name] > base)
        worst = max(larger, default=None)
    return [Goal("growth with frames and pixels, the worst size over the law", None, 1.15, worst)]


def compared(committed: Run, fresh: Run) -> list[tuple[str, Ratio, Ratio, bool]]:
    """(what, committed, fresh, whether the intervals meet) of every ratio that both have."""
    old, new = ratios(committed), ratios(fresh)
    return [(name, old[name], each, old[name].meets(each)) for name, each in new.items() if name in old]
