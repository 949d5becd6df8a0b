"""The command `flickbook`: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from flickbook import __version__
from flickbook.cli import console, hints, naming
from flickbook.errors import Cancelled, RequestError

#: The first sentence of each command's help, in display order. A command's module is imported only when it runs.
_COMMANDS: Final = {
    "generate": "Make a film from a prompt and print its path.",
    "draft": "Start several films as drafts and print a preview of each; `flickbook finish` completes the chosen ones.",
    "finish": "Finish drafts and print the paths of their films.",
    "sequence": "Make a film of related images from several prompts and print its path.",
    "batch": "Make one film per row of a file, and a contact sheet. Run the same command again to resume.",
    "polish": "Polish an existing film and print the path of the new file.",
    "inspect": "Show the metadata and the recipe of a film.",
    "reproduce": "Make a film again and compare: exit code 0 identical, 10 visually equal, 11 different.",
    "explain": "Show what happens inside a run, step by step, as figures and a page, and print the page's path.",
    "rerun": "Make a variation of an existing film with the given changes, and print its path.",
    "diff": "Show the differences between the recipes of two films.",
    "studio": "Start the studio in the browser: films, images, sequences and batches.",
    "serve": "Start the HTTP service: OpenAI-compatible /v1/videos and /v1/images, /api/v1, /studio.",
    "worker": "Run worker processes for a queue that a service on another machine fills.",
    "mcp": "Serve agents by the Model Context Protocol: make, draft, look, choose, finish, edit and search films.",
    "desktop": "Open a window to make, watch and save films.",
    "repair": "Move a damaged job store aside and restore its data from it or from the last backup.",
    "doctor": "Check this machine: exit code 0 if the built-in model can run, 1 if not.",
    "train": "Train a model on the films of the procedural world and print its directory.",
    "tune": "Train a LoRA on clips of your own and print its directory.",
    "distill": "Distill a model to a few-step student for --speed turbo, and print its directory.",
    "evaluate": "Measure how well a model's films match their prompts, and print the table.",
}
_GROUPS: Final = {
    "jobs": "List and control queued jobs.",
    "keys": "Create, list and revoke API keys.",
    "store": "Check, back up and repair the job store.",
    "models": "List, describe, download and add models.",
}
#: The modules of commands, below this package; a command that is missing here is a module of its own name.
_MODULES: Final = {
    **{name: f"films.{name}" for name in ("generate", "draft", "sequence", "batch", "polish", "inspect", "reproduce")},
    **{name: f"films.{name}" for name in ("rerun", "diff")},
    "finish": "films.draft",
    **{name: f"services.{name}" for name in ("studio", "serve", "worker", "mcp", "desktop", "jobs", "keys", "store")},
    "repair": "services.store",
}


def command_line(selected: str | None = None) -> typer.Typer:
    """Build the command line.

    If one command is `selected`, the others are registered with name and first sentence only, because importing all of
    them takes longer than running some.
    """
    app = typer.Typer(
        name="flickbook",
        help=_root.__doc__,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        add_completion=True,
    )
    app.callback(invoke_without_command=True)(_root)
    for name, summary in _COMMANDS.items():
        if selected in (None, name):
            app.command(name)(getattr(_module(name), name))
        else:
            app.command(name, help=summary)(_unread)
    for name, summary in _GROUPS.items():
        if selected in (None, name):
            app.add_typer(_module(name).app, name=name)
        else:
            app.command(name, help=summary)(_unread)
    return app


def _module(name: str) -> Any:
    return import_module(f"flickbook.cli.{_MODULES.get(name, name)}")


def _unread() -> None:
    """Placeholder of a command that was not imported."""


def _version(requested: bool) -> None:
    if requested:
        print(f"flickbook {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make short films from text prompts on your own machine."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0, 1 unexpected, 2 refused, 130 cancelled."""
    # Everything after two dashes is the prompt.
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in options
    # No command runs if an option precedes it; shell completion passes no words.
    selected = next((word for word in arguments if word != "--"), None)
    command = typer.main.get_command(command_line(selected))
    try:
        code = command(args=arguments, prog_name="flickbook", standalone_mode=False)
    except typer.TyperException as error:  # an unknown option, an invalid number
        parameter = getattr(getattr(error, "param", None), "name", None)
        message = hints.hint(error.format_message(), getattr(error, "option_name", None), arguments)
        name = "".join(f"{word} " for word in naming.path(command, arguments))
        console.refusal(f"{message.rstrip('. ')}. See `flickbook {name}--help`.", "usage", parameter, as_json)
        return error.exit_code
    except RequestError as error:
        return console.failure(error, as_json, naming.message(error, command, options))
    except (KeyboardInterrupt, typer.Abort):
        return console.failure(Cancelled(), as_json)
    except BrokenPipeError:  # the reader of stdout has exited; no one would read a message
        sys.stdout = None
        return 1
    except Exception as error:
        return console.failure(error, as_json)
    # Typer returns this value for Ctrl-C inside a command.
    if code == Cancelled.exit_code:
        return console.failure(Cancelled(), as_json)
    return code if isinstance(code, int) else 0
