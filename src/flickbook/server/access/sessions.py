"""Browser sessions, created by a login on the studio's page and used instead of an API key.

A session is a random token in a cookie. The store keeps the token's SHA-256 in a note, with the id of the key or
account. Logging out, revoking the key or changing the password therefore ends the session on the server. Sessions are
accepted from the service's own pages only, so that another site cannot use them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import Final

from flickbook.jobs.api_keys import SCOPES, Key, Keys
from flickbook.server.access.passwords import Passwords
from flickbook.store.base import SESSION, Note, Store

COOKIE: Final = "flickbook_session"
#: The lifetime of a session in seconds, and the most sessions of one owner; beyond it the oldest ends.
LASTS: Final = 7 * 86_400
MOST: Final = 100
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
#: The prefix of account ids; ids of keys contain no hyphen.
_ACCOUNT: Final = "account-"


class Sessions:
    """Creates, finds and ends sessions of API keys and of local accounts."""

    def __init__(self, store: Store, keys: Keys, passwords: Passwords) -> None:
        self._store, self._keys, self._passwords = store, keys, passwords

    async def account(self, name: str) -> Key | None:
        """Return an account as a Key with all scopes but "admin". None if there is no such account."""
        found = await self._passwords.hash_of(name)
        if not found:
            return None
        digest = hashlib.sha256(found.encode("ascii")).hexdigest()
        scopes = tuple(scope for scope in SCOPES if scope != "admin")
        return Key.of(id=_ACCOUNT + name, name=name, owner=name, digest=digest, scopes=scopes)

    async def holder(self, id: str) -> Key | None:
        """Return the key or the account with this id, if it is live."""
        if id.startswith(_ACCOUNT):
            return await self.account(id.removeprefix(_ACCOUNT))
        key = await self._keys.named(id)
        return key if key is not None and key.state == "live" else None

    async def begin(self, key: Key) -> tuple[str, int]:
        """Create a session. Returns the value of its cookie and its lifetime in seconds."""
        now, token = time.time(), secrets.token_urlsafe(32)
        lasts = LASTS if not key.expires_at else int(min(LASTS, max(0.0, key.expires_at - now)))
        for note in await self._store.notes(SESSION, due=now):
            await self._store.drop(SESSION, note.id)
        own = sorted(await self._store.notes(SESSION, owner=key.owner), key=lambda note: note.due)
        for note in own[: max(0, len(own) - MOST + 1)]:
            await self._store.drop(SESSION, note.id)
        body = json.dumps({"of": key.id, "digest": key.digest})
        await self._store.put(Note.of(kind=SESSION, id=_digest(token), owner=key.owner, due=now + lasts, body=body))
        return token, lasts

    async def find(self, cookies: str) -> Key | None:
        """Return the live key or account of the session in a `cookie` header."""
        token = _token(cookies)
        note = await self._store.note(SESSION, _digest(token)) if token else None
        if note is None or note.due <= time.time():
            return None
        body = json.loads(note.body)
        key = await self.holder(body["of"])
        return key if key is not None and hmac.compare_digest(key.digest, body["digest"]) else None

    async def end(self, cookies: str) -> None:
        """End the session in a `cookie` header, if there is one."""
        token = _token(cookies)
        if token:
            await self._store.drop(SESSION, _digest(token))


def _token(cookies: str) -> str:
    try:
        morsel = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None and _TOKEN.fullmatch(morsel.value) else ""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("ascii")).hexdigest()
