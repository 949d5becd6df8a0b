"""What every store finds: jobs that are marked, jobs by their words."""

from __future__ import annotations

import pytest
from tests.blocking import Blocking
from tests.store.examples import PLAN, job

from flickbook.store.base import Job, Note, Query, new_id

PROMPTS = (
    "A red circle",
    "Ein ROTER Würfel, 50% größer",
    "a_b 50 x",
    'she says "stop"\nand \\ goes',
    "КРАСНЫЙ круг 🎬 é",
    "nothing",
)


def ids(jobs: list[Job]) -> list[str]:
    return [each.id for each in jobs]


def test_find_returns_jobs_with_a_note(store: Blocking) -> None:
    added = ids(store.add([job(owner="ab"[i % 2]) for i in range(6)]))
    for id in (added[0], added[1], added[4], new_id("job")):
        store.put(Note(kind="mark", id=id))
    store.put(Note(kind="other", id=added[2]))
    assert ids(store.find(Query(noted="mark"))) == [added[4], added[1], added[0]]
    assert ids(store.find(Query(noted="mark", owner="a", states=("queued",)))) == [added[4], added[0]]
    assert ids(store.find(Query(noted="mark", after=added[4], limit=1))) == [added[1]]
    assert ids(store.find(Query(noted="mark", after=added[0], order="old"))) == [added[1], added[4]]
    assert store.find(Query(noted="mark", states=("failed",))) == store.find(Query(noted="none")) == []
    store.drop("mark", added[4])
    assert ids(store.find(Query(noted="mark"))) == [added[1], added[0]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RED C", [0]),
        ("roter wÜrfel", [1]),
        ("50%", [1]),
        ("a_b", [2]),
        ("a.b", []),
        ("50", [2, 1]),
        ('"STOP"', [3]),
        ("\n", [3]),
        ("\\ GOES", [3]),
        ("красный КРУГ 🎬 É", [4]),
        ("u043", []),
        ('"nand', []),
        ("ugly", []),
        ("prompt", []),
        (" ", [4, 3, 2, 1, 0]),
        ("", [5, 4, 3, 2, 1, 0]),
    ],
)
def test_find_searches_words_of_the_prompt(store: Blocking, text: str, found: list[int]) -> None:
    plan = PLAN.model_copy(update={"negative_prompt": "ugly"})
    jobs = [job(plan=plan.model_copy(update={"prompt": prompt})) for prompt in PROMPTS]
    added = ids(store.add(jobs))
    assert [added.index(id) for id in ids(store.find(Query(text=text)))] == found


def test_text_search_combines_with_other_filters(store: Blocking) -> None:
    added = ids(store.add([job(owner="ab"[i % 2]) for i in range(6)]))
    assert ids(store.find(Query(text="circle", owner="a", limit=2))) == [added[4], added[2]]
    assert ids(store.find(Query(text="circle", owner="a", after=added[2]))) == [added[0]]
    store.put(Note(kind="mark", id=added[1]))
    assert ids(store.find(Query(text="circle", noted="mark"))) == [added[1]]
    assert store.find(Query(text="square")) == []
