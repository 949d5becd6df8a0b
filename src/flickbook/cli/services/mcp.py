"""`flickbook mcp`: serves agents by the Model Context Protocol, over stdio or over HTTP."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flickbook.cli.services import options
from flickbook.errors import MissingExtra, RequestError


class Transport(StrEnum):
    """How the agent's program reaches the server."""

    STDIO = "stdio"
    HTTP = "streamable-http"


Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        help="What the agent may do over stdio besides reading: create or admin; repeatable. read alone only reads; "
        "create if unset.",
    ),
]


def mcp(
    transport: Annotated[
        Transport,
        typer.Option("--transport", help="stdio for a program that starts this command; streamable-http for others."),
    ] = Transport.STDIO,
    scope: Scopes = None,
    root: Annotated[
        list[Path] | None,
        typer.Option("--root", help="Directory whose pictures and films the agent may use over stdio; repeatable."),
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on; 127.0.0.1 if unset.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port; 8000 if unset, 0 selects a free one.", min=0, max=65_535)
    ] = None,
    store: options.Store = "",
    artifacts: options.Artifacts = "",
    workers: options.Workers = 1,
    batch: options.Batch = None,
) -> None:
    """Serve agents by the Model Context Protocol: make, draft, look, choose, finish, edit and search films.

    Over stdio, the agent's program starts this command. Over HTTP it is the service with /mcp, and agents need API keys
    as other callers do.
    """
    if not options.has_agents():
        raise MissingExtra("mcp", "mcp")
    if transport is Transport.HTTP:
        if scope:
            remedy = "leave it out, and name the scopes of the agent's key with `flickbook keys create`"
            raise RequestError("scope", ", ".join(scope), "has no effect with --transport streamable-http", remedy)
        if root:
            remedy = "leave it out, and send pictures as data:image/png;base64,…"
            raise RequestError("root", root[0], "has no effect with --transport streamable-http", remedy)
        address = ("127.0.0.1" if host is None else host, 8000 if port is None else port)
        options.run(options.service_of(*address, store, workers, artifacts=artifacts, batch=batch))
        return
    for name, value in (("host", host), ("port", port)):
        if value is not None:
            raise RequestError(name, value, "has no effect with --transport stdio", "leave it out")
    from flickbook.jobs.api_keys import scopes_of

    scopes = scopes_of(["read", *scope] if scope else ())
    service = options.service_of("127.0.0.1", 0, store, workers, artifacts=artifacts, batch=batch)
    from flickbook.agents.stdio import run

    run(service, scopes, root or ())
