"""Options shared by `serve` and `studio`, and the Service built from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import console
from flickbook.errors import MissingExtra, RequestError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from flickbook.server.service import Service
    from flickbook.web.mount import Studio

Host = Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all interfaces.")]
Port = Annotated[int, typer.Option("--port", help="Port; 0 selects a free one.", min=0, max=65_535)]
Store = Annotated[str, typer.Option("--store", help="Job store: sqlite:///PATH or mongodb://…", metavar="ADDRESS")]
Artifacts = Annotated[
    str,
    typer.Option(
        "--artifacts", help="Storage for job files that machines share: s3://BUCKET/PATH or a directory", metavar="URL"
    ),
]
Workers = Annotated[
    int, typer.Option("--workers", help="Number of worker processes; each uses one GPU.", min=0, max=256)
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch", help="Most queued jobs of one shape in a batch; chosen for this machine if unset.", min=1, max=64
    ),
]
Auth = Annotated[
    list[str] | None,
    typer.Option("--auth", help="Local account for the studio; repeatable.", metavar="NAME:PASSWORD"),
]


Proxy = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy",
        help="Address or network of a proxy whose X-Forwarded headers are trusted; repeatable.",
        metavar="ADDRESS",
    ),
]


def has_studio() -> bool:
    """Whether the studio's dependencies are installed."""
    return find_spec("gradio") is not None


def has_agents() -> bool:
    """Whether the SDK of the Model Context Protocol is installed."""
    return find_spec("mcp") is not None


def service_of(
    host: str,
    port: int,
    store: str,
    workers: int,
    *,
    auth: list[str] | None = None,
    artifacts: str = "",
    batch: int | None = None,
    proxies: Sequence[str] | None = None,
    json_logs: bool = False,
    **fields: Any,
) -> Service:
    """Build the Service; `fields` are further fields of it. Raises MissingExtra, RequestError, SettingsError."""
    from flickbook import settings

    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra(error.name or "fastapi", "server") from None
    from flickbook.jobs.backend import artifacts as artifact_store
    from flickbook.server.access.passwords import accounts_of
    from flickbook.server.operations import logs
    from flickbook.server.service import Service
    from flickbook.store.connect import connect

    chosen = settings.load(
        store=store or None, artifacts=artifacts or None, batch=batch, trusted_proxies=proxies or None
    )
    console.start(chosen.log_level)
    logs.start(chosen.log_level, json_logs)
    return Service(
        connect(chosen.store),
        artifact_store(chosen.artifacts),
        chosen,
        host=host,
        port=port,
        workers=workers,
        accounts=accounts_of(dict(map(_account, auth or ()))),
        **fields,
    )


def run(service: Service, opened: Callable[[str], Awaitable[None]] | None = None) -> None:
    """Serve until a signal arrives, with the studio and /mcp if what they need is installed.

    `opened` is called with the URL once the studio's page is built. Without it, the page is built on the first request.
    """
    from flickbook.server.run import run as served

    studios: list[Studio] = []

    def dress(app: FastAPI) -> None:
        if has_agents():
            from flickbook.agents.mount import mount as mount_agents

            mount_agents(app)
        if has_studio():
            from flickbook.web.mount import mount as mount_studio

            studios.append(mount_studio(app))

    async def ready(url: str) -> None:
        if opened is not None:
            await studios[0].ready()
            await opened(url)

    served(service, dress, ready)


def _account(text: str) -> tuple[str, str]:
    name, mark, password = text.partition(":")
    if not mark:
        raise RequestError("auth", name, "has no password", "write NAME:PASSWORD")
    return name, password
