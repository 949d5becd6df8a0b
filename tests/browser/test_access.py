"""The studio for those who use no mouse, no eyes, or a small screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.browser.chromium import FILM, Seen, jobs
from tests.browser.test_studio import VIDEO, made
from tests.patience import until

pytestmark = pytest.mark.slow
#: npm's axe-core, which `make browser` fetches.
AXE = Path(__file__).parents[2] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
TABS = ("Film", "Picture", "Sequence", "Shots", "Batch", "Tune", "Gallery", "Models")
CLIPS = Path(__file__).parents[2] / "examples" / "clips"
RUN = """async () => (await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21aa"]})).violations.flatMap(
  (each) => each.nodes.map((node) => [each.impact, each.id, node.target.join(" "), node.html.slice(0, 160)]))"""


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not here: make browser")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, url: str, scheme: Any) -> None:
    made(url)
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    seen = Seen.at(page, url)
    page.add_script_tag(path=AXE)
    found = []
    for tab in TABS:
        seen.tab(tab)
        if tab == "Tune":  # with a clip and the report on it
            form = page.get_by_role("tabpanel").filter(visible=True)
            form.get_by_label("clips and captions").set_input_files([CLIPS / "000.mp4", CLIPS / "000.txt"])
            form.get_by_label("Name of the LoRA").fill("zigzag")
            seen.press("Check")
            form.locator("flickbook-report table").first.wait_for()
        page.wait_for_timeout(700)
        found += [(tab, *each) for each in page.evaluate(RUN) if each[0] in ("serious", "critical")]
    context.close()
    assert found == []


def test_a_film_is_made_by_keys_alone(seen: Seen) -> None:
    page, before = seen.page, len(jobs(seen.url))
    page.get_by_label("Prompt", exact=True).first.focus()
    page.keyboard.type(FILM)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "fb-make":
            break
    assert page.evaluate("document.activeElement.id") == "fb-make"
    page.keyboard.press("Enter")
    until(lambda: len(jobs(seen.url)) == before + 1)
    page.wait_for_selector(VIDEO)


@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_nothing_hangs_over_the_edge(browser: Browser, url: str, width: int) -> None:
    made(url)
    seen = Seen.at(browser.new_context(viewport={"width": width, "height": 900}).new_page(), url)
    seen.page.wait_for_selector(VIDEO)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.faults() == []
    seen.page.context.close()
