"""Who may do what: the dependencies of which every route declares one, and what stands behind them.

reader    sees its own jobs and films        scope "read"
creator   makes something                    scope "create", and within its seconds on the device
changer   cancels, moves, deletes its own    scope "create"
admin     does everything                    scope "admin", which holds the others
viewer    a reader, or whoever has a signed link to this one file of a job
"""

from __future__ import annotations

import ipaddress
import time
from typing import Annotated, Final

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from flickbook.errors import LimitReached
from flickbook.jobs.keys import Key, Keys
from flickbook.jobs.keys import Scope as Right
from flickbook.server import limits
from flickbook.server.service import Caller, Service
from flickbook.server.sessions import Sessions
from flickbook.server.wire import cookies, header, of_own_page

DAY: Final = 86_400.0
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: What was found out about a request, so that it is asked once: kept in its scope.
_FOUND: Final = "flickbook.caller"
_CHARGED: Final = "flickbook.charged"

# It only tells the OpenAPI document what is asked for.
_bearer = HTTPBearer(auto_error=False, description="A key of `flickbook keys create`.")
_Documented = Annotated[object, Depends(_bearer)]


def is_loopback(host: str) -> bool:
    """Whether a host or an address is this machine, for nobody else to reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Guard:
    """Knows callers by their keys, and counts what they do."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.keys = Keys(service.store)
        self.rates = limits.Rates(service.store)
        self.strangers = limits.Strangers()
        self.sessions = Sessions(service.store, self.keys, service.accounts)

    async def admit(self, scope: Scope, right: Right) -> Caller:
        """The caller of a request that needs a right. Raises HTTPException with 401 or 403, and LimitReached."""
        caller, key = await self._known(scope)
        if not caller.scopes & {right, "admin"}:
            raise HTTPException(403, f"this key lacks the scope {right}; ask for one that has it")
        if _CHARGED not in scope:
            scope[_CHARGED] = True
            await self._charge(scope, key)
        return caller

    async def afford(self, scope: Scope) -> None:
        """Refuse a caller whose seconds on the device are used up for this day. Raises LimitReached."""
        caller, key = await self._known(scope)
        if key is None or not key.quota:
            return
        spent = await self._service.store.spent(caller.owner, time.time() - DAY)
        if spent >= key.quota:
            limit = f"{spent:.0f} s of {key.quota:.0f} s on the device were used within a day"
            raise LimitReached("quota", caller.owner, limit, "ask again when some of them are a day ago", 600.0)

    async def _known(self, scope: Scope) -> tuple[Caller, Key | None]:
        if _FOUND not in scope:
            scope[_FOUND] = await self._find(scope)
        found: tuple[Caller, Key | None] = scope[_FOUND]
        return found

    async def _find(self, scope: Scope) -> tuple[Caller, Key | None]:
        address = address_of(scope)
        if not await self.closed():
            # A proxy on this machine speaks for somebody elsewhere.
            if not is_loopback(self._service.host) or not is_loopback(address):
                raise _unknown("there is no key yet; make one with `flickbook keys create --name NAME`")
            return Caller(), None
        told = header(scope, b"authorization")
        if not told and _from_own_page(scope):
            key = await self.sessions.find(cookies(scope))
            if key is not None:
                return Caller(key.owner, key.id, frozenset(key.scopes)), key
        kind, _, token = told.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise _unknown("a key is needed; send it as `Authorization: Bearer fb_…`")
        key = await self.opened(address, token.strip())
        return Caller(key.owner, key.id, frozenset(key.scopes)), key

    async def closed(self) -> bool:
        """Whether callers must say who they are: a key was made, or there are accounts."""
        return self.sessions.accounts or await self.keys.exist()

    async def opened(self, address: str, token: str, name: str = "") -> Key:
        """The live key of a text, or the account of a `name` and its password. Raises HTTPException with 401, and
        LimitReached where too many wrong ones came from an address."""
        key = self.sessions.login(name, token) if name else await self.keys.find(token)
        wait = self.strangers.locked(address, "" if key is None else key.id)
        if wait:
            raise LimitReached("key", "(hidden)", "too many bad keys came from this address", "wait", wait)
        if key is None:
            self.strangers.strike(address)
            raise _unknown("this is no key of this service", "invalid_token")
        if key.state != "live":
            raise _unknown(f"this key is {key.state}; ask for another", "invalid_token")
        self.strangers.welcome(address, key.id)
        return key

    async def _charge(self, scope: Scope, key: Key | None) -> None:
        """Count a request. Reads have a bucket of their own, so that who polls can still cancel."""
        rate = limits.LOCAL_RATE if key is None else key.rate or limits.RATE
        kind, limit = ("read", limits.READS * rate) if scope["method"] in SAFE else ("make", rate)
        wait = await self.rates.take(f"{kind}:{key.id if key else '@' + address_of(scope)}", limit)
        if wait:
            text = f"{limit} a minute were made"
            raise LimitReached("requests", kind, text, f"ask again in {wait:.0f} s", wait)


def address_of(scope: Scope) -> str:
    """Where a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def caller_of(scope: Scope) -> Caller:
    """The caller of a request that was admitted."""
    found: tuple[Caller, Key | None] = scope[_FOUND]
    return found[0]


def _from_own_page(scope: Scope) -> bool:
    """Whether a browser says that a page of this service asks, or somebody who typed its address."""
    if scope["method"] in SAFE:
        return header(scope, b"sec-fetch-site") in ("", "same-origin", "none")
    return of_own_page(scope)


def _unknown(text: str, error: str = "") -> HTTPException:
    challenge = 'Bearer realm="flickbook"' + (f', error="{error}"' if error else "")
    return HTTPException(401, text, {"www-authenticate": challenge})


def guard_of(request: Request) -> Guard:
    """The guard of the application that a request came to."""
    found = request.app.state.guard
    assert isinstance(found, Guard)
    return found


async def reader(request: Request, _: _Documented = None) -> Caller:
    """One who may see."""
    return await guard_of(request).admit(request.scope, "read")


async def creator(request: Request, _: _Documented = None) -> Caller:
    """One who may make something, and has seconds on the device left."""
    caller = await guard_of(request).admit(request.scope, "create")
    if request.method == "POST":
        await guard_of(request).afford(request.scope)
    return caller


async def changer(request: Request, _: _Documented = None) -> Caller:
    """One who may cancel, move and delete: what takes no seconds on the device."""
    return await guard_of(request).admit(request.scope, "create")


async def admin(request: Request, _: _Documented = None) -> Caller:
    """One who may do everything."""
    return await guard_of(request).admit(request.scope, "admin")
