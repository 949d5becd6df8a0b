"""The coverage study: one small network, trained on a quarter, a half, three quarters and all of the pairs of words.

    python -m bench.coverage train 0.25 --out runs/coverage/25
    python -m bench.coverage measure 0.25 --out runs/coverage/25
    flickbook evaluate --curve runs/coverage/25/report.json --curve runs/coverage/50/report.json --out curve

The network has 5 million parameters and learns core films only, so that a training takes less than that of the built-in
model. The tokenizer and the autoencoder are those of the package, which see no pairs. Everything but `coverage` is the
same for each training: films, steps, seeds. `measure` makes films of seen pairs and of the held-out pairs of the
evaluation. Both commands resume. With `--accelerate`, `torchrun --nproc-per-node 2 -m bench.coverage train` uses two
processes.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch

import flickbook.learn
from flickbook.catalogue import find
from flickbook.diffusion.text_to_video import FILES, TextToVideo
from flickbook.errors import FlickbookError, RequestError
from flickbook.files import sha256
from flickbook.learn.config import Stage, TrainConfig, read
from flickbook.learn.evaluation.adherence import GROUPS, Tally, prompts
from flickbook.learn.evaluation.evaluate import Settings, draw
from flickbook.learn.evaluation.sources import coverage_of
from flickbook.learn.session import Session, accelerated
from flickbook.world.detect import Verdict, judge

CONFIG: Final = Path(flickbook.learn.__file__).with_name("builtin.toml")
_GROUPS: Final = ("core", "core held out")
_STEPS: Final = 2000
_FRAMES_PER_STEP: Final = 64
_WIDTH: Final = 128


def config_of(coverage: float, steps: int, frames_per_step: int = _FRAMES_PER_STEP) -> TrainConfig:
    """Stills, then films, then films with a falling learning rate: `steps` together."""
    config, stills, films = read(CONFIG), round(0.25 * steps), round(0.4 * steps)
    text = {"hidden_size": _WIDTH, "num_hidden_layers": 2, "intermediate_size": 4 * _WIDTH}
    stages = (
        Stage("stills", stills, 1.5e-3, {1: 0.85, 4: 0.15}),
        Stage("films", films, 1.2e-3, {1: 0.3, 4: 0.3, 16: 0.4}),
        Stage("decay", steps - stills - films, 1.2e-3, {1: 0.25, 4: 0.15, 16: 0.6}, 0.0),
    )
    return replace(
        config,
        seed=21,
        world={"core": 8000},
        coverage=coverage,
        frames_per_step=frames_per_step,
        stages=stages,
        unet=config.unet | {"block_out_channels": [48, 96]},
        text_encoder=config.text_encoder | text,
        ema_decays=(config.publish_decay,),
        adherence_every=10 * steps,
    )


def train(coverage: float, steps: int, frames_per_step: int, out: Path, accelerate: bool = False) -> None:
    """Train to the end, with the tokenizer and the autoencoder of the package."""
    config = config_of(coverage, steps, frames_per_step)
    out.mkdir(parents=True, exist_ok=True)
    with accelerated(accelerate) as accelerator:
        with accelerator.main_process_first() if accelerator else nullcontext():
            before = Session(config, out, find("builtin").path())
            before.tokenizer()
            before.autoencoder()
        Session(config, out, accelerator=accelerator).run()


def measure(coverage: float, count: int, out: Path) -> dict[str, Any]:
    """Make the films that the log lacks, judge them, and write report.json for `flickbook evaluate --curve`.

    Raises RequestError for a model of another coverage, and where the log is of other weights.
    """
    if (known := coverage_of(out / "model")) != coverage:
        raise RequestError("coverage", coverage, f"must be that of the model in {out}, {known:g}", f"write {known:g}")
    model = sha256(out / "model" / FILES["unet"])[:12]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks, log = TextToVideo.load(out / "model", device=device).pack(), out / "films.jsonl"
    share = sum(GROUPS[group][2] for group in _GROUPS)
    chosen, settings = prompts(round(count / share), coverage=coverage), Settings()
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    if any(row["model"] != model for row in rows):
        raise RequestError("out", out, f"has films of other weights in {log.name}", "delete that file")
    judged = {(row["group"], row["seed"]): row for row in rows}
    for group in _GROUPS:
        missing = [scene for scene in chosen[group] if (group, scene.seed) not in judged]
        with log.open("a", encoding="utf-8") as lines:
            for scene, film in zip(missing, draw(networks, missing, settings), strict=True):
                row = {"group": group, "seed": scene.seed, "model": model, **asdict(judge(scene, film))}
                judged[group, scene.seed] = row
                lines.write(json.dumps(row) + "\n")
                lines.flush()
    groups = {}
    for group in _GROUPS:
        tally = Tally()
        for scene in chosen[group]:
            row = judged[group, scene.seed]
            tally.add(Verdict(row["counted"], row["apart"]))
        groups[group] = tally.rows()
    found = {"model": out.name, "coverage": coverage, "settings": vars(settings), "groups": groups}
    (out / "report.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return groups


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("coverage", type=float)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=_STEPS)
    parser.add_argument("--frames-per-step", type=int, default=_FRAMES_PER_STEP)
    parser.add_argument("--films", type=int, default=200, help="films of both groups together")
    parser.add_argument(
        "--accelerate", action="store_true", help="share the training between the processes of torchrun"
    )
    given = parser.parse_args()
    torch.manual_seed(0)
    try:
        _run(given)
    except FlickbookError as error:
        sys.exit(str(error))


def _run(given: argparse.Namespace) -> None:
    if given.what == "train":
        train(given.coverage, given.steps, given.frames_per_step, given.out, given.accelerate)
    else:
        for group, rows in measure(given.coverage, given.films, given.out).items():
            print(group, {word: round(row["share"], 3) for word, row in rows.items()})


if __name__ == "__main__":
    main()
