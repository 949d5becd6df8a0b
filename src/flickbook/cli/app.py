"""The command `flickbook`: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Final

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

#: In the order of the help.
_COMMANDS: Final[dict[str, Callable[..., object]]] = {
    "generate": generate.generate,
    "draft": draft.draft,
    "finish": draft.finish,
    "sequence": sequence.sequence,
    "batch": batch.batch,
    "polish": polish.polish,
    "inspect": inspect.inspect,
    "reproduce": reproduce.reproduce,
    "rerun": rerun.rerun,
    "diff": diff.diff,
    "studio": studio.studio,
    "serve": serve.serve,
    "desktop": desktop.desktop,
    "repair": store.repair,
    "doctor": doctor.doctor,
    "train": train.train,
    "evaluate": evaluate.evaluate,
}
_GROUPS: Final = {"jobs": jobs.app, "keys": keys.app, "store": store.app, "models": models.app}


def command_line(wanted: str | None = None) -> typer.Typer:
    """All commands. Where one is `wanted`, the others are there by name and first sentence alone: to read the options
    of all of them takes longer than to run some."""
    app = typer.Typer(
        name="flickbook",
        help=_root.__doc__,
        rich_markup_mode=None,  # plain help starts sooner and pipes well
        pretty_exceptions_enable=False,
        add_completion=True,
    )
    app.callback(invoke_without_command=True)(_root)
    for name, command in _COMMANDS.items():
        app.command(name, help=command.__doc__)(command if wanted in (None, name) else _unread)
    for name, group in _GROUPS.items():
        if wanted in (None, name):
            app.add_typer(group, name=name)
        else:
            app.command(name, help=group.info.help)(_unread)
    return app


def _unread() -> None:
    """A command that is not the one that was asked for."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"flickbook {__version__}")
        raise typer.Exit


def _root(
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
    # No option before the command lets it run; a shell that completes a line hands over no words.
    wanted = next((word for word in arguments if word != "--"), None)
    try:
        code = command_line(wanted)(args=arguments, prog_name="flickbook", standalone_mode=False)
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
