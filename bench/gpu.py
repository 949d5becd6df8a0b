"""One guided step of a model of the published size on a GPU, by everybody: `python -m bench.gpu --out FILE.json`.

Prepared to finish in one call of ten minutes: cases go from the most to the least wanted, the file is written after
each, and what there was no time for says so. Needs torch, numpy, safetensors and tokenizers; rows of libraries that are
not here say so. Weights are random and made on the spot, ours and stock's the same. `python -m bench --gpu FILE.json`
puts the table into docs/reports/speed.md. On a CPU, `--tiny` tries all of it with small networks.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench import published
from bench.gpu_sides import WAYS, Case, Failed, networks_of
from bench.protocol import AGAIN, Turns, interleave

#: (frames, height, width) of films, and how many at once; in this order.
FILMS, BATCHES = ((16, 256, 256), (24, 320, 576)), (1, 4, 8)
TINY: dict[str, Any] = {
    **published.MS_UNET,
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    "attention_head_dim": 8,
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
    "layers_per_block": 1,
}
_SIDE = 8192


@dataclass(eq=False)
class Machine:
    """Where it runs, and what it could do at most."""

    device: torch.device
    dtype: torch.dtype
    name: str = ""
    matmul: float = 0.0  # TFLOP/s of a large product
    copy: float = 0.0  # GB/s, read and written together
    deadline: float = field(default=float("inf"))

    def clock(self) -> float:
        """Seconds, when the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def left(self) -> float:
        """Seconds until the call must end."""
        return self.deadline - time.perf_counter()

    def best(self, call: Callable[[], object], runs: int = 10) -> float:
        """The shortest of several runs."""
        taken = []
        for _ in range(runs):
            began = self.clock()
            call()
            taken.append(self.clock() - began)
        return min(taken)

    def measure(self, side: int = _SIDE) -> None:
        """Its name and its peaks."""
        cuda = self.device.type == "cuda"
        self.name = torch.cuda.get_device_name(self.device) if cuda else "CPU"
        a, b = (torch.randn(side, side, device=self.device, dtype=self.dtype) for _ in range(2))
        self.matmul = 2 * side**3 / 1e12 / self.best(lambda: a @ b)
        target = torch.empty_like(a)
        self.copy = 2 * a.nbytes / 1e9 / self.best(lambda: target.copy_(b))


