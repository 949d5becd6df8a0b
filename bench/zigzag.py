"""The proof of `flickbook tune`: does a LoRA teach the built-in model a new word, and does it forget old ones?

    python -m bench.zigzag clips examples/clips         write the training clips and their captions
    python -m bench.zigzag measure zigzag               measure the model without and with the LoRA in zigzag/

`measure` makes films of the new word with seeds that training did not use, and of core prompts of the world. It writes
each verdict to a log, and the same command continues there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from flickbook import catalogue
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.lora.apply import inject
from flickbook.engine.lora.find import locate
from flickbook.learn.dataset import EVALUATION_SEEDS
from flickbook.learn.evaluation.evaluate import Settings, films_of
from flickbook.media.clip import Clip
from flickbook.media.sheet import contact_sheet
from flickbook.world import zigzag
from flickbook.world.captions import captions
from flickbook.world.detect import judge, wilson
from flickbook.world.scenes import sample

CLIPS: Final = 96
_BATCH: Final = 8
#: Films of the new word by the model that does not know it.
_UNKNOWN: Final = 24


def write_clips(directory: Path) -> None:
    """Write the clips with their captions, as pairs a.mp4 and a.txt."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(CLIPS):
        scene = zigzag.sample(number)
        path = directory / f"{number:03d}.mp4"
        Clip(zigzag.render(scene), 8.0).save(path, overwrite=True)
        path.with_suffix(".txt").write_text(zigzag.caption(scene, number) + "\n", encoding="utf-8")


def measure(lora: str, side: str, films: int, log: Path) -> None:
    """Make the films of one side that the log lacks, read them and append what was right, a line a film."""
    known = {(row["side"], row["group"], row["number"]) for row in _rows(log)}
    networks = TextToVideo.load(catalogue.find("builtin").path())
    if side == "with":
        inject(networks, [locate(lora)])
    networks = networks.pack()
    for first in range(0, films, _BATCH):
        for group, read in (("new", _new), ("old", _old)):
            last = min(first + _BATCH, films if (side, group) != ("without", "new") else _UNKNOWN)
            numbers = [n for n in range(first, last) if (side, group, n) not in known]
            found = read(networks, numbers, log.with_suffix(".jpg") if side == "with" and first == 0 else None)
            with log.open("a", encoding="utf-8") as lines:
                for number, right in zip(numbers, found, strict=True):
                    lines.write(json.dumps({"side": side, "group": group, "number": number} | right) + "\n")


def _new(networks: TextToVideo, numbers: Sequence[int], sheet: Path | None) -> list[dict[str, bool]]:
    scenes = [zigzag.sample(zigzag.HELD_OUT_SEEDS + number) for number in numbers]
    words = [zigzag.caption(scene, number) for number, scene in zip(numbers, scenes, strict=True)]
    made = list(films_of(networks, words, [scene.seed for scene in scenes], Settings()))
    if sheet is not None and made:
        contact_sheet(made, words).save(sheet)
    return [{"right": bool(zigzag.read(film))} for film in made]


def _old(networks: TextToVideo, numbers: Sequence[int], _: Path | None) -> list[dict[str, bool]]:
    scenes = [sample(EVALUATION_SEEDS + number, "core", False) for number in numbers]
    words = [captions(scene)[0] for scene in scenes]
    made = films_of(networks, words, [scene.seed for scene in scenes], Settings())
    verdicts = [judge(scene, film) for scene, film in zip(scenes, made, strict=True)]
    return [{"right": v.all_correct} | {name: bool(right) for name, right in v.counted.items()} for v in verdicts]


def table(log: Path) -> dict[str, dict[str, float]]:
    """Shares of right films without and with the LoRA, with 95 % Wilson intervals of the new word."""
    found = {}
    for side in ("without", "with"):
        new = [row for row in _rows(log) if (row["side"], row["group"]) == (side, "new")]
        old = [row for row in _rows(log) if (row["side"], row["group"]) == (side, "old")]
        each = [sum(right.values()) / len(right) for right in map(_attributes, old)]
        low, high = wilson(sum(row["right"] for row in new), len(new))
        found[side] = {
            "films of the new word": len(new),
            "new word": sum(row["right"] for row in new) / len(new),
            "new word, low": low,
            "new word, high": high,
            "films of old words": len(old),
            "old words, motion": sum(row["motion"] for row in old) / len(old),
            "old words, each": sum(each) / len(old),
            "old words, all": sum(row["right"] for row in old) / len(old),
        }
    return found


def _attributes(row: dict[str, Any]) -> dict[str, bool]:
    return {name: right for name, right in row.items() if name not in ("side", "group", "number", "right")}


def _rows(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("clips", "measure"))
    parser.add_argument("place")
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--side", choices=("with", "without"), help="only films with, or without, the LoRA")
    parser.add_argument("--log", type=Path, default=Path("zigzag.jsonl"), help="films that were read; continued")
    given = parser.parse_args()
    torch.manual_seed(0)
    if given.what == "clips":
        write_clips(Path(given.place))
    else:
        for side in (given.side,) if given.side else ("without", "with"):
            measure(given.place, side, given.films, given.log)
        if given.side is None:
            print(json.dumps(table(given.log), indent=1))


if __name__ == "__main__":
    main()
