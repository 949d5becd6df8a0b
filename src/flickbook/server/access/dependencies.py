"""Access control: the dependencies that the routes declare, and the Guard that implements them.

reader    reads its own jobs and films         scope "read"
creator   creates jobs within its quota        scope "create"
changer   cancels, moves, deletes its own      scope "create"
admin     may do everything                    scope "admin", which includes the others
viewer    a reader, or a caller with a signed link to this one file of a job
"""

from __future__ import annotations

import ipaddress
import time
from typing import Annotated, Final, Literal

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from flickbook.errors import FlickbookError, LimitReached
from flickbook.jobs import signed_links
from flickbook.jobs.api_keys import Key, Keys
from flickbook.jobs.api_keys import Scope as Right
from flickbook.server.access import rate_limits
from flickbook.server.access.passwords import Passwords
from flickbook.server.access.sessions import Sessions
from flickbook.server.middleware.raw_request import cookies, header, of_own_page
from flickbook.server.service import Caller, Service

DAY: Final = 86_400.0
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: The message to callers when every API key that was created is revoked or expired.
LOST: Final = (
    "an API key is required, but the store holds none; create one with `flickbook keys create --name NAME`, or allow "
    "requests without one with `flickbook repair --open`"
)
#: Keys of the request's scope: the caller, looked up once a request, and the rates that it was counted against.
_FOUND: Final = "flickbook.caller"
_CHARGED: Final = "flickbook.charged"

# Documents bearer authentication in OpenAPI; it checks nothing.
_bearer = HTTPBearer(auto_error=False, description="An API key created with `flickbook keys create`.")
_Documented = Annotated[object, Depends(_bearer)]


def is_loopback(host: str) -> bool:
    """Whether a host name or an address is a loopback one, which other machines cannot reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Guard:
    """Authenticates callers, checks their scopes, and enforces rates and quotas."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.keys = Keys(service.store)
        self.rates = rate_limits.Rates(service.store)
        self.lockout = rate_limits.AddressLockout()
        self.attempts = rate_limits.Attempts(service.accounts)
        self.passwords = Passwords(service.store, service.accounts)
        self.sessions = Sessions(service.store, self.keys, self.passwords)
        #: Paths whose POST requests need only the scope "read"; what such a request does is checked where it does it.
        self.readable: set[str] = set()

    async def prepare(self) -> None:
        """Hash the passwords of the accounts and remove the plain ones from the service."""
        await self.passwords.prepare()
        self._service.accounts = dict.fromkeys(self._service.accounts, "")

    async def admit(self, scope: Scope, right: Right) -> Caller:
        """Return the caller of a request, who needs the scope `right`. Raises HTTPException with 401 or 403, and
        LimitReached."""
        caller, key = await self._known(scope)
        if not caller.scopes & {right, "admin"}:
            raise HTTPException(403, f"this API key lacks the scope {right}; use one that has it")
        kind = self._kind(scope, right)
        charged: set[str] = scope.setdefault(_CHARGED, set())
        if kind not in charged:
            charged.add(kind)
            await self._charge(scope, key, kind)
        return caller

    def _kind(self, scope: Scope, right: Right) -> Literal["read", "make"]:
        """Return the rate that a request with this scope counts against."""
        if scope["method"] in SAFE or (scope["path"] in self.readable and right == "read"):
            return "read"
        return "make"

    async def still_admits(self, scope: Scope) -> bool:
        """Whether the caller of an admitted request would be admitted now. False once its key is revoked or expired, or
        its session has ended. While the store cannot be read, the caller stays admitted."""
        try:
            found, _ = await self._find(scope)
        except HTTPException:
            return False
        except FlickbookError:
            return True
        return found == caller_of(scope)

    async def afford(self, scope: Scope) -> None:
        """Raise LimitReached if the caller has used up its daily quota of device seconds."""
        caller, key = await self._known(scope)
        if key is None or not key.quota:
            return
        spent = await self._service.store.spent(caller.owner, time.time() - DAY)
        if spent >= key.quota:
            limit = f"{spent:.0f} s of {key.quota:.0f} s of device time were used within a day"
            raise LimitReached(
                "quota", caller.owner, limit, "try again when part of that time is more than a day ago", 600.0
            )

    async def _known(self, scope: Scope) -> tuple[Caller, Key | None]:
        if _FOUND not in scope:
            scope[_FOUND] = await self._find(scope)
        found: tuple[Caller, Key | None] = scope[_FOUND]
        return found

    async def _find(self, scope: Scope) -> tuple[Caller, Key | None]:
        address = address_of(scope)
        if not await self.closed():
            # A proxy on this machine may forward the requests of other machines, even if its headers are not trusted.
            if not is_loopback(self._service.host) or not is_loopback(address) or _forwarded(scope):
                raise _unknown("there is no API key yet; create one with `flickbook keys create --name NAME`")
            return Caller(), None
        authorization = header(scope, b"authorization")
        if not authorization and _from_own_page(scope):
            key = await self.sessions.find(cookies(scope))
            if key is not None:
                return Caller(key.owner, key.id, frozenset(key.scopes)), key
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            lost = not self.accounts and await self.keys.lost()
            raise _unknown(LOST if lost else "an API key is required; send it as `Authorization: Bearer fb_…`")
        key = await self.opened(address, token.strip())
        return Caller(key.owner, key.id, frozenset(key.scopes)), key

    async def closed(self) -> bool:
        """Whether callers must authenticate: a key was once created, or there are accounts."""
        return self.accounts or await self.keys.exist()

    @property
    def accounts(self) -> bool:
        """Whether there are local accounts."""
        return bool(self.passwords.names)

    async def link(self, caller: Caller, path: str, owner: str, seconds: int, since: float | None = None) -> str:
        """Return `path` as a signed link that needs no key. It is valid for `seconds`, while the caller's key is
        live."""
        key = await self.sessions.holder(caller.key) if caller.key else None
        return signed_links.link(await self._service.store.secret("links"), path, owner, seconds, key, since)

    async def linked(self, target: str, owner: str, id: str) -> bool:
        """Whether a path with its query is a valid link to a file of this owner, signed with the live key `id`."""
        key = await self.sessions.holder(id) if id else None
        holds = signed_links.is_valid(await self._service.store.secret("links"), target, owner, key)
        # Links signed without a key stop working once callers must authenticate.
        return holds and not (key is None and await self.closed())

    async def log_in(self, address: str, name: str, password: str) -> Key:
        """Verify a password and return the account as a Key. Raises HTTPException with 401, and LimitReached after too
        many attempts for the name or from the address; then no password is verified, right or wrong."""
        wait = max(self.lockout.locked(address), self.attempts.wait(name))
        if wait:
            limit = "too many attempts for this name or from this address"
            raise LimitReached("login", "(hidden)", limit, f"try again in {wait:.0f} s", wait)
        # Counted before the verification, so that attempts sent at the same time cannot all pass.
        self.lockout.record_failure(address)
        self.attempts.count(name)
        if not await self.passwords.verify(name, password):
            raise _unknown("wrong name or password")
        self.lockout.clear_failure(address)
        self.attempts.forget(name)
        key = await self.sessions.account(name)
        assert key is not None
        return key

    async def opened(self, address: str, token: str) -> Key:
        """Return the live key for a token. Raises HTTPException with 401, and LimitReached after too many wrong tokens
        from an address."""
        key = await self.keys.find(token)
        wait = self.lockout.locked(address, "" if key is None else key.id)
        if wait:
            raise LimitReached("key", "(hidden)", "too many invalid API keys from this address", "wait", wait)
        if key is None:
            self.lockout.record_failure(address)
            raise _unknown("invalid API key", "invalid_token")
        if key.state != "live":
            raise _unknown(f"this API key is {key.state}; use another", "invalid_token")
        self.lockout.trust(address, key.id)
        return key

    async def _charge(self, scope: Scope, key: Key | None, kind: Literal["read", "make"]) -> None:
        """Count a request against its rate. Reads are counted apart, so that a polling client can still cancel."""
        rate = rate_limits.LOCAL_RATE if key is None else key.rate or rate_limits.RATE
        limit = rate_limits.READS * rate if kind == "read" else rate
        wait = await self.rates.take(f"{kind}:{key.id if key else '@' + address_of(scope)}", limit)
        if wait:
            text = f"exceeds the limit of {limit} per minute"
            raise LimitReached("requests", kind, text, f"try again in {wait:.0f} s", wait)


