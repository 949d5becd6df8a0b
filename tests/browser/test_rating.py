"""The page for blind rating: by keys and buttons, kept over a reload, and downloaded, on a phone and on a screen."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser
from tests.patience import PATIENCE

from flickbook.learn.evaluation.page import animation
from flickbook.learn.evaluation.rate import entries, page

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [390, 1440])
def test_films_are_rated_and_the_ratings_kept_and_downloaded(browser: Browser, tmp_path: Path, width: int) -> None:
    rng = np.random.default_rng(0)
    films = [
        {
            "film": animation(rng.integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)),
            "prompt": prompt,
            "label": "",
            "group": "",
        }
        for prompt in ('a "red" circle', "=1+1", "a blue star on a very long sentence that goes on and on" * 3)
    ]
    file = tmp_path / "rate.html"
    file.write_text(page(entries(films, "m")), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 800}, accept_downloads=True)
    shown, wrong = context.new_page(), list[str]()
    shown.set_default_timeout(PATIENCE * 1000)
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on(
        "request", lambda request: None if request.url[:5] in ("file:", "data:", "blob:") else wrong.append(request.url)
    )
    shown.goto(file.as_uri())
    assert shown.inner_text("#count") == "film 1 of 3, 0 rated"
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    for key in "42b":
        shown.keyboard.press(key)
    assert shown.inner_text("#count") == "film 2 of 3, 1 rated", "a complete rating shows the next film"
    second = shown.inner_text("#prompt")
    shown.get_by_role("button", name="5").first.click()
    shown.reload()
    assert shown.inner_text("#count") == "film 2 of 3, 1 rated" and shown.inner_text("#prompt") == second
    assert shown.get_by_role("button", name="5").first.get_attribute("aria-pressed") == "true"
    shown.keyboard.press("ArrowLeft")
    assert shown.inner_text("#count").startswith("film 1 of 3")
    with shown.expect_download() as download:
        shown.get_by_role("button", name="Download CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    assert [list(row.values())[2:] for row in rows] == [["4", "2", "bad"], ["5", "", ""]]
    assert not any(row["prompt"].startswith("=") for row in rows), "a spreadsheet would run it"
    context.close()
    assert wrong == []
