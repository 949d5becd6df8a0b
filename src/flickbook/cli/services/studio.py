"""`flickbook studio`: runs the studio in the browser, with the service and its workers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flickbook.cli.services import options
from flickbook.errors import MissingExtra, RequestError


def studio(
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the URL instead of opening a browser.")
    ] = False,
    share: Annotated[bool, typer.Option("--share", help="Create a temporary public URL; requires a login.")] = False,
    auth: options.Auth = None,
    trusted_proxy: options.Proxy = None,
    store: options.Store = "",
    workers: options.Workers = 1,
    batch: options.Batch = None,
) -> None:
    """Start the studio in the browser: films, images, sequences and batches."""
    if not options.has_studio():
        raise MissingExtra("gradio", "ui")
    service = options.service_of(host, port, store, workers, auth=auth, batch=batch, proxies=trusted_proxy)
    service.shared = share

    async def opened(url: str) -> None:
        page = f"{url}/studio/"
        print(f"the studio is at {page}", file=sys.stderr)
        if share:
            shared = await _tunnel(service.port, service.hosts)
            print(f"shared at {shared}/studio/ for a week at most", file=sys.stderr)
        if not no_browser:
            import asyncio
            import webbrowser

            await asyncio.to_thread(webbrowser.open, page)

    options.run(service, opened)


async def _tunnel(port: int, hosts: set[str]) -> str:
    """Open a tunnel through Gradio's servers and return its URL. Raises RequestError."""
    import asyncio
    import secrets
    from urllib.parse import urlsplit

    from gradio import networking

    try:
        url = await asyncio.to_thread(networking.setup_tunnel, "127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # any error of the tunnel program or the network
        raise RequestError(
            "share", True, f"the tunnel cannot be opened: {error}", "leave --share out, or try again"
        ) from None
    hosts.add(urlsplit(url).hostname or "")
    return str(url).rstrip("/")
