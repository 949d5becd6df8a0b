"""Logging in on the studio's page: a key or an account becomes a session, which ends with what it stands for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from argon2 import PasswordHasher
from tests.server.live import Live, live

from flickbook.jobs import api_keys
from flickbook.server.access import passwords, rate_limits, sessions
from flickbook.server.access.sessions import COOKIE
from flickbook.web.mount import mount

JOBS = "/api/v1/jobs"
LOGIN = "/studio/login"
ACCOUNTS = {"ada": "a long enough one", "bob": "another long one"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "FRESH", 0.0)
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path, mount, accounts=ACCOUNTS) as found:
        yield found


def log_in(service: Live, **form: str) -> httpx2.Response:
    return httpx2.post(service.url + LOGIN, data=form, headers={"origin": service.url}, follow_redirects=False)


def cookie(answer: httpx2.Response) -> dict[str, str]:
    assert answer.status_code == 303, answer.text
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    return {"cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}


def status(service: Live, headers: dict[str, str], verb: str = "GET") -> int:
    if verb == "GET":
        return service.get(JOBS, headers=headers).status_code
    return service.post(JOBS, headers=headers, json={"prompt": "a red circle"}).status_code


def test_an_account_sees_and_creates_only_its_own_jobs(service: Live) -> None:
    assert status(service, {}) == 401
    ada, bob = (cookie(log_in(service, name=name, secret=word)) for name, word in ACCOUNTS.items())
    own = ada | {"origin": service.url}
    made = service.post(JOBS, headers=own, json={"prompt": "a red circle"})
    assert made.status_code == 201
    id = made.json()["id"]
    assert service.get(f"{JOBS}/{id}", headers=ada).status_code == 200
    assert service.get(f"{JOBS}/{id}", headers=bob).status_code == 404
    assert service.get(JOBS, headers=bob).json()["data"] == []


def test_a_session_from_a_key_ends_when_the_key_is_revoked(service: Live) -> None:
    key, headers = service.key("carol", "read")
    own = cookie(log_in(service, secret=headers["authorization"].removeprefix("Bearer ")))
    assert status(service, own) == 200
    # It may only read.
    assert status(service, own | {"origin": service.url}, "POST") == 403
    service.ask(service.guard.keys.revoke(key.id))
    assert status(service, own) == 401


def test_a_request_from_another_origin_cannot_use_a_session(service: Live) -> None:
    own = cookie(log_in(service, name="ada", secret=ACCOUNTS["ada"]))
    assert status(service, own | {"origin": "https://elsewhere.example"}, "POST") == 403
    assert status(service, own, "POST") == 401, "no browser leaves the origin out"
    for site, expected in (("cross-site", 401), ("same-site", 401), ("same-origin", 200), ("none", 200)):
        assert status(service, own | {"sec-fetch-site": site}) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"),
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text.swapcase(),
        lambda _: "account.ada.99999999999." + "0" * 64,
        lambda _: "",
    ],
)
def test_a_forged_session_is_401(service: Live, change: object) -> None:
    own = cookie(log_in(service, name="ada", secret=ACCOUNTS["ada"]))
    forged = change(own["cookie"].partition("=")[2])  # type: ignore[operator]
    assert status(service, {"cookie": f"{COOKIE}={forged}"}) == 401


def answer_of(answer: httpx2.Response) -> tuple[object, ...]:
    """All that a client can see of an answer, but for the seconds to wait and the request's id."""
    names = sorted(set(answer.headers) - {"date", "x-request-id", "retry-after", "content-length"})
    text = re.sub(r"in [0-9]+ s", "in N s", answer.text)
    return answer.status_code, text, [(name, answer.headers[name]) for name in names]


