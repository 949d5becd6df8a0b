"""`flickbook tune`: trains a LoRA on a dataset of clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from flickbook.cli import console, options
from flickbook.cli.progress import ProgressLine
from flickbook.errors import Cancelled

if TYPE_CHECKING:
    from flickbook.learn.tuning.tune import Training
    from flickbook.spec import Plan, Request

#: Phases of a training, and the usual share of its time that each takes.
_PHASES: Final = {"encode": 0.06, "train": 0.9, "write": 0.04}


#: The fields of `learn.tuning.config.TuneConfig`.
SETTINGS: Mapping[str, Any] = {
    "full": Annotated[
        bool, typer.Option("--full", help="Train all weights of the denoising network instead of a LoRA.")
    ],
    "rank": Annotated[int | None, typer.Option(help="Rank of the LoRA.", show_default="16")],
    "target_modules": Annotated[
        str | None, typer.Option(help="Layers with a LoRA: attention, or all.", show_default="all for builtin")
    ],
    "train_text_encoder": Annotated[
        bool | None,
        typer.Option(
            "--train-text-encoder/--no-train-text-encoder",
            help="Train the text encoder too.",
            show_default="on for builtin",
        ),
    ],
    "iterations": Annotated[int | None, typer.Option(help="Number of updates.", show_default="500")],
    "batch": Annotated[int | None, typer.Option(help="Clips in each update.", show_default="4")],
    "lr": Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="2e-3 for builtin, else 1e-4; --full: 1e-5")
    ],
    "prior": Annotated[
        int | None,
        typer.Option(
            help="Examples in each update whose films shall stay as they are.", show_default="4 for builtin, else 0"
        ),
    ],
    "validation": Annotated[
        float | None, typer.Option(help="Share of the clips that is held out, 0 to 0.5.", show_default="0.1")
    ],
    "patience": Annotated[
        int | None,
        typer.Option(
            help="Held-out clips are evaluated every 50 updates. Stop once this many means of three evaluations since "
            "the lowest one were more than 15 % above it; 0 never stops.",
            show_default="6",
        ),
    ],
    "caption_dropout": Annotated[
        float | None, typer.Option(help="Share of clips that are shown without their caption.", show_default="0")
    ],
    "precision": Annotated[str | None, typer.Option(help="Precision: auto, fp32, bf16 or fp16.", show_default="auto")],
    "optimizer": Annotated[
        str | None, typer.Option(help="Optimizer: adamw, or adamw8bit on a GPU.", show_default="adamw")
    ],
    "gradient_checkpointing": Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Recompute activations: less memory, more time.")
    ],
    "offload": Annotated[
        bool, typer.Option("--offload", help="Keep the network's blocks in host memory, except the one that runs.")
    ],
    "seed": Annotated[int | None, typer.Option(help="Seed of the training.", show_default="0")],
}
#: The size of the clips that the model sees, and of the samples.
SIZE: Mapping[str, Any] = {"num_frames": options.NumFrames, "size": options.Size, "fps": options.Fps}


@options.taking(config=SETTINGS, film=SIZE)
def tune(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Dataset: clips or images with captions.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory of the LoRA; the same command resumes in it.")
    ],
    config: Any,
    film: Any,
    model: options.Model = None,
    check: Annotated[
        bool, typer.Option("--check", help="Report the dataset, memory and time, and train nothing.")
    ] = False,
    prompt: Annotated[str, typer.Option(help="Prompt of the samples.", show_default="the first caption")] = "",
    sample_every: Annotated[int, typer.Option(min=0, help="Updates from one sample to the next; 0 makes none.")] = 100,
    prior_prompts: Annotated[
        Path | None, typer.Option(help="Text file with one prompt on each line, for --prior; builtin has its own.")
    ] = None,
    accelerate: Annotated[
        bool, typer.Option("--accelerate", help="Distribute the training over the processes of `accelerate launch`.")
    ] = False,
    model_dir: options.ModelDir = None,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a LoRA on clips of your own and print its directory."""
    from flickbook import catalogue, settings
    from flickbook.learn.tuning.config import check_trainable, config_of

    chosen = settings.load(model=model)
    console.start(chosen.log_level)
    tuned = config_of(chosen.model, has_prompts=prior_prompts is not None, **config)
    from flickbook.learn.tuning.data.dataset import first_caption

    request = _request(chosen.model, prompt or first_caption(directory) or "sample", **film)
    plan = _plan(request, model_dir)
    from flickbook.cli.films.making import require_model
    from flickbook.learn.tuning.output import check_output
    from flickbook.learn.tuning.tune import Training, source_of

    training = Training(directory, output, plan, model_dir, prior_prompts, tuned, sample_every)
    check_output(output)
    check_trainable(catalogue.find(chosen.model))
    require_model(chosen.model, model_dir, yes)
    source_of(plan.model, model_dir)
    if check:
        _report(training, as_json)
    elif accelerate:
        _distributed(training)
    else:
        _train(training, request, as_json)


