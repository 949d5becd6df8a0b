"""Logging in on the studio's page: a key or an account becomes a session, which ends with what it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.server.live import Live, live

from flickbook.errors import RequestError
from flickbook.jobs import keys
from flickbook.server import limits
from flickbook.server.sessions import COOKIE, accounts_of
from flickbook.web.mount import mount

JOBS = "/api/v1/jobs"
LOGIN = "/studio/login"
ACCOUNTS = {"ada": "a long enough one", "bob": "another long one"}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(keys, "FRESH", 0.0)
    with live(tmp_path, mount, accounts=ACCOUNTS) as found:
        yield found


def log_in(service: Live, **form: str) -> httpx2.Response:
    return httpx2.post(service.url + LOGIN, data=form, headers={"origin": service.url}, follow_redirects=False)


def cookie(answer: httpx2.Response) -> dict[str, str]:
    assert answer.status_code == 303, answer.text
    told = answer.headers["set-cookie"].lower()
    assert "httponly" in told and "samesite=strict" in told
    return {"cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}


def status(service: Live, headers: dict[str, str], verb: str = "GET") -> int:
    if verb == "GET":
        return service.get(JOBS, headers=headers).status_code
    return service.post(JOBS, headers=headers, json={"prompt": "a red circle"}).status_code


def test_an_account_sees_and_makes_its_own(service: Live) -> None:
    assert status(service, {}) == 401
    ada, bob = (cookie(log_in(service, name=name, secret=word)) for name, word in ACCOUNTS.items())
    own = ada | {"origin": service.url}
    made = service.post(JOBS, headers=own, json={"prompt": "a red circle"})
    assert made.status_code == 201
    id = made.json()["id"]
    assert service.get(f"{JOBS}/{id}", headers=ada).status_code == 200
    assert service.get(f"{JOBS}/{id}", headers=bob).status_code == 404
    assert service.get(JOBS, headers=bob).json()["data"] == []


def test_a_key_becomes_a_session_that_ends_with_it(service: Live) -> None:
    key, headers = service.key("carol", "read")
    own = cookie(log_in(service, secret=headers["authorization"].removeprefix("Bearer ")))
    assert status(service, own) == 200
    # It may only read.
    assert status(service, own | {"origin": service.url}, "POST") == 403
    service.ask(service.guard.keys.revoke(key.id))
    assert status(service, own) == 401


def test_another_page_cannot_use_a_session(service: Live) -> None:
    own = cookie(log_in(service, name="ada", secret=ACCOUNTS["ada"]))
    assert status(service, own | {"origin": "https://elsewhere.example"}, "POST") == 403
    assert status(service, own, "POST") == 401, "no browser leaves the origin out"
    assert status(service, own | {"sec-fetch-site": "cross-site"}) == 401


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"),
        lambda text: text.replace("ada", "bob"),
        lambda text: text.replace("account.", "key."),
        lambda text: ".".join([*text.split(".")[:2], "99999999999", text.split(".")[3]]),
        lambda text: text.replace("account.", "account.account-"),
        lambda _: "account.ada.1.",
        lambda _: "",
    ],
)
def test_a_forged_session_opens_nothing(service: Live, change: object) -> None:
    own = cookie(log_in(service, name="ada", secret=ACCOUNTS["ada"]))
    forged = change(own["cookie"].partition("=")[2])  # type: ignore[operator]
    assert status(service, {"cookie": f"{COOKIE}={forged}"}) == 401


def test_wrong_passwords_are_told_and_then_not_heard(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = log_in(service, name="ada", secret="wrong")
    assert answer.status_code == 401 and "the name or the password is wrong" in answer.text
    assert "set-cookie" not in answer.headers
    monkeypatch.setattr(limits, "STRIKES", 3)
    for _ in range(3):
        log_in(service, name="ada", secret="wrong")
    assert log_in(service, name="bob", secret=ACCOUNTS["bob"]).status_code == 429


def test_logging_out_ends_it(service: Live) -> None:
    answer = httpx2.post(f"{service.url}/studio/logout", headers={"origin": service.url}, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == LOGIN
    assert f'{COOKIE}=""' in answer.headers["set-cookie"]
    with httpx2.Client(base_url=service.url, headers={"origin": service.url}, trust_env=False) as browser:
        browser.post(LOGIN, data={"name": "ada", "secret": ACCOUNTS["ada"]})
        assert browser.get(JOBS).status_code == 200
        browser.post("/studio/logout")
        assert browser.get(JOBS).status_code == 401


def test_the_page_to_log_in_runs_no_script(service: Live) -> None:
    answer = service.get(LOGIN)
    assert answer.status_code == 200 and "script" not in answer.headers["content-security-policy"]
    assert "Password or key" in answer.text
    shown = log_in(service, name="<b>x</b>", secret="y").text
    assert "<b>" not in shown


@pytest.mark.parametrize(("name", "password"), [("a b", "long enough"), ("ada", "short"), ("", "long enough")])
def test_accounts_have_plain_names_and_long_passwords(name: str, password: str) -> None:
    with pytest.raises(RequestError, match="auth"):
        accounts_of({name: password})
