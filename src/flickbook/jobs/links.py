"""Links to one file of one job that need no key, for a few minutes: what a player or a page is given.

A link is a path with `expires` and `signature` behind it, an HMAC-SHA256 (RFC 2104) over the path, the owner of the job
and the time. The owner is not in the link: whoever checks it reads the job, and takes its owner from there, so that a
link ends with the job, and with its change of hands.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from typing import Final

from flickbook.errors import RequestError

#: Seconds that a link holds, unless another time is asked for, and the longest.
USUAL: Final = 300
LONGEST: Final = 3600
_SIGNED: Final = re.compile(r"(.+)[?&]expires=([0-9]{1,12})&signature=([0-9a-f]{64})", re.DOTALL)


def sign(secret: str, path: str, owner: str, expires: int) -> str:
    """64 hexadecimal digits for a path, with its query, of an owner's job; `secret` is hexadecimal."""
    told = json.dumps([path, owner, expires]).encode("ascii")  # JSON, so that no two of them read alike
    return hmac.new(bytes.fromhex(secret), told, hashlib.sha256).hexdigest()


def link(secret: str, path: str, owner: str, seconds: int = USUAL) -> str:
    """`path` so that it can be fetched without a key for 1 to 3600 `seconds`. Raises RequestError."""
    if not 1 <= seconds <= LONGEST:
        raise RequestError("seconds", seconds, f"must be 1 to {LONGEST}", "make another link when this one is over")
    expires = int(time.time()) + seconds
    mark = "&" if "?" in path else "?"
    return f"{path}{mark}expires={expires}&signature={sign(secret, path, owner, expires)}"


def holds(secret: str, target: str, owner: str) -> bool:
    """Whether `target`, a path and its query as they were asked for, is a link that `link` made and is not over."""
    found = _SIGNED.fullmatch(target)
    if found is None:
        return False
    path, expires, signature = found[1], int(found[2]), found[3]
    # The signature first: whether a forged link would be in time is nobody's business.
    true = hmac.compare_digest(sign(secret, path, owner, expires), signature)
    return true and time.time() < expires
