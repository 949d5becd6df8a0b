"""API keys: told once, kept as a hash, found by their public part, compared in constant time."""

from __future__ import annotations

import ast
import asyncio
import inspect
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

from flickbook.errors import RequestError
from flickbook.jobs import api_keys
from flickbook.jobs.api_keys import Keys, digest, public
from flickbook.store.base import Store
from flickbook.store.sqlite.store import SqliteStore

T = TypeVar("T")


def on(place: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    """What `work` returns on an open store."""

    async def main() -> T:
        store = SqliteStore(place / "flickbook.db")
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


def test_a_key_is_found_only_by_its_full_text(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        made = Keys(store)
        assert not await made.exist()
        key, token = await made.create("laptop")
        assert (key.owner, key.scopes, key.state) == ("laptop", ("read", "create"), "live")
        assert await made.exist()
        assert await made.find(token) == key
        for wrong in (token[:-1], token + "A", token.swapcase(), public(token), key.digest, "", "fb_", "\ud800"):
            assert await made.find(wrong) is None

    on(tmp_path, work)


def test_a_key_has_256_random_bits_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    async def work(store: Store) -> str:
        tokens = [(await Keys(store).create(f"n{number}"))[1] for number in range(5)]
        assert len({token for token in tokens}) == 5
        assert all(len(token.split("_", 2)[2]) == 43 for token in tokens)
        return tokens[0]

    token = on(tmp_path, work)
    secret = token.split("_", 2)[2].encode()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret not in kept
    assert digest(token).encode() in kept


def test_a_key_expires_and_can_be_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(store: Store) -> None:
        made = Keys(store)
        short, token = await made.create("short", seconds=60)
        other, _ = await made.create("other")
        assert (await made.revoke(other.id)).state == "revoked"
        assert [key.state for key in await made.list()] == ["live", "revoked"]
        now = time.time()
        monkeypatch.setattr(api_keys.time, "time", lambda: now + 61)
        found = await made.find(token)
        assert found is not None and found.state == "expired"
        assert (await made.revoke(short.id)).state == "revoked"

    on(tmp_path, work)


def test_another_process_sees_a_change_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.monotonic()
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: clock)

    async def work(store: Store) -> None:
        other = SqliteStore(tmp_path / "flickbook.db")
        await other.open()
        here, there = Keys(store), Keys(other)
        assert not await there.exist()
        key, token = await here.create("ci")
        nonlocal clock
        clock += api_keys.FRESH
        found = await there.find(token)
        assert found is not None and found.state == "live"
        await here.revoke(key.id)
        clock += api_keys.FRESH
        found = await there.find(token)
        assert found is not None and found.state == "revoked"
        await other.close()

    on(tmp_path, work)


def test_invalid_names_owners_and_scopes_are_refused(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        made = Keys(store)
        for name in ("", "a b", "-x", "x" * 65, "a\n"):
            with pytest.raises(RequestError, match="name="):
                await made.create(name)
        with pytest.raises(RequestError, match="owner="):
            await made.create("a", owner="../b")
        with pytest.raises(RequestError, match="scope=root"):
            await made.create("a", scopes=["root"])
        with pytest.raises(RequestError, match="no such key"):
            await made.revoke("nothing")
        await made.create("team")
        with pytest.raises(RequestError, match="share its jobs with --owner team"):
            await made.create("team")
        shared, _ = await made.create("team-2", owner="team", scopes=["create", "read"])
        assert (shared.owner, shared.scopes) == ("team", ("read", "create"))

    on(tmp_path, work)


def test_keys_are_compared_in_constant_time_and_nothing_branches_on_their_text() -> None:
    tree = ast.parse(inspect.getsource(api_keys))
    (find,) = (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name == "find")
    called = [node.func.attr for node in ast.walk(find) if isinstance(node, ast.Call) and hasattr(node.func, "attr")]
    assert "compare_digest" in called
    for node in ast.walk(find):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Compare):
            condition = node.test if not isinstance(node, ast.Compare) else node
            assert "token" not in {each.id for each in ast.walk(condition) if isinstance(each, ast.Name)}


def test_a_half_right_key_runs_the_same_lines_as_a_wrong_one(tmp_path: Path) -> None:
    """Work is compared, not time: every call and every line of `api_keys` that a lookup reaches."""

    async def work(store: Store) -> set[tuple[tuple[str, int], ...]]:
        made = Keys(store)
        _, token = await made.create("a")
        await made.find("fb_")  # reads the keys, so that no lookup below does
        chance, found = random.Random(5), set[tuple[tuple[str, int], ...]]()
        for number in range(200):
            known = len(public(token)) + number % (len(token) - len(public(token)) - 1)
            other = "".join(chance.choices("abcdefgh", k=len(token)))
            found.add(await traced(made, token[:known] + other[known:]))
        return found

    assert len(on(tmp_path, work)) == 1


async def traced(keys: Keys, text: str) -> tuple[tuple[str, int], ...]:
    """The lines of `api_keys` that a lookup of a wrong key runs, and the calls that it makes."""
    seen: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != api_keys.__file__:
            return None
        seen.append((event, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = await keys.find(text)
    finally:
        sys.settrace(before)
    assert found is None and len(seen) > 4
    return tuple(seen)
