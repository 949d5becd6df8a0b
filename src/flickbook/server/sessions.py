"""Sessions: what a browser has instead of a key, once somebody has said who they are on the studio's page.

A session is a cookie that names a key or a local account and says until when, under an HMAC-SHA256 (RFC 2104) with the
store's own secret. What the key or the account is protected with is signed too, so that a session ends with the key,
and with the password. It is read from the service's own pages only: a page elsewhere cannot have a browser send it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal

from flickbook.errors import RequestError
from flickbook.jobs.keys import SCOPES, Key, Keys, plain
from flickbook.store.base import Store

COOKIE: Final = "flickbook_session"
#: Seconds that a session lasts.
LASTS: Final = 7 * 86_400
SECRET: Final = "sessions"
_VALUE: Final = re.compile(r"(key|account)\.([A-Za-z0-9._@+-]{1,64})\.([0-9]{1,12})\.([0-9a-f]{64})")
_SHORTEST: Final = 8
#: What ids of accounts begin with; that of a key has no hyphen.
_ACCOUNT: Final = "account-"


def accounts_of(told: Mapping[str, str]) -> dict[str, str]:
    """Local accounts, passwords by names. Raises RequestError for a name or a password that will not do."""
    for name, password in told.items():
        plain("auth", name)
        if len(password) < _SHORTEST:
            limit = f"its password has {len(password)} characters, must be {_SHORTEST} or more"
            raise RequestError("auth", name, limit, "write NAME:PASSWORD with a longer one")
    return dict(told)


class Sessions:
    """Makes and reads the sessions of a store's keys and of `accounts`, passwords by names."""

    def __init__(self, store: Store, keys: Keys, accounts: Mapping[str, str]) -> None:
        self._store, self._keys, self._accounts = store, keys, accounts

    @property
    def accounts(self) -> bool:
        """Whether there are local accounts."""
        return bool(self._accounts)

    def account(self, name: str) -> Key:
        """What an account may do, as a key says it: all that is its own."""
        digest = hashlib.sha256(self._accounts[name].encode()).hexdigest()
        scopes = tuple(scope for scope in SCOPES if scope != "admin")
        return Key.of(id=_ACCOUNT + name, name=name, owner=name, digest=digest, scopes=scopes)

    def login(self, name: str, password: str) -> Key | None:
        """The account of this name and password; compared in constant time, also where there is none."""
        true = hmac.compare_digest(password.encode(), self._accounts.get(name, "").encode())
        return self.account(name) if true and name in self._accounts else None

    async def begin(self, key: Key) -> tuple[str, int]:
        """The value of a new cookie, and the seconds that it holds."""
        lasts = LASTS if not key.expires_at else int(min(LASTS, max(0.0, key.expires_at - time.time())))
        kind: Literal["key", "account"] = "account" if key.id.startswith(_ACCOUNT) else "key"
        name = key.name if kind == "account" else key.id
        until = int(time.time()) + lasts
        return f"{kind}.{name}.{until}.{await self._sign(kind, name, until, key)}", lasts

    async def find(self, cookies: str) -> Key | None:
        """The live key or the account that a `cookie` header has a session of."""
        try:
            morsel = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return None
        match = None if morsel is None else _VALUE.fullmatch(morsel.value)
        if match is None:
            return None
        kind, name, until = match[1], match[2], int(match[3])
        key = self._account(name) if kind == "account" else await self._keys.named(name)
        true = key is not None and hmac.compare_digest(await self._sign(kind, name, until, key), match[4])
        return key if true and time.time() < until and key is not None and key.state == "live" else None

    def _account(self, name: str) -> Key | None:
        return self.account(name) if name in self._accounts else None

    async def _sign(self, kind: str, name: str, until: int, key: Key) -> str:
        secret = await self._store.secret(SECRET)
        told = json.dumps([kind, name, until, key.digest]).encode("ascii")
        return hmac.new(bytes.fromhex(secret), told, hashlib.sha256).hexdigest()
