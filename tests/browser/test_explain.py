"""The page of `flickbook explain` in a browser: keyboard, words, narrow and wide, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.explain.runs import short

from flickbook.explain.page import page
from flickbook.explain.report import numbers_of

pytestmark = [pytest.mark.slow, pytest.mark.model]


def pixels(shown: Page, canvas: str) -> Any:
    return shown.evaluate(f"document.getElementById('{canvas}').toDataURL()")


def test_keys_choose_step_frame_and_word_and_nothing_is_requested(browser: Browser, tmp_path: Path) -> None:
    place = tmp_path / "index.html"
    place.write_text(page(short(), numbers_of(short()), []), encoding="utf-8")
    for width, scheme in ((1440, "light"), (390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        shown, wrong = context.new_page(), list[str]()
        shown.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
        shown.on("request", lambda request, wrong=wrong: wrong.append(request.url))
        shown.goto(place.as_uri())
        shown.wait_for_function("[...sheets.values()].every((each) => each.complete)")
        for slider, output, canvas in (("#step", "3 of 3", "x0"), ("#frame", "4 of 4", "x_t")):
            before = pixels(shown, canvas)
            shown.locator(slider).press("End")
            assert shown.locator(f"{slider}-now").text_content() == output
            assert pixels(shown, canvas) != before
        before = pixels(shown, "film")
        shown.locator("input[name=word]:checked").press("ArrowRight")
        assert pixels(shown, "film") != before
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert [url for url in wrong if not url.startswith(("data:", place.as_uri()))] == []
        context.close()
