"""What several machines must share before a cluster of them may run jobs. Imports neither Ray nor torch."""

from __future__ import annotations

from flickbook.errors import RequestError
from flickbook.store.connect import hidden, is_local


def check_shared(store: str, artifacts: str) -> None:
    """Raises RequestError if machines of a cluster would not find the jobs or their files."""
    if is_local(store):
        limit = "machines of a cluster cannot share a file"
        raise RequestError("store", hidden(store) or "a file", limit, "name a server with --store mongodb://HOST/NAME")
    if not artifacts:
        limit = "machines of a cluster need storage that all of them reach"
        raise RequestError("artifacts", "", limit, "add --artifacts s3://BUCKET/PATH")
