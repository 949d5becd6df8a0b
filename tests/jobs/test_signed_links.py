"""Links that need no key: they open one path, of one owner, for a while."""

from __future__ import annotations

import ast
import inspect
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.errors import RequestError
from flickbook.jobs import signed_links
from flickbook.jobs.api_keys import Key

SECRET = "0f" * 32
PATH = "/api/v1/files/job_0000000000000000000000000/film"


@pytest.mark.parametrize("path", [PATH, f"{PATH}?download=true"])
def test_a_link_is_valid_for_its_path(path: str) -> None:
    made = signed_links.link(SECRET, path, "ann")
    assert made.startswith(path)
    assert signed_links.is_valid(SECRET, made, "ann")


def test_a_link_is_invalid_for_other_paths_owners_and_secrets() -> None:
    made = signed_links.link(SECRET, PATH, "ann")
    assert not signed_links.is_valid(SECRET, made, "bob")
    assert not signed_links.is_valid("1f" * 32, made, "ann")
    assert not signed_links.is_valid(SECRET, made.replace("film", "recipe"), "ann")
    assert not signed_links.is_valid(SECRET, made.replace("?", "?download=true&"), "ann")
    assert not signed_links.is_valid(SECRET, PATH, "ann")


def test_a_link_is_bound_to_its_key() -> None:
    ann, bob = (Key.of(id=id, name=id, owner="ann", digest="0" * 64) for id in ("account-a+b@c", "bob"))
    made = signed_links.link(SECRET, PATH, "ann", key=ann)
    assert "&key=account-a%2Bb%40c&" in made
    assert signed_links.is_valid(SECRET, made, "ann", ann)
    assert not signed_links.is_valid(SECRET, made, "ann") and not signed_links.is_valid(SECRET, made, "ann", bob)
    changed = ann.model_copy(update={"digest": "1" * 64})
    assert not signed_links.is_valid(SECRET, made, "ann", changed), "an account whose password was changed"


def test_a_link_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    made, now = signed_links.link(SECRET, PATH, "", 60), time.time()
    monkeypatch.setattr(signed_links.time, "time", lambda: now + 58)
    assert signed_links.is_valid(SECRET, made, "")
    monkeypatch.setattr(signed_links.time, "time", lambda: now + 61)
    assert not signed_links.is_valid(SECRET, made, "")


def test_the_expiry_of_a_link_cannot_be_changed() -> None:
    made = signed_links.link(SECRET, PATH, "", 1)
    ends = made.partition("expires=")[2].partition("&")[0]
    assert not signed_links.is_valid(SECRET, made.replace(ends, str(int(ends) + 1000)), "")


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_the_lifetime_of_a_link_is_bounded(seconds: int) -> None:
    with pytest.raises(RequestError, match="seconds="):
        signed_links.link(SECRET, PATH, "", seconds)


@given(st.text(max_size=300))
def test_arbitrary_text_is_not_a_valid_link(text: str) -> None:
    assert not signed_links.is_valid(SECRET, text, "")


@given(st.integers(0, 63), st.sampled_from("0123456789abcdef"))
def test_every_digit_of_the_signature_counts(place: int, digit: str) -> None:
    made = signed_links.link(SECRET, PATH, "ann")
    start = len(made) - 64 + place
    changed = made[:start] + digit + made[start + 1 :]
    assert signed_links.is_valid(SECRET, changed, "ann") is (changed == made)


def test_signatures_are_compared_in_constant_time() -> None:
    calls = [
        node.func
        for node in ast.walk(ast.parse(inspect.getsource(signed_links.is_valid)))
        if isinstance(node, ast.Call)
    ]
    assert any(isinstance(each, ast.Attribute) and each.attr == "compare_digest" for each in calls)
    assert not [
        node for node in ast.walk(ast.parse(inspect.getsource(signed_links.is_valid))) if isinstance(node, ast.Eq)
    ]
