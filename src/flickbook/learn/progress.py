"""What a run shows while it learns: films of fixed prompts, how often they are right, and a plot of it all."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.errors import FlickbookError
from flickbook.learn.evaluation.evaluate import Settings, draw
from flickbook.learn.train import Trainer, trim_log
from flickbook.media.sheet import contact_sheet
from flickbook.world.captions import captions
from flickbook.world.detect import judge
from flickbook.world.scenes import Scene, sample

#: Seeds that neither training nor evaluation uses.
_SEED = 850_000_000
_FIXED = {"core": 24, "views": 8}
_STEPS = 15


class Adherence:
    """Every `every` steps: a sheet of the fixed prompts, a row of adherence.csv, and the plot."""

    def __init__(self, trainer: Trainer, networks: TextToVideo, every: int) -> None:
        self.trainer, self.networks, self.every = trainer, networks, every
        self._last = trainer.progress.step
        if trainer.rank == 0:  # looks that a kill undid come again
            trim_log(trainer.out / "adherence.csv", self._last + 1)
        self.scenes: list[Scene] = [sample(_SEED + i, group) for group, n in _FIXED.items() for i in range(n)]

    def __call__(self, row: dict[str, float]) -> None:
        """Called with each row of the log; looks at the films when it is time."""
        step = self.trainer.progress.step
        if self.trainer.rank != 0 or step - self._last < self.every:
            return
        self._last = step
        right = self.look(self.trainer.out / f"sample-{step:06d}.png")
        path = self.trainer.out / "adherence.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "clips", *right])
            writer.writerow([step, self.trainer.progress.clips, *(f"{share:.3f}" for share in right.values())])
        self._plot()

    def look(self, sheet: Path) -> dict[str, float]:
        """Make the fixed films with an average of the weights; share of each core attribute and of whole views."""
        decay = min(self.trainer.config.ema_decays, key=lambda d: abs(d - self.trainer.config.publish_decay))
        model, networks = self.trainer.averaged(decay), self.networks
        networks.text_encoder, networks.unet = model.text_encoder, model.unet
        with torch.inference_mode():
            films = list(draw(networks, self.scenes, Settings(num_inference_steps=_STEPS)))
        contact_sheet(films, [captions(scene)[0] for scene in self.scenes]).save(sheet)
        verdicts = [(scene, judge(scene, film)) for scene, film in zip(self.scenes, films, strict=True)]
        core = [verdict.counted for scene, verdict in verdicts if scene.kind == "core"]
        views = [verdict.all_correct for scene, verdict in verdicts if scene.kind not in ("core", "pair", "digits")]
        shares = {word: sum(v[word] for v in core) / len(core) for word in core[0]}
        return {**shares, "scenes": sum(views) / len(views)}

    def _plot(self) -> None:
        try:
            from flickbook.media.plot import training_plot

            training_plot(self.trainer.out, self.trainer.out / "training.png")
        except FlickbookError:  # no matplotlib, or no space: the CSV is there, and training goes on
            return
