"""`flickbook keys`: manages the API keys of the service and their limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from flickbook.cli import console, options

if TYPE_CHECKING:
    from flickbook.jobs.api_keys import Key, Keys

T = TypeVar("T")
app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)
Store = Annotated[
    str,
    typer.Option("--store", help="Job store, which holds the keys: sqlite:///PATH or mongodb://…", metavar="ADDRESS"),
]


@app.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="Name of the key, for example laptop, team-a or ci.")],
    owner: Annotated[
        str,
        typer.Option(
            "--owner", help="Owner of the jobs that the key creates and sees; its name if unset.", metavar="NAME"
        ),
    ] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read, create or admin; repeatable. read and create if unset."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", help="Time until the key expires: 12h, 30d; never if unset.", metavar="TIME")
    ] = "",
    quota: Annotated[
        float, typer.Option("--quota", help="Seconds of device time per day for the owner; 0 for no limit.", min=0)
    ] = 0.0,
    rate: Annotated[
        int,
        typer.Option(
            "--rate",
            help="Requests per minute that create or change something; 0 for the default of 600.",
            min=0,
            max=1_000_000,
        ),
    ] = 0,
    store: Store = "",
    as_json: options.AsJson = False,
) -> None:
    """Create an API key and print it. It cannot be shown again, because only its hash is stored."""
    from flickbook.cli.quantities import seconds

    lasts = seconds("expires", expires) if expires else 0.0
    key, token = _with(store, lambda keys: keys.create(name, owner, scope or (), seconds=lasts, quota=quota, rate=rate))
    if as_json:
        console.document({"key": token, **_document(key)})
        return
    print(token)
    console.note(f"key {key.id} of {key.owner} may {', '.join(key.scopes)}; it cannot be shown again")


@app.command("list")
def list_(store: Store = "", as_json: options.AsJson = False) -> None:
    """List the API keys, one per line, including expired and revoked ones."""
    found = _with(store, lambda keys: keys.list())
    if as_json:
        console.document([_document(key) for key in found])
        return
    if not found:
        console.note("there are no keys yet; `flickbook keys create` creates one")
    for key in found:
        ends = time.strftime("%Y-%m-%d", time.gmtime(key.expires_at)) if key.expires_at else "never"
        print(f"{key.id}  {key.state:<7}  {key.name}  owner {key.owner}  {'+'.join(key.scopes)}  expires {ends}")


@app.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(help="The id of a key, as `flickbook keys list` shows it.")], store: Store = ""
) -> None:
    """Revoke an API key permanently. A running service applies this within a second."""
    key = _with(store, lambda keys: keys.revoke(id))
    print(f"{key.id}  {key.state}  {key.name}")


def _document(key: Key) -> dict[str, Any]:
    return {**key.model_dump(mode="json", exclude={"digest"}), "state": key.state}


def _with(address: str, ask: Callable[[Keys], Coroutine[Any, Any, T]]) -> T:
    """Run `ask` on the API keys of a store."""
    from flickbook import settings
    from flickbook.jobs.api_keys import Keys
    from flickbook.jobs.backend import Backend

    console.start(settings.load().log_level)
    with Backend.at(address) as backend:
        return backend.ask(ask(Keys(backend.store)))
