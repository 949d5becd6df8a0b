"""A browser and a studio for the tests that look at pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.browser import chromium
from tests.browser.chromium import CHROMIUM, Seen


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for longer: while Playwright is there it runs an event loop in this thread, and no other test can run one."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with sync_playwright() as playwright:
        found = chromium.browser(playwright)
        yield found
        found.close()


@pytest.fixture(scope="module")
def url(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio without keys, and a worker behind it."""
    with chromium.studio(tmp_path_factory.mktemp("studio")) as found:
        yield found


@pytest.fixture
def seen(browser: Browser, url: str) -> Iterator[Seen]:
    """Its page, on which nothing may go wrong."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    found = Seen.at(context.new_page(), url)
    yield found
    context.close()
    assert found.faults() == []
