"""kill -9 of a training at any instant: the same call continues it and ends in the bytes of an uninterrupted one."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from tests.crash.ward import Ward

from flickbook.files import sha256
from flickbook.learn import checkpoint
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.tune import Training
from flickbook.media.clip import Clip
from flickbook.resolution import resolve
from flickbook.spec import Request

#: What must be the same after kills.
SAME: Final = ("pytorch_lora_weights.safetensors", "with.mp4", "without.mp4")
_UPDATES: Final = 12
_PATIENCE: Final = 600.0


@dataclass
class Outcome:
    """Kills, starts that found a checkpoint, trainings that ended, and what was wrong."""

    kills: int = 0
    resumed: int = 0
    trainings: int = 0
    faults: list[str] = field(default_factory=list)


def training(clips: Path, output: Path) -> Training:
    """A training that takes a second or two: 2 frames, and a checkpoint after each update."""
    plan = resolve(Request.of(prompt="a yellow square", num_frames=2, num_inference_steps=2, seed=1))
    config = TuneConfig(rank=2, iterations=_UPDATES, batch=1, validation=0.5, validate_every=4, warmup=1)
    return Training(clips, output, plan, config=config, sample_every=0, save_every=0.0)


def write_clips(directory: Path) -> None:
    """Ten clips of two frames."""
    directory.mkdir(parents=True)
    for number in range(10):
        frames = np.full((2, 32, 32, 3), 20 * number, np.uint8)
        frames[1, 8:16, number : number + 8] = (250, 215, 30)
        Clip(frames, 8.0).save(directory / f"{number}.mp4")
        (directory / f"{number}.txt").write_text(f"a yellow square on shade {number}", encoding="utf-8")


def run(ward: Ward, place: Path, kills: int, seed: int) -> Outcome:
    """Kill trainings at random instants until there were `kills`, and let each end in between."""
    found, chance, clips = Outcome(), random.Random(seed), place / "clips"
    write_clips(clips)
    began = time.monotonic()
    if (code := _attempt(ward, clips, place / "whole", None)) != 0:
        return Outcome(faults=[f"the uninterrupted training ended with {code}: {ward.log()}"])
    usual = time.monotonic() - began
    number = 0
    while found.kills < kills and not found.faults:
        number += 1
        output = place / f"killed-{number}"
        for _ in range(8):
            code = _attempt(ward, clips, output, chance.uniform(0, usual))
            found.kills += code == -signal.SIGKILL
            if code == 0:
                break
            found.resumed += checkpoint.latest(output / "checkpoints") is not None
            if code != -signal.SIGKILL:
                found.faults.append(f"training {number} ended with {code}: {ward.log()}")
                return found
        if code != 0 and (code := _attempt(ward, clips, output, None)) != 0:
            found.faults.append(f"training {number} ended with {code}: {ward.log()}")
            return found
        found.trainings += 1
        found.faults += [f"training {number}: {fault}" for fault in differences(place / "whole", output)]
        shutil.rmtree(output)
    return found


def _attempt(ward: Ward, clips: Path, output: Path, seconds: float | None) -> int:
    """Start or continue a training, and kill it after `seconds`; its exit code."""
    ward.fork("tuner", "tuner", clips=str(clips), output=str(output))
    until = time.monotonic() + (_PATIENCE if seconds is None else seconds)
    while time.monotonic() < until:
        code = ward.ended("tuner")
        if code is not None:
            return code
        time.sleep(0.005)
    ward.signal("tuner", signal.SIGKILL)
    return ward.reap("tuner")


def differences(whole: Path, killed: Path) -> list[str]:
    """What differs between an uninterrupted training and one that was killed."""
    found = [f"{name} differs" for name in SAME if sha256(whole / name) != sha256(killed / name)]
    logs = [_losses(each / "log.csv") for each in (whole, killed)]
    found += ["the losses in log.csv differ"] if logs[0] != logs[1] else []
    reports = [json.loads((each / "report.json").read_text(encoding="utf-8")) for each in (whole, killed)]
    names = ("best", "best_at", "updates")
    found += [f"{name} of report.json differs" for name in names if reports[0][name] != reports[1][name]]
    found += [f"{path.name} is left" for path in killed.rglob("*.tmp")]
    return found


def _losses(path: Path) -> list[tuple[str, str]]:
    """The losses on held-out clips; a row's training loss is a mean since the last row or the last start."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["step"], row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"]]
