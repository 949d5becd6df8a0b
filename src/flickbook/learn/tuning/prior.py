"""Prompts whose films a training shall leave as they are.

After DreamBooth's prior preservation (Ruiz et al. 2023, arXiv 2208.12242); but no films of these prompts are made, the
LoRA learns the predictions of the network without it.
"""

from __future__ import annotations

from pathlib import Path

from flickbook.catalogue import Model
from flickbook.learn.dataset import training_scenes
from flickbook.learn.distillation.student import lines_of
from flickbook.learn.tuning.config import check_prior
from flickbook.world.captions import captions

#: Films of each group of the world whose captions are the built-in model's prompts.
_SHARES = {"core": 140, "pair": 30, "digits": 10, "views": 40}
_SEED = 81_000_000


def prior_prompts(model: Model, path: Path | None) -> list[str]:
    """The lines of a file, or captions of the built-in model's world, and the empty prompt, which guidance needs.

    Raises MediaError for a file that cannot be read or is empty, RequestError for another model without a file.
    """
    check_prior(model.name, path is not None)
    if path is not None:
        return ["", *lines_of(path)]
    scenes = training_scenes(_SHARES, first=_SEED)
    known = [found[number % len(found)] for number, found in enumerate(map(captions, scenes))]
    # One in ten examples is the empty prompt, as in training.
    return [*known, *[""] * (len(known) // 9)]