def test_wrong_password_and_unknown_name_get_the_same_response(service: Live) -> None:
    wrong, unknown = (log_in(service, name=name, secret="wrong") for name in ("ada", "nobody"))
    assert wrong.status_code == 401 and "wrong name or password" in wrong.text
    assert "set-cookie" not in wrong.headers and answer_of(wrong) == answer_of(unknown)


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_a_locked_account_refuses_the_right_password_as_a_wrong_one(
    service: Live, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # The owner logged in from this address before, and each guess names another address: neither is an exemption.
    assert log_in(service, name="ada", secret=ACCOUNTS["ada"]).status_code == 303
    verified: list[str] = []
    verify = service.guard.passwords.verify

    async def counted(name: str, password: str) -> bool:
        verified.append(password)
        return await verify(name, password)

    monkeypatch.setattr(service.guard.passwords, "verify", counted)
    guesses = [
        service.post(
            LOGIN,
            data={"name": name, "secret": f"guess {number}"},
            headers={"origin": service.url, "x-forwarded-for": f"203.0.113.{number}"},
        ).status_code
        for number in range(rate_limits.FREE_ATTEMPTS + 3)
    ]
    assert guesses == [401] * rate_limits.FREE_ATTEMPTS + [429] * 3
    right, wrong = (log_in(service, name=name, secret=word) for word in (ACCOUNTS["ada"], "wrong"))
    assert right.status_code == 429 and answer_of(right) == answer_of(wrong)
    assert 1 <= int(right.headers["retry-after"]) <= rate_limits.LONGEST_DELAY
    assert len(verified) == rate_limits.FREE_ATTEMPTS, "a locked password is not looked at"
    # Others go on.
    assert log_in(service, name="bob", secret=ACCOUNTS["bob"]).status_code == 303


def test_guesses_across_accounts_lock_the_address(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_FAILURES", 3)
    assert log_in(service, name="bob", secret=ACCOUNTS["bob"]).status_code == 303
    for number in range(3):
        assert log_in(service, name=f"nobody{number}", secret="wrong").status_code == 401
        # A right password does not clear what was wrong before.
        assert log_in(service, name="bob", secret=ACCOUNTS["bob"]).status_code == (429 if number == 2 else 303)


def test_parallel_guesses_are_counted_one_by_one(service: Live) -> None:
    with ThreadPoolExecutor(12) as threads:
        guesses = threads.map(lambda n: log_in(service, name="ada", secret=f"guess {n}").status_code, range(12))
    assert sorted(guesses) == [401] * rate_limits.FREE_ATTEMPTS + [429] * (12 - rate_limits.FREE_ATTEMPTS)


def test_logging_out_ends_the_session_on_the_server(service: Live) -> None:
    own, other = (cookie(log_in(service, name="ada", secret=ACCOUNTS["ada"])) for _ in range(2))
    assert (status(service, own), status(service, other)) == (200, 200)
    ended = httpx2.post(f"{service.url}/studio/logout", headers=own | {"origin": service.url}, follow_redirects=False)
    assert ended.status_code == 303
    assert (status(service, own), status(service, other)) == (401, 200)


@pytest.mark.slow
def test_a_session_survives_a_restart_and_ends_with_a_password_change(tmp_path: Path) -> None:
    with live(tmp_path, mount, accounts=ACCOUNTS) as service:
        own = cookie(log_in(service, name="ada", secret=ACCOUNTS["ada"]))
    with live(tmp_path, mount, accounts=ACCOUNTS) as service:
        assert status(service, own) == 200
    with live(tmp_path, mount, accounts=ACCOUNTS | {"ada": "a changed password"}) as service:
        assert status(service, own) == 401


def test_sessions_of_an_owner_are_bounded_and_expired_ones_removed(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    first, second, third = (cookie(log_in(service, name="ada", secret=ACCOUNTS["ada"])) for _ in range(3))
    assert [status(service, each) for each in (first, second, third)] == [401, 200, 200]
    now = time.time()
    monkeypatch.setattr(sessions.time, "time", lambda: now + sessions.LASTS + 1)
    assert status(service, third) == 401
    log_in(service, name="bob", secret=ACCOUNTS["bob"])
    assert len(service.ask(service.service.store.notes("session"))) == 1


def test_logging_out_clears_the_cookie(service: Live) -> None:
    answer = httpx2.post(f"{service.url}/studio/logout", headers={"origin": service.url}, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == LOGIN
    assert f'{COOKIE}=""' in answer.headers["set-cookie"]
    with httpx2.Client(base_url=service.url, headers={"origin": service.url}, trust_env=False) as browser:
        browser.post(LOGIN, data={"name": "ada", "secret": ACCOUNTS["ada"]})
        assert browser.get(JOBS).status_code == 200
        browser.post("/studio/logout")
        assert browser.get(JOBS).status_code == 401


@pytest.mark.slow
def test_the_login_page_runs_no_script(service: Live) -> None:
    answer = service.get(LOGIN)
    assert answer.status_code == 200 and "script" not in answer.headers["content-security-policy"]
    assert "Password or key" in answer.text
    shown = log_in(service, name="<b>x</b>", secret="y").text
    assert "<b>" not in shown
