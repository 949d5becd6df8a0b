"""Prompts whose films a training shall leave as they are.

After DreamBooth's prior preservation (Ruiz et al. 2023, arXiv 2208.12242); but no films of these prompts are made by
the model, the LoRA learns the predictions of the network without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flickbook.catalogue import Model
from flickbook.learn.dataset import training_scenes
from flickbook.learn.distillation.student import lines_of
from flickbook.learn.tuning.config import check_prior
from flickbook.world.captions import captions
from flickbook.world.scenes import Scene

#: Films of each group of the world whose captions are the built-in model's prompts.
_SHARES = {"core": 120, "pair": 30, "several": 10, "digits": 10, "views": 20, "book": 30}
_SEED = 81_000_000


@dataclass(frozen=True)
class Known:
    """A prompt that the model knows, and the scene of a film of it. Without one the predictions are those for clips."""

    prompt: str
    scene: Scene | None = None


def prior(model: Model, path: Path | None) -> list[Known]:
    """The lines of a file, or captions and scenes of the built-in model's world, and the empty prompt, which guidance
    needs.

    Raises MediaError for a file that cannot be read or is empty, RequestError for another model without a file.
    """
    check_prior(model.name, path is not None)
    if path is not None:
        return [Known(prompt) for prompt in ("", *lines_of(path))]
    scenes = list(training_scenes(_SHARES, first=_SEED))
    prompts = (found[number % len(found)] for number, found in enumerate(map(captions, scenes)))
    known = [Known(prompt, scene) for prompt, scene in zip(prompts, scenes, strict=True)]
    # One in ten examples has the empty prompt, as in training.
    return [*known, *(Known("", scene) for scene in scenes[::9])]
