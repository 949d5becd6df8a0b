"""A run of the bench as its JSON has it, with made-up figures."""

from __future__ import annotations

from typing import Any

from bench.protocol import AGAIN

ABOUT = {
    "date": "2026-01-01",
    "machine": {
        "processor": "a processor",
        "cores": 2,
        "threads": 2,
        "memory_gb": 24,
        "python": "3.11.7",
        "libraries": {"torch": "2.13.0"},
    },
    "pairs": 5,
    "seconds": 60,
    "load_before": 0.1,
}


def turns(control: str, **seconds: float) -> dict[str, Any]:
    """Five turns of the same lengths; a name's `_` is a space."""
    named = {name.replace("__", ", ").replace("_", " "): [value] * 5 for name, value in seconds.items()}
    return {"seconds": {control: [1.0] * 5, control + AGAIN: [1.0] * 5, **named}, "control": control, "controls": []}


def builtin(exact: float = 1.0, void: bool = False) -> dict[str, Any]:
    """The section of that name: exact in `exact` seconds, stock in 2, tuned in 1.5."""
    timed = turns("ours exact, fp32", stock__fp32=2.0, stock_tuned__bf16=1.5, ours_balanced__fp32=0.8)
    timed["seconds"]["ours exact, fp32"] = [exact] * 5
    timed["seconds"]["ours exact, fp32" + AGAIN] = [exact * (1.2 if void else 1.0)] * 5
    sides: dict[str, Any] = {
        name: {"dtype": "fp32", "lossy": False, "notes": [], "beside_reference": {"psnr": 87.7, "ssim": 0.9999}}
        for name in timed["seconds"]
        if not name.endswith(AGAIN)
    }
    sides["ours balanced, fp32"]["beside_own"] = {"side": "ours exact, fp32", "psnr": 41.5, "ssim": 0.99}
    sides["stock tuned, bf16"] |= {"prepared_s": 30.0, "notes": ["it could not do everything"]}
    del sides["stock, fp32"]["beside_reference"]
    return {"reference": "stock, fp32", "turns": timed, "void": void, "sides": sides, "steps": 25, "about": ABOUT}


def growth() -> dict[str, Any]:
    """The section of that name, of three sizes."""
    return {
        "turns": turns("16 x 128 x 128", **{"64 x 128 x 128": 4.4, "16 x 512 x 512": 17.0}),
        "tflop": {"16 x 128 x 128": 0.01, "64 x 128 x 128": 0.04, "16 x 512 x 512": 0.17},
        "peak_mib": {name: [300.0, 320.0, 400.0] for name in ("16 x 128 x 128", "64 x 128 x 128", "16 x 512 x 512")},
        "of_law": {
            "16 x 128 x 128": {"median": 1.0, "low": 0.99, "high": 1.01},
            "64 x 128 x 128": {"median": 1.1, "low": 1.05, "high": 1.12},
            "16 x 512 x 512": {"median": 1.0, "low": 0.95, "high": 1.02},
        },
        "void": False,
        "about": ABOUT,
    }


def replica() -> dict[str, Any]:
    """The section of that name."""
    part = {**builtin(), "reference": "stock, fp32"}
    return {
        "fp32": part,
        "bf16": {**part, "reference": "stock tuned, bf16"},
        "across": {"turns": turns("ours, bf16", stock__fp32=3.3), "void": False},
        "tflop": {"step": 4.9, "step, ours": 4.5},
        "peaks": {"matmul fp32, PyTorch's default": 150.0, "matmul bf16, oneDNN packed": 450.0},
        "missing": {},
        "unmeasured": ["balanced: no"],
        "void": False,
        "about": ABOUT,
    }


def whole() -> dict[str, Any]:
    """Every section."""
    return {
        "builtin": builtin(),
        "rivals": {**builtin(), "missing": {"OpenVINO": "there was no room"}},
        "quality": {
            "films": 3,
            "ratios": [1.7, 1.8, 1.9],
            "asked": [14, 15, 16],
            "psnr": [33.0, 40.0, 50.0],
            "ssim": [0.94, 0.99, 0.99],
            "right": [2, 2],
            "adherence": [98.0, 97.5],
            "bf16": {"ratios": [2.2, 2.3, 2.4], "psnr": [32.0, 41.0, 49.0], "ssim": [0.95, 0.99, 0.99]},
            "void": False,
            "about": ABOUT,
        },
        "cold": {
            "turns": turns("ours", stock=9.0, help=0.1),
            "peak_mib": {"ours": 500.0, "stock": 800.0, "help": 40.0},
            "void": False,
            "about": ABOUT,
        },
        "growth": growth(),
        "training": {
            "batch": 8,
            "frames": 16,
            "turns": {"plain loop, fp32": turns("ours", plain_loop__fp32=2.0)},
            "ratios": {"plain loop, fp32": {"median": 2.0, "low": 1.9, "high": 2.1}},
            "void": False,
            "about": ABOUT,
        },
        "roofline": {
            "peaks": {"matmul fp32, PyTorch's default": 150.0, "matmul fp32, oneDNN packed": 300.0, "copy, GB/s": 20.0},
            "tflop": {"step": 0.02, "step, ours": 0.019, "decode": 0.1},
            "turns": turns("step: ours, fp32", **{"step: stock, fp32": 0.12}),
            "reached": {"step: ours, fp32": 200.0, "step: stock, fp32": 150.0},
            "void": False,
            "about": ABOUT,
        },
        "replica": replica(),
        "memory": {
            "loading": {"float32": {name: {"own": 1.05, "with_files": 1.5} for name in ("ours", "stock")}},
            "film": {"ours, bf16": 4_000_000_000, "stock, fp32": 9_000_000_000},
            "void": False,
            "about": ABOUT,
        },
    }
