"""`flickbook train`: make the weights of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="The training's configuration.")],
    out: Annotated[Path, typer.Option(help="Directory of checkpoints, log and samples.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
) -> None:
    """Train a model on the films of the procedural world."""
    from flickbook.learn.train import main

    main(config=config, out=out, resume=resume)
