"""The proof of `flickbook tune`: does a LoRA teach the built-in model a new word, and does it forget old ones?

    python -m bench.zigzag clips examples/clips         write the training clips and their captions
    python -m bench.zigzag measure zigzag               measure the model without and with the LoRA in zigzag/

`measure` makes films of the new word with seeds that training did not use, and of core prompts of the world.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

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

CLIPS = 96


def write_clips(directory: Path) -> None:
    """Write the clips with their captions, as pairs a.mp4 and a.txt."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(CLIPS):
        scene = zigzag.sample(number)
        path = directory / f"{number:03d}.mp4"
        Clip(zigzag.render(scene), 8.0).save(path, overwrite=True)
        path.with_suffix(".txt").write_text(zigzag.caption(scene, number) + "\n", encoding="utf-8")


def measure(lora: str, films: int, sheet: Path | None) -> dict[str, dict[str, float]]:
    """Shares of right films without and with a LoRA."""
    found = {}
    for name in ("without", "with"):
        networks = TextToVideo.load(catalogue.find("builtin").path())
        if name == "with":
            inject(networks, [locate(lora)])
        found[name] = _shares(networks.pack(), films, sheet if name == "with" else None)
    return found


def _shares(networks: TextToVideo, films: int, sheet: Path | None) -> dict[str, float]:
    new = [zigzag.sample(zigzag.HELD_OUT_SEEDS + number) for number in range(films)]
    old = [sample(EVALUATION_SEEDS + number, "core", False) for number in range(films)]
    words = [zigzag.caption(scene, number) for number, scene in enumerate(new)]
    made = list(films_of(networks, words, [scene.seed for scene in new], Settings()))
    right = sum(map(zigzag.read, made))
    if sheet is not None:
        contact_sheet(made[:12], words[:12]).save(sheet)
    verdicts = [judge(s, f) for s, f in zip(old, _films(networks, old), strict=True)]
    low, high = wilson(right, films)
    return {
        "films": films,
        "new word": right / films,
        "new word, low": low,
        "new word, high": high,
        "old words, motion": sum(v.counted["motion"] for v in verdicts) / films,
        "old words, each": sum(sum(v.counted.values()) / len(v.counted) for v in verdicts) / films,
        "old words, all": sum(v.all_correct for v in verdicts) / films,
    }


def _films(networks: TextToVideo, scenes: Sequence[zigzag.Scene]) -> list[object]:
    words, seeds = [captions(scene)[0] for scene in scenes], [scene.seed for scene in scenes]
    return list(films_of(networks, words, seeds, Settings()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("clips", "measure"))
    parser.add_argument("place")
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    if given.what == "clips":
        write_clips(Path(given.place))
    else:
        print(json.dumps(measure(given.place, given.films, given.sheet), indent=1))


if __name__ == "__main__":
    main()