def operations(config: dict[str, Any], case: Case) -> float:
    """TFLOP of a guided step without what the halves of guidance share, counted on the network without memory."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig

    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = UNet3D(UNet3DConfig.from_dict(config)).eval()
        words = torch.empty(2 * case.batch, case.tokens, config["cross_attention_dim"])
        with sdpa_kernel(SDPBackend.MATH):
            network(torch.empty(2 * case.batch, *case.shape), torch.tensor(500), words)
    return counter.get_total_flops() / 1e12


def one(machine: Machine, config: dict[str, Any], networks: dict[str, nn.Module], case: Case, given: Any) -> Any:
    """All sides of a case in turn."""
    calls: dict[str, Callable[[], object]] = {}
    found: dict[str, Any] = {"missing": {}, "prepared_s": {}, "peak_gib": {}, "units": {}}
    inputs = case.inputs(config, machine.device, machine.dtype)
    for name, make in WAYS.items():
        if name in given.without or (given.only and name not in given.only):
            continue
        if machine.left() < given.reserve:
            found["missing"][name] = "no time was left for it"
            continue
        began = machine.clock()
        try:
            call, units = make(networks, inputs)
            call()
        except Failed as error:
            found["missing"][name] = str(error)
            continue
        except Exception as error:  # out of memory, or whatever a compiler raises: the finding of this row
            found["missing"][name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
            continue
        found["prepared_s"][name] = round(machine.clock() - began, 1)
        found["peak_gib"][name] = _peak(machine, call)
        calls[name], found["units"][name] = call, units
    if "ours" not in calls:
        return found | {"void": True}
    turns = interleave(calls, given.pairs, "ours", machine.clock, units=found["units"], between=gc.collect)
    return found | _rates(turns, operations(config, case), machine)


def _peak(machine: Machine, call: Callable[[], object]) -> float | None:
    """GiB that a step holds at most beside the weights of all networks."""
    if machine.device.type != "cuda":
        return None
    torch.cuda.synchronize(machine.device)
    before = torch.cuda.memory_allocated(machine.device)
    torch.cuda.reset_peak_memory_stats(machine.device)
    call()
    torch.cuda.synchronize(machine.device)
    return round((torch.cuda.max_memory_allocated(machine.device) - before) / 2**30, 2)


def _rates(turns: Turns, tflop: float, machine: Machine) -> dict[str, Any]:
    """Milliseconds, what is reached, and the floor beside them."""
    ms = {name: 1e3 * statistics.median(seconds) for name, seconds in turns.seconds.items() if not name.endswith(AGAIN)}
    return {
        "turns": turns.to_dict(),
        "void": turns.void,
        "tflop": tflop,
        "ms": {name: round(each, 3) for name, each in ms.items()},
        "tflops": {name: round(1e3 * tflop / each, 3) for name, each in ms.items()},
        "floor_ms": round(1e3 * tflop / machine.matmul, 3),
    }


def table(found: dict[str, Any]) -> str:
    """As Markdown: one row a side and case."""
    machine = found["machine"]
    lines = [
        f"{machine['name']}, {machine['dtype']}, torch {machine['torch']}, {found['date']}: a large matmul reaches "
        f"{machine['matmul']:.1f} TFLOP/s, a copy {machine['copy']:.0f} GB/s. One guided step of a U-Net with "
        f"{found['parameters'] / 1e6:,.0f} million random weights; the floor is its operations at the matmul's rate. "
        "DeepCache is the mean of one period of three steps.",
        "",
        "| film | at once | side | ms a step | TFLOP/s | of matmul | floor, ms | stock / it | GiB beside weights |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for name, case in found["cases"].items():
        film, batch = name.split(" by ")
        turns = Turns.from_dict(case["turns"]) if "turns" in case else None
        for side, ms in case.get("ms", {}).items():
            assert turns is not None
            ratio = str(turns.ratio("stock eager", side)) if "stock eager" in turns.seconds else "no stock here"
            rate, share = case["tflops"][side], 100 * case["tflops"][side] / machine["matmul"]
            cells = [film, batch, side, f"{ms:.2f}", f"{rate:.1f}", f"{share:.0f} %", f"{case['floor_ms']:.2f}"]
            lines.append("| " + " | ".join([*cells, ratio, str(case["peak_gib"][side] or "")]) + " |")
        notes += [f"- {name}, {side}: {why}" for side, why in case["missing"].items()]
        void = f": **void**, {turns.quiet}" if turns and case["void"] else f": {turns.quiet}" if turns else ""
        notes += [f"- {name}, control{void}"] if turns else []
    return "\n".join([*lines, "", *notes])


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All cases, written after each. Raises RuntimeError where there is no GPU."""
    device = torch.device(given.device)
    machine = Machine(device, torch.float32 if device.type == "cpu" else torch.bfloat16)
    machine.deadline = time.perf_counter() + given.budget
    machine.measure(512 if device.type == "cpu" else _SIDE)
    config = TINY if given.tiny else published.MS_UNET
    networks, count = networks_of(config, machine.device, machine.dtype)
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "parameters": count, "cases": {}, "void": False}
    about = {"name": machine.name, "dtype": str(machine.dtype).removeprefix("torch."), "torch": torch.__version__}
    found["machine"] = {**about, "matmul": machine.matmul, "copy": machine.copy}
    films = ((2, 32, 32),) if given.tiny else FILMS
    for batch in (1,) if given.tiny else BATCHES:
        for frames, height, width in films:
            case = Case(frames, height // 8, width // 8, batch)
            name = f"{frames}x{height}x{width} by {batch}"
            found["cases"][name] = one(machine, config, networks, case, given)
            found["void"] = any(each["void"] for each in found["cases"].values())
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            torch._dynamo.reset()
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return found


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON that is written")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--budget", type=float, default=540, help="seconds for all of it (540)")
    parser.add_argument("--reserve", type=float, default=30, help="seconds that must be left to begin a row (30)")
    parser.add_argument("--only", nargs="+", default=[], choices=WAYS)
    parser.add_argument("--without", nargs="+", default=[], choices=WAYS)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if torch.device(given.device).type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no GPU here; `--tiny --device cpu` tries the script")
    print(table(measure(given)))


if __name__ == "__main__":
    main()
