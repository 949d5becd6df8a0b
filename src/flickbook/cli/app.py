"""The command `flickbook`: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flickbook import __version__
from flickbook.cli import (
    batch,
    desktop,
    diff,
    doctor,
    draft,
    evaluate,
    generate,
    inspect,
    jobs,
    keys,
    models,
    polish,
    report,
    reproduce,
    rerun,
    sequence,
    serve,
    store,
    studio,
    train,
)
from flickbook.errors import Cancelled

app = typer.Typer(
    name="flickbook",
    help="Turn a sentence into a short film on your own machine.",
    rich_markup_mode=None,  # plain help starts sooner and pipes well
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("generate")(generate.generate)
app.command("draft")(draft.draft)
app.command("finish")(draft.finish)
app.command("sequence")(sequence.sequence)
app.command("batch")(batch.batch)
app.command("polish")(polish.polish)
app.command("inspect")(inspect.inspect)
app.command("reproduce")(reproduce.reproduce)
app.command("rerun")(rerun.rerun)
app.command("diff")(diff.diff)
app.add_typer(jobs.app, name="jobs")
app.command("studio")(studio.studio)
app.command("serve")(serve.serve)
app.command("desktop")(desktop.desktop)
app.add_typer(keys.app, name="keys")
app.add_typer(store.app, name="store")
app.command("repair")(store.repair)
app.add_typer(models.app, name="models")
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"flickbook {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Turn a sentence into a short film on your own machine."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0, 1 unexpected, 2 refused, 130 cancelled."""
    # What stands after two dashes is the prompt.
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in options
    try:
        code = app(args=arguments, prog_name="flickbook", standalone_mode=False)
    except typer.TyperException as error:  # an unknown option, a number that is none
        parameter = getattr(getattr(error, "param", None), "name", None)
        report.refusal(f"{error.format_message()} See `flickbook --help`.", "usage", parameter, as_json)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return report.failure(Cancelled(), as_json)
    except BrokenPipeError:  # the reader of stdout went away; there is nobody left to tell
        sys.stdout = None
        return 1
    except Exception as error:
        return report.failure(error, as_json)
    # Typer turns Ctrl-C inside a command into this return value.
    if code == Cancelled.exit_code:
        return report.failure(Cancelled(), as_json)
    return code if isinstance(code, int) else 0