def _request(model: str, prompt: str, num_frames: int | None, size: str | None, fps: float | None) -> Request:
    """The request of a sample."""
    from flickbook.engine.rows import size_of
    from flickbook.spec import Request

    width, height = (None, None) if size is None else size_of(size)
    rate = None if fps is None else float(fps)
    return Request.of(prompt=prompt, model=model, num_frames=num_frames, width=width, height=height, fps=rate, seed=1)


def _plan(request: Request, model_dir: Path | None) -> Plan:
    from flickbook.resolution import resolve

    return resolve(request, model_dir)


def _report(training: Training, as_json: bool) -> None:
    """Print what `--check` found."""
    from flickbook.learn.tuning.check import check
    from flickbook.learn.tuning.data.summary import lines

    with ProgressLine(phases={"files": 1.0}) as progress:
        found = check(training, lambda done, total: progress.show("files", done, total, 0.0))
    if as_json:
        console.document(found)
        return
    for line in lines(found):
        print(line)
    print(f"Memory     {found['memory_bytes'] / 2**30:.1f} GiB needed, {found['free_bytes'] / 2**30:.1f} GiB free")
    print(f"Examples   {found['examples_bytes'] / 2**20:.0f} MiB of the host's memory")
    print(f"Time       about {_duration(found['hours'] * 3600)} for {training.config.iterations} updates")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _train(training: Training, request: Request, as_json: bool) -> None:
    """Run the training as a job of this command, that of the same command if it was interrupted."""
    from flickbook.cli.films import tracking
    from flickbook.jobs.create import tuning
    from flickbook.learn.tuning.output import check_free

    check_free(training.output)
    how = _job_fields(training)
    with tracking.backend() as backend, ProgressLine(phases=_PHASES) as progress:
        job = tuning(training.plan, request, how, training.model_dir, training.output)
        earlier = tracking.interrupted(backend, job)
        jobs = [earlier] if earlier is not None else backend.ask(backend.queue.submit([job]))
        ended = list(tracking.run(backend, jobs, progress))
    if not ended:
        raise Cancelled
    _tell(training.output, as_json)


def _job_fields(training: Training) -> dict[str, Any]:
    from flickbook.learn.tuning.config import changed

    return {
        "clips": str(training.directory.absolute()),
        "output": str(training.output.absolute()),
        "config": changed(training.config),
        "sample_every": training.sample_every,
        "prior_prompts": "" if training.prior_prompts is None else str(training.prior_prompts.absolute()),
    }


def _distributed(training: Training) -> None:
    """Run the training in this process, one of several."""
    from flickbook.learn.session import accelerated
    from flickbook.learn.tuning.tune import prepare
    from flickbook.learn.tuning.tune import tune as run

    with accelerated(True) as accelerator:
        if run(prepare(training), None, accelerator) is not None:
            print(training.output)


def _tell(output: Path, as_json: bool) -> None:
    import json

    if as_json:
        console.document({"output": str(output), **json.loads((output / "report.json").read_text(encoding="utf-8"))})
    else:
        print(output)
