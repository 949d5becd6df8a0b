"""`flickbook train`: trains a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flickbook.errors import RequestError


def train(
    config: Annotated[Path, typer.Argument(help="The training's configuration, a TOML file.")],
    out: Annotated[Path, typer.Option(help="Directory of checkpoints, log and model; goes on from what is there.")],
    init: Annotated[Path | None, typer.Option(help="Start from the weights of this model's directory.")] = None,
    accelerate: Annotated[bool, typer.Option("--accelerate", help="Share the work among several processes.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Refuse to begin anew: there must be a checkpoint.")] = False,
) -> None:
    """Train a model on the films of the procedural world and print its directory."""
    if not config.is_file():
        raise RequestError("config", config, "no such file", "name the training's TOML file")
    from flickbook.learn.session import main, newest_checkpoint

    if resume and newest_checkpoint(out) is None:
        raise RequestError("resume", out, "no checkpoint there", "leave --resume out to begin, or correct --out")
    model = main(config, out, init, accelerate)
    if model is not None:  # with several processes, only the first one prints
        print(model)
