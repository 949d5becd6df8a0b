"""`flickbook distill`: trains a student that makes films in few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flickbook.cli import console, options


def distill(
    model: Annotated[
        str, typer.Argument(help="The teacher: a model of the 3D U-Net family, or a directory of `flickbook train`.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Directory of films, checkpoints and model; the same command resumes in it."),
    ],
    steps: Annotated[int, typer.Option(help="Steps of the student: 16, 8, 4, 2 or 1.")] = 4,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Guidance that is folded in. Default: the model's.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Text file with one prompt on each line. The built-in model has captions of its own."),
    ] = None,
    num_films: Annotated[int, typer.Option(min=1, help="Films to learn from.")] = 400,
    iterations: Annotated[int, typer.Option(min=1, help="Updates in each phase.")] = 400,
    guidance_iterations: Annotated[
        int | None,
        typer.Option(min=1, help="Updates in the first phase, which folds guidance in. Default: --iterations."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Films in each update.")] = 8,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 3e-4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the films and of the training.")] = 0,
    accelerate: Annotated[
        bool, typer.Option("--accelerate", help="Distribute the training over the processes of `accelerate launch`.")
    ] = False,
    from_student: Annotated[
        bool, typer.Option("--from-student", help="Start from the student that MODEL has, to train it further.")
    ] = False,
    model_dir: options.ModelDir = None,
    yes: options.Yes = False,
) -> None:
    """Distill a model to a few-step student for --speed turbo, and print its directory."""
    from flickbook.cli.pulling import require
    from flickbook.learn.distillation.distill import DistillConfig
    from flickbook.learn.distillation.student import main, prompts_of, refuse_file, teacher_named
    from flickbook.learn.session import accelerated

    teacher = teacher_named(model, model_dir)
    scale = teacher.guidance_scale.default if guidance_scale is None else guidance_scale
    updates = {"iterations": iterations, "guidance_iterations": guidance_iterations or 0}
    config = DistillConfig(steps, scale, **updates, batch=batch, lr=lr, seed=seed, from_student=from_student)
    # Refuse before a model is downloaded.
    refuse_file(out)
    prompts_of(teacher, prompts, 1)
    if not Path(model).is_dir() and model_dir is None:
        require(teacher, yes)
    with accelerated(accelerate) as accelerator:
        first = accelerator is None or accelerator.is_main_process
        for row in main(model, out, config, prompts, num_films, _note, model_dir, accelerator):
            if first:
                console.note(f"update {row['update'] + 1:.0f}, {row['steps']:.0f} steps: loss {row['loss']:.5f}")
    if first:
        print(out / "model")


def _note(done: int, total: int) -> None:
    console.note(f"film {done} of {total}")
