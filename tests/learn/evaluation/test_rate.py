"""The page for blind rating: what it hides, and how several reports are mixed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flickbook.errors import MediaError
from flickbook.learn.evaluation.rate import KEY, PAGE, RATED, entries, key, page, read, shares

FILMS = [
    {
        "film": "data:image/webp;base64,AAAA",
        "prompt": "a <b>red</b> circle</script>",
        "group": "core",
        "label": "seed 7",
    },
    {"film": "data:image/webp;base64,BBBB", "prompt": "a blue star", "group": "core", "label": "seed 8"},
]


def report(directory: Path, model: str) -> Path:
    directory.mkdir()
    films = entries([{**film, "film": film["film"] + model} for film in FILMS], model)
    (directory / PAGE).write_text(page(films), encoding="utf-8")
    (directory / KEY).write_text(key(films), encoding="utf-8")
    return directory


def test_the_page_names_neither_model_nor_seed() -> None:
    text = page(entries(FILMS, "secret-model"))
    assert "secret" not in text and "seed" not in text and "core" not in text
    assert "<b>red" not in text and text.count("</script>") == 2, "a prompt cannot end the script"
    assert not re.search(r"https?://|src=\"[^d]", text), "it needs nothing else"
    data = json.loads(re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)[0])
    assert {film["prompt"] for film in data["films"]} == {film["prompt"] for film in FILMS}


def test_the_key_says_whose_each_film_is() -> None:
    rows = list(csv.DictReader(io.StringIO(key(entries(FILMS, "m")))))
    assert {(row["model"], row["label"]) for row in rows} == {("m", "seed 7"), ("m", "seed 8")}
    assert len({row["id"] for row in rows}) == 2


def test_the_films_of_two_reports_are_mixed(tmp_path: Path) -> None:
    first, second = (read(report(tmp_path / name, name)) for name in ("one", "two"))
    both = [*first, *second]
    ids = json.loads(re.findall(r'id="data">(.*?)</script>', page(both), re.DOTALL)[0])["films"]
    assert len(ids) == 4 and [film["id"] for film in ids] == sorted(film["id"] for film in both)
    assert {film["model"] for film in both} == {"one", "two"}


def test_reports_have_equal_shares_of_a_page() -> None:
    sizes = {"one": 100, "two": 100, "three": 5}
    reports = [[{"id": f"{name}-{number}", "model": name} for number in range(size)] for name, size in sizes.items()]
    listed = shares(reports)
    assert Counter(film["model"] for film in listed) == {"one": 33, "two": 33, "three": 5}
    places = [int(film["id"].partition("-")[2]) for film in listed if film["model"] == "one"]
    assert (places[0], places[-1]) == (0, 99) and max(np.diff(places)) < 5, "spread over the whole report"
    assert len(shares(reports[:1])) == RATED == 100 and len(shares([reports[0], reports[0]])) == 50


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no rate.html"):
        read(tmp_path)
    damaged = report(tmp_path / "damaged", "m")
    (damaged / PAGE).write_text('<script type="application/json" id="data">{</script>', encoding="utf-8")
    with pytest.raises(MediaError, match="cannot be read"):
        read(damaged)
