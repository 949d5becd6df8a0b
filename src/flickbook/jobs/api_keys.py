"""API keys: who a caller is, what it may do, and its quota and rate limit.

A key is `fb_`, a ten-character id, `_`, and 256 random bits. The store keeps only the SHA-256 of the whole key. With
that many random bits guessing is impossible, so a slow password hash is not needed, and it would be too slow to run
on every request. A key is looked up by its id, which is not secret, and compared in constant time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field

from flickbook.errors import RequestError
from flickbook.records import Record, Sha256
from flickbook.store.base import KEY, Note, Store

Scope = Literal["read", "create", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "create", "admin")
PREFIX: Final = "fb_"
#: Seconds for which a process may use keys that it has read from the store.
FRESH: Final = 1.0
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
_NAME_LENGTH: Final = 10
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_NOBODY: Final = hashlib.sha256(b"").hexdigest()


class Key(Record):
    """An API key as the store keeps it.

    Times are seconds since 1970, 0 for never. `quota` is seconds of device time per day, and `rate` is requests per
    minute that create or change something; 0 means the default.
    """

    id: str
    name: str
    owner: str
    digest: Sha256
    scopes: tuple[Scope, ...] = ("read", "create")
    created_at: float = 0.0
    expires_at: float = 0.0
    revoked_at: float = 0.0
    quota: Annotated[float, Field(ge=0)] = 0.0
    rate: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @property
    def state(self) -> Literal["live", "expired", "revoked"]:
        """Whether the key is valid now."""
        if self.revoked_at:
            return "revoked"
        return "expired" if 0 < self.expires_at <= time.time() else "live"


def plain(field: str, name: str) -> None:
    """Checks the name of a key, an owner or an account. Raises RequestError for a name that would need quoting."""
    if not _PLAIN.fullmatch(name):
        limit = "must be 1 to 64 letters, digits, or one of . _ @ + -, and start with a letter or digit"
        raise RequestError(field, name, limit, "choose another name")


def digest(token: str) -> str:
    """The SHA-256 of a key, which is what the store keeps."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Keys:
    """The API keys of a store. Keys are cached for a second, so that a request does not cost a query."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[str, Key]] = {}
        self._protected = False
        self._read = float("-inf")
        self._reading = asyncio.Lock()

    async def create(
        self,
        name: str,
        owner: str = "",
        scopes: Sequence[str] = (),
        *,
        seconds: float = 0.0,
        quota: float = 0.0,
        rate: int = 0,
    ) -> tuple[Key, str]:
        """Creates a key and returns it with its text, which is not stored and cannot be shown again.

        The key expires after `seconds`, if not 0. By default the owner has the name of the key, and that name must
        not be in use. Raises RequestError.
        """
        for field, value in (("name", name), ("owner", owner or name)):
            plain(field, value)
        granted = scopes_of(scopes)
        if not owner and any(each.owner == name for each in await self.list()):
            remedy = f"share its jobs with --owner {name}, or choose another name"
            raise RequestError("name", name, "is the owner of an existing key", remedy)
        id = "".join(secrets.choice(_DIGITS) for _ in range(_NAME_LENGTH))
        token = f"{PREFIX}{id}_{secrets.token_urlsafe(32)}"
        now = time.time()
        key = Key.of(
            id=id,
            name=name,
            owner=owner or name,
            digest=digest(token),
            scopes=granted,
            created_at=now,
            expires_at=now + seconds if seconds else 0.0,
            quota=float(quota),
            rate=rate,
        )
        await self._put(key)
        return key, token

    async def list(self) -> list[Key]:
        """Lists all keys, oldest first."""
        found = [Key.from_json(note.body) for note in await self._store.notes(KEY)]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    async def revoke(self, id: str) -> Key:
        """Revokes a key permanently; a revoked key stays revoked. Raises RequestError if no key has this id."""
        note = await self._store.note(KEY, id)
        if note is None:
            raise RequestError("id", id, "no such key", "`flickbook keys list` shows them")
        key = Key.from_json(note.body)
        if not key.revoked_at:
            key = key.model_copy(update={"revoked_at": time.time()})
            await self._put(key)
        return key

    async def exist(self) -> bool:
        """Whether a key was ever created. Revoked, expired and lost keys count, so that the end of the last key does
        not open the service.
        """
        await self._refresh()
        return bool(self._known) or self._protected

    async def lost(self) -> bool:
        """Whether keys were created but the store no longer holds any."""
        await self._refresh()
        return self._protected and not self._known

    async def find(self, token: str) -> Key | None:
        """Finds a key by its text, valid or not."""
        await self._refresh()
        _, key = self._known.get(public(token), ("", None))
        # Compare an unknown key too, so that it takes as long as a wrong one.
        true = hmac.compare_digest(digest(token), key.digest if key is not None else _NOBODY)
        return key if true else None

    async def named(self, id: str) -> Key | None:
        """Finds a key by its id, valid or not."""
        await self._refresh()
        return self._known.get(id, ("", None))[1]

    async def _put(self, key: Key) -> None:
        # Write the protection record first: if only one of the two is written, the service must require a key.
        await self._store.protect(key.id, key.name, key.revoked_at)
        await self._store.put(Note.of(kind=KEY, id=key.id, owner=key.owner, body=key.to_json()))
        self._read = float("-inf")

    async def _refresh(self) -> None:
        if time.monotonic() - self._read < FRESH:
            return
        async with self._reading:
            began = time.monotonic()
            if began - self._read < FRESH:
                return
            known = {}
            for note in await self._store.notes(KEY):
                body, key = self._known.get(note.id, ("", None))
                known[note.id] = (note.body, key if key and body == note.body else Key.from_json(note.body))
            self._protected = await self._store.protected()
            self._known, self._read = known, began


def public(token: str) -> str:
    """The id in a key's text, which is not secret."""
    return token[len(PREFIX) : len(PREFIX) + _NAME_LENGTH]


def scopes_of(names: Sequence[str]) -> tuple[Scope, ...]:
    """The scopes with these names; read and create for no names. Raises RequestError for an unknown name."""
    for name in names:
        if name not in SCOPES:
            raise RequestError("scope", name, "no such scope", f"choose {', '.join(SCOPES)}")
    return tuple(each for each in SCOPES if each in names) or ("read", "create")
