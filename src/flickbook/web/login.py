"""Login: a key or a local account becomes a session cookie. The page needs no scripts."""

from __future__ import annotations

import hashlib
import html
import math
from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from flickbook.errors import LimitReached
from flickbook.server.access.dependencies import Guard, Reader, address_of, guard_of
from flickbook.server.access.sessions import COOKIE
from flickbook.server.middleware.raw_request import cookies
from flickbook.server.service import service_of

PATH: Final = "/studio"
LOGIN: Final = f"{PATH}/login"
LOGOUT: Final = f"{PATH}/logout"
#: Without it browsers send the form with the origin "null".
OWN_ORIGIN: Final = {"referrer-policy": "same-origin"}
router = APIRouter(include_in_schema=False)
_POLICY: Final = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Flickbook: log in</title>{preview}<link rel="stylesheet" href="{path}/own/login.css"></head>
<body><main><h1>Flickbook</h1><p>{intro}</p>{problem}
<form method="post" action="{path}/login">{name}
<label>{label}<input type="password" name="secret" required autocomplete="current-password" {focus}></label>
<button>Log in</button></form></main></body></html>"""
#: What the studio does, and the tags that say so in link previews.
ABOUT: Final = "Turn a sentence into a short film, on your own machine."
PREVIEW: Final = f"""<meta property="og:title" content="Flickbook studio"><meta property="og:type" content="website">
<meta property="og:description" content="{ABOUT}"><meta name="description" content="{ABOUT}">
<meta name="twitter:card" content="summary"><meta name="twitter:title" content="Flickbook studio">
<meta name="twitter:description" content="{ABOUT}">"""
_NAME: Final = '<label>Name<input name="name" autocomplete="username" autofocus maxlength="64"></label>'
_SECRET: Final = Form(max_length=500)


@router.get(PATH)
async def bare() -> Response:
    """Redirect to the page's address."""
    return RedirectResponse(f"{PATH}/", 307)


@router.get("/favicon.ico")
async def icon() -> Response:
    """Redirect to the icon at the path that browsers request by default."""
    return RedirectResponse(f"{PATH}/own/icon.svg", 307)


@router.get(LOGIN)
async def ask(request: Request) -> Response:
    """Show the login page."""
    return _page(guard_of(request))


@router.post(LOGIN)
async def log_in(
    request: Request, secret: Annotated[str, _SECRET] = "", name: Annotated[str, _SECRET] = ""
) -> Response:
    """Create a session and redirect to the studio, or show the login page with the error."""
    guard = guard_of(request)
    try:
        address, name = address_of(request.scope), name.strip()
        key = await (guard.log_in(address, name, secret.strip()) if name else guard.opened(address, secret.strip()))
    except LimitReached as error:
        return _page(guard, str(error), 429, {"retry-after": str(math.ceil(error.retry_after))})
    except HTTPException as error:
        return _page(guard, str(error.detail), 401)
    value, lasts = await guard.sessions.begin(key)
    answer = RedirectResponse(f"{PATH}/", 303)
    # A tunnel is always reached by HTTPS, but forwards by HTTP.
    secure = request.url.scheme == "https" or request.url.hostname in service_of(request).hosts
    answer.set_cookie(COOKIE, value, max_age=lasts, httponly=True, samesite="strict", secure=secure)
    return answer


@router.get(f"{PATH}/session")
async def session(request: Request, caller: Reader) -> Response:
    """Return whether a login is needed, so that the page can offer to log out.

    `owner` identifies the caller, so that the page keeps what it stores in the browser apart; it is empty without
    logins.
    """
    closed = await guard_of(request).closed()
    owner = hashlib.sha256(caller.owner.encode()).hexdigest()[:16] if closed else ""
    return JSONResponse({"closed": closed, "owner": owner})


@router.post(LOGOUT)
async def log_out(request: Request) -> Response:
    """End the session of this browser, on the server and in the cookie."""
    await guard_of(request).sessions.end(cookies(request.scope))
    answer = RedirectResponse(LOGIN, 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _page(guard: Guard, problem: str = "", status: int = 200, headers: Mapping[str, str] = {}) -> Response:
    accounts = guard.accounts
    intro = "Log in with your name and password, or leave the name empty and enter a key."
    text = _PAGE.format(
        path=PATH,
        preview=PREVIEW,
        intro=intro if accounts else "Log in with your key.",
        problem=f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else "",
        name=_NAME if accounts else "",
        label="Password or key" if accounts else "Key",
        focus="" if accounts else "autofocus",
    )
    return HTMLResponse(text, status, {"content-security-policy": _POLICY, **OWN_ORIGIN, **headers})
