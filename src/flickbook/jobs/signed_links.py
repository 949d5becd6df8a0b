"""Signed links: short-lived URLs to one file of one job that work without an API key, for players and pages.

A link is a path with `expires`, `key` and `signature`: an HMAC-SHA256 (RFC 2104) over the path, the owner of the
job, the expiry time, and the API key that requested the link. The owner is not part of the link but read from the
job, so a link stops working when the job is deleted. `key` is the id of an API key, which is not secret; a link
stops working when its key does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from typing import Final
from urllib.parse import quote

from flickbook.errors import RequestError
from flickbook.jobs.api_keys import Key

#: Lifetime of a link in seconds: default and maximum.
USUAL: Final = 300
LONGEST: Final = 3600
_SIGNED: Final = re.compile(r"(.+)[?&]expires=([0-9]{1,12})&key=[^&]{0,240}&signature=([0-9a-f]{64})", re.DOTALL)


def sign(secret: str, path: str, owner: str, expires: int, key: Key | None) -> str:
    """The signature, 64 hexadecimal digits, of a path with its query and the owner of its job.

    `secret` is hexadecimal. `key` is None if the service needs no key.
    """
    holder = ["", ""] if key is None else [key.id, key.digest]
    signed = json.dumps([path, owner, expires, *holder]).encode("ascii")  # JSON makes the signed text unambiguous
    return hmac.new(bytes.fromhex(secret), signed, hashlib.sha256).hexdigest()


def link(
    secret: str, path: str, owner: str, seconds: int = USUAL, key: Key | None = None, since: float | None = None
) -> str:
    """Makes a link to `path` that works without a key for 1 to 3600 `seconds` from `since`.

    `since` is in seconds since 1970, now if None. Raises RequestError.
    """
    if not 1 <= seconds <= LONGEST:
        raise RequestError(
            "seconds", seconds, f"must be 1 to {LONGEST}", "create another link when this one has expired"
        )
    expires = int(time.time() if since is None else since) + seconds
    mark, id = "&" if "?" in path else "?", "" if key is None else quote(key.id, safe="")
    return f"{path}{mark}expires={expires}&key={id}&signature={sign(secret, path, owner, expires, key)}"


def is_valid(secret: str, target: str, owner: str, key: Key | None = None) -> bool:
    """Whether `target`, a path with its query, is a link that `link` made with this key and that has not expired."""
    found = _SIGNED.fullmatch(target)
    if found is None:
        return False
    path, expires, signature = found[1], int(found[2]), found[3]
    # Check the signature first, so that a forged link does not reveal whether it would have expired.
    true = hmac.compare_digest(sign(secret, path, owner, expires, key), signature)
    return true and time.time() < expires
