"""Passwords of local accounts: hashed with Argon2id (RFC 9106) in at most two threads.

A hash takes 64 MiB and about a tenth of a second. It is computed off the event loop, and the number of waiting attempts
is limited. A flood of attempts thus neither blocks the service nor fills its memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerificationError

from flickbook.errors import LimitReached, RequestError
from flickbook.jobs.api_keys import plain
from flickbook.store.base import Store

T = TypeVar("T")
#: The number of attempts verified at once, and of attempts that may wait.
THREADS: Final = 2
WAITING: Final = 16
SECRET: Final = "passwords"
_SHORTEST: Final = 8
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 << 10, parallelism=1, hash_len=32, type=Type.ID)


def accounts_of(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return local accounts, a dict of passwords by name. Raises RequestError for an invalid name or a short
    password."""
    for name, password in pairs.items():
        plain("auth", name)
        if len(password) < _SHORTEST:
            limit = f"has a password of {len(password)} characters, must be {_SHORTEST} or more"
            raise RequestError("auth", name, limit, "write NAME:PASSWORD with a longer one")
    return dict(pairs)


class Passwords:
    """The hashed passwords of a service's accounts.

    The salt of an account is derived from a secret in the store. The hash of a password is therefore the same after a
    restart, and sessions remain valid.
    """

    def __init__(self, store: Store, accounts: Mapping[str, str]) -> None:
        self.names: Final = frozenset(accounts)
        self._store, self._plain = store, dict(accounts)
        self._hashes: dict[str, str] = {}
        #: The hash compared for unknown names, so that their verification takes as long.
        self._decoy = ""
        self._waiting = 0
        self._preparing = asyncio.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")

    async def prepare(self) -> None:
        """Hash the passwords and forget the plain ones. Later calls do nothing."""
        async with self._preparing:
            if self._decoy or not self.names:
                return
            secret = bytes.fromhex(await self._store.secret(SECRET))
            for name, password in self._plain.items():
                salt = hmac.new(secret, name.encode("ascii"), hashlib.sha256).digest()[:16]
                self._hashes[name] = await self._off(_hashed, password, salt)
            self._decoy = await self._off(_hashed, secrets.token_hex(16), secrets.token_bytes(16))
            self._plain.clear()

    async def hash_of(self, name: str) -> str:
        """Return the hash of an account's password, "" if there is no such account."""
        await self.prepare()
        return self._hashes.get(name, "")

    async def verify(self, name: str, password: str) -> bool:
        """Whether this is the password of the account. Raises LimitReached while too many other attempts wait."""
        if not self.names:
            return False
        if self._waiting >= THREADS + WAITING:
            raise LimitReached("login", "(hidden)", "too many logins at once", "try again in a second", 1.0)
        self._waiting += 1
        try:
            await self.prepare()
            right = await self._off(_verified, self._hashes.get(name, self._decoy), password)
        finally:
            self._waiting -= 1
        return right and name in self._hashes

    async def _off(self, work: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *values)


def _hashed(password: str, salt: bytes) -> str:
    return _HASHER.hash(_encoded(password), salt=salt)


def _verified(found: str, password: str) -> bool:
    try:
        return _HASHER.verify(found, _encoded(password))
    except VerificationError:
        return False


def _encoded(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