def address_of(scope: Scope) -> str:
    """Return the client address of a request."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _forwarded(scope: Scope) -> bool:
    """Whether a header says that a proxy forwards the request of another machine."""
    listed = header(scope, b"x-forwarded-for")
    return bool(header(scope, b"forwarded")) or any(
        listed and not is_loopback(each.strip()) for each in listed.split(",")
    )


def caller_of(scope: Scope) -> Caller:
    """Return the caller of an admitted request."""
    found: tuple[Caller, Key | None] = scope[_FOUND]
    return found[0]


def _from_own_page(scope: Scope) -> bool:
    """Whether the browser says that the request comes from a page of this service or from the address bar."""
    if scope["method"] in SAFE:
        return header(scope, b"sec-fetch-site") in ("", "same-origin", "none")
    return of_own_page(scope)


def _unknown(text: str, error: str = "") -> HTTPException:
    challenge = 'Bearer realm="flickbook"' + (f', error="{error}"' if error else "")
    return HTTPException(401, text, {"www-authenticate": challenge})


def guard_of(request: Request) -> Guard:
    """Return the guard of the request's application."""
    found: Guard = request.app.state.guard
    return found


async def reader(request: Request, _: _Documented = None) -> Caller:
    """Require the scope "read"."""
    return await guard_of(request).admit(request.scope, "read")


async def creator(request: Request, _: _Documented = None) -> Caller:
    """Require the scope "create", and for a POST an unused part of the daily quota of device seconds."""
    caller = await guard_of(request).admit(request.scope, "create")
    if request.method == "POST":
        await guard_of(request).afford(request.scope)
    return caller


async def changer(request: Request, _: _Documented = None) -> Caller:
    """Require the scope "create". For cancelling, moving and deleting, which use no device time."""
    return await guard_of(request).admit(request.scope, "create")


async def admin(request: Request, _: _Documented = None) -> Caller:
    """Require the scope "admin"."""
    return await guard_of(request).admit(request.scope, "admin")


#: The caller of a route, admitted by one of these dependencies.
Reader = Annotated[Caller, Depends(reader)]
Creator = Annotated[Caller, Depends(creator)]
Changer = Annotated[Caller, Depends(changer)]
Admin = Annotated[Caller, Depends(admin)]
