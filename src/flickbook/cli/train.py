"""`flickbook train`: trains a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flickbook.errors import RequestError


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration, a TOML file.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Directory of checkpoints, log and model; training resumes from the newest checkpoint in it."
        ),
    ],
    init: Annotated[Path | None, typer.Option(help="Start from the weights of this model's directory.")] = None,
    accelerate: Annotated[
        bool, typer.Option("--accelerate", help="Distribute the training over several processes.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Require a checkpoint to resume from.")] = False,
) -> None:
    """Train a model on the films of the procedural world and print its directory."""
    if not config.is_file():
        raise RequestError("config", config, "no such file", "name the training's TOML file")
    from flickbook.learn.session import main, newest_checkpoint

    if resume and newest_checkpoint(out) is None:
        raise RequestError(
            "out", out, "has no checkpoint", "leave --resume out to start a new training, or correct --out"
        )
    model = main(config, out, init, accelerate)
    if model is not None:  # with several processes, only the first one prints
        print(model)
