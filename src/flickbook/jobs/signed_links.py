"""Links to one file of one job that need no key, for a few minutes: what a player or a page is given.

A link is a path with `expires`, `key` and `signature` behind it: an HMAC-SHA256 (RFC 2104) over the path, the owner of
the job, the time, and the key that asked for the link. The owner is not in the link: it is read from the job, so that a
link ends with the job. `key` is the id of a key, which is no secret; a link ends with its key.
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

#: Seconds that a link holds, unless another time is asked for, and the longest.
USUAL: Final = 300
LONGEST: Final = 3600
_SIGNED: Final = re.compile(r"(.+)[?&]expires=([0-9]{1,12})&key=[^&]{0,240}&signature=([0-9a-f]{64})", re.DOTALL)


def sign(secret: str, path: str, owner: str, expires: int, key: Key | None) -> str:
    """64 hexadecimal digits for a path, with its query, of an owner's job; `secret` is hexadecimal. `key` is None where
    the service needs none."""
    holder = ["", ""] if key is None else [key.id, key.digest]
    signed = json.dumps([path, owner, expires, *holder]).encode("ascii")  # JSON, so that no two of them read alike
    return hmac.new(bytes.fromhex(secret), signed, hashlib.sha256).hexdigest()


def link(
    secret: str, path: str, owner: str, seconds: int = USUAL, key: Key | None = None, since: float | None = None
) -> str:
    """`path` so that it can be fetched without a key for 1 to 3600 `seconds`, counted from `since`, seconds since 1970
    (now if None). Raises RequestError."""
    if not 1 <= seconds <= LONGEST:
        raise RequestError("seconds", seconds, f"must be 1 to {LONGEST}", "make another link when this one is over")
    expires = int(time.time() if since is None else since) + seconds
    mark, id = "&" if "?" in path else "?", "" if key is None else quote(key.id, safe="")
    return f"{path}{mark}expires={expires}&key={id}&signature={sign(secret, path, owner, expires, key)}"


def holds(secret: str, target: str, owner: str, key: Key | None = None) -> bool:
    """Whether `target`, a path and its query, is a link that `link` made with this key, and has not expired."""
    found = _SIGNED.fullmatch(target)
    if found is None:
        return False
    path, expires, signature = found[1], int(found[2]), found[3]
    # The signature first: whether a forged link would be in time is nobody's business.
    true = hmac.compare_digest(sign(secret, path, owner, expires, key), signature)
    return true and time.time() < expires
