"""`flickbook serve`: runs the HTTP service and its workers."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from flickbook.cli.services import options
from flickbook.errors import MissingExtra, RequestError

#: The most workers of a cluster if --workers is not given. What it cannot place makes its autoscaler add machines.
_MOST: Final = 256

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Number of worker processes, each on one GPU; 1 if unset. With --cluster the most workers, 256.",
        min=0,
        max=4096,
    ),
]
Cluster = Annotated[
    str,
    typer.Option(
        "--cluster", help="Address of a Ray cluster that runs the workers; auto for this machine.", metavar="ADDRESS"
    ),
]
Keep = Annotated[str, typer.Option("--keep", help="Delete finished jobs after this time: 12h, 30d.", metavar="TIME")]
MaxDisk = Annotated[
    str,
    typer.Option(
        "--max-disk",
        help="Delete the oldest finished jobs when their files exceed this size: 500M, 50G.",
        metavar="SIZE",
    ),
]
WebhookHost = Annotated[
    list[str] | None, typer.Option("--webhook-host", help="Host that webhooks may be sent to; repeatable.")
]
Origin = Annotated[
    list[str] | None,
    typer.Option("--origin", help="Allowed browser origin (CORS), as https://films.example; repeatable."),
]
JsonLogs = Annotated[bool, typer.Option("--json-logs", help="Log every request as one JSON object per line.")]


def serve(
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    store: options.Store = "",
    artifacts: options.Artifacts = "",
    workers: Workers = None,
    cluster: Cluster = "",
    batch: options.Batch = None,
    keep: Keep = "",
    max_disk: MaxDisk = "",
    webhook_host: WebhookHost = None,
    origin: Origin = None,
    auth: options.Auth = None,
    trusted_proxy: options.Proxy = None,
    json_logs: JsonLogs = False,
) -> None:
    """Start the HTTP service: OpenAI-compatible /v1/videos and /v1/images, /api/v1, /studio."""
    from importlib.util import find_spec

    from flickbook.cli.quantities import octets, seconds

    if cluster and find_spec("ray") is None:
        raise MissingExtra("ray", "cluster")
    service = options.service_of(
        host,
        port,
        store,
        (_MOST if cluster else 1) if workers is None else workers,
        cluster=cluster,
        auth=auth,
        artifacts=artifacts,
        batch=batch,
        proxies=trusted_proxy,
        json_logs=json_logs,
        origins=tuple(_origin(each) for each in origin or ()),
        webhook_hosts=tuple(webhook_host or ()),
        keep=seconds("keep", keep) if keep else 0.0,
        max_disk=octets("max_disk", max_disk) if max_disk else None,
    )
    if cluster and cluster != "auto":  # a cluster of other machines
        from flickbook.jobs.cluster.requirements import check_shared

        check_shared(service.settings.store, service.settings.artifacts)
    options.run(service)


def _origin(text: str) -> str:
    """Return an origin (scheme, host and port) as browsers write it."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text.rstrip("/"))
        whole = parts.scheme in ("http", "https") and parts.hostname and not parts.path and not parts.query
        port = parts.port
    except ValueError:
        whole, port = False, None
    if not whole or "@" in text:
        raise RequestError("origin", text, "is not an origin", "write scheme and host, as https://films.example")
    usual = {"http": 80, "https": 443}[parts.scheme]
    return (
        f"{parts.scheme}://{parts.netloc.lower().removesuffix(f':{port}') if port == usual else parts.netloc.lower()}"
    )
