"""The list of earlier jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from flickbook.desktop.history import History, age, state_of
from flickbook.desktop.sources.source import Entry
from flickbook.desktop.widgets.theme import Theme
from flickbook.resolution import resolve
from flickbook.spec import Request

PLAN = resolve(Request.of(prompt="a red circle moving left on a blue background", seed=7))
WAITING = Entry("job_a", "film", "queued", PLAN, 0.0)


@pytest.fixture
def opened(root: Any) -> tuple[History, list[str]]:
    ids: list[str] = []
    found = History(root, Theme(root), lambda entry: ids.append(entry.id))
    found.pack(fill="both", expand=True)
    root.update()
    return found, ids


def test_it_keeps_the_order_of_the_newest_and_what_it_has(opened: tuple[History, list[str]], root: Any) -> None:
    history, ids = opened
    assert history.fill([WAITING]) == []
    done = replace(WAITING, id="job_b", state="completed", made=True)
    assert history.fill([done, WAITING]) == [done]
    history.picture("job_b", Image.new("RGB", (64, 64), "red"))
    assert history.fill([replace(WAITING, id="job_c"), done]) == []
    assert [entry.id for entry in history.entries] == ["job_c", "job_b"]
    history.put(replace(WAITING, id="job_d"))
    assert [entry.id for entry in history.entries] == ["job_d", "job_c", "job_b"]
    history.select("job_b")
    root.update()
    assert ids == []  # whoever marks it knows already
    history.tree.selection_set("job_c")
    root.update()
    assert ids == ["job_c"]
    history.clear()
    assert history.entries == []


def test_long_prompts_are_cut(opened: tuple[History, list[str]], root: Any) -> None:
    history, _ = opened
    history.fill([replace(WAITING, plan=PLAN.model_copy(update={"prompt": "word " * 300}))])
    root.update()
    text = history.tree.item("job_a", "text")
    assert text.count("\n") == 2 and text.endswith("\nwaiting") and "…" in text


def test_a_training_is_called_one(opened: tuple[History, list[str]], root: Any) -> None:
    history, _ = opened
    history.fill([replace(WAITING, kind="tune")])
    root.update()
    assert history.tree.item("job_a", "text").startswith("Training: a red")


def test_states_in_words() -> None:
    assert state_of(replace(WAITING, state="running", fraction=0.42)) == "42 %"
    assert state_of(replace(WAITING, state="running", stopping="cancel")) == "stopping"
    assert state_of(replace(WAITING, state="running", stopping="pause")) == "pausing"
    assert state_of(replace(WAITING, state="paused")) == "paused"
    assert state_of(replace(WAITING, state="completed")) == "file deleted"
    assert state_of(replace(WAITING, state="failed")) == "failed"
    assert [age(seconds) for seconds in (3, 120, 7200, 200_000)] == ["just now", "2 min ago", "2 h ago", "2 d ago"]
