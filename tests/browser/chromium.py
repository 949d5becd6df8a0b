"""Debian's Chromium, driven by Playwright, and a true `flickbook studio` for it to look at."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright
from tests.patience import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
FILM = "a red circle moving left on a blue background"


def browser(playwright: Playwright) -> Browser:
    """A browser without a window."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@contextmanager
def studio(place: Path, *words: str) -> Iterator[str]:
    """`flickbook studio` with its data in `place`, for as long as the block lasts: its address."""
    env = os.environ | {"XDG_DATA_HOME": str(place), "OMP_NUM_THREADS": "1", "FLICKBOOK_THREADS": "1"}
    output = place / "output.txt"
    command = [sys.executable, "-m", "flickbook", "studio", "--no-browser", "--port", "0", *words]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdin=subprocess.DEVNULL, env=env, cwd=place)
    try:
        until = time.monotonic() + PATIENCE
        while not (match := re.search(r"the studio is at (\S+)/studio/", output.read_text(encoding="utf-8"))):
            assert process.poll() is None and time.monotonic() < until, output.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield match[1]
    finally:
        process.terminate()
        process.wait(PATIENCE)


@dataclass
class Seen:
    """A page, and what a person would never see of it: errors, and requests that go elsewhere."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    @classmethod
    def at(cls, page: Page, url: str) -> Seen:
        """The studio on a page."""
        seen = cls(page, url)
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: seen.wrong.append(f"error: {error}"))
        page.on("console", seen._hear)
        page.on("request", lambda request: seen._check_url(request.url))
        seen.open()
        return seen

    def _hear(self, line: ConsoleMessage) -> None:
        url = line.location.get("url", "")
        # A film that is completed while its preview is requested has none any more, and the page goes on.
        if line.type == "error" and not ("404" in line.text and url.endswith("/preview")):
            self.wrong.append(f"said: {line.text} {url}")

    def _check_url(self, url: str) -> None:
        if not url.startswith((self.url, "blob:", "data:")):
            self.wrong.append(f"asked: {url}")

    def faults(self) -> list[str]:
        """What went wrong, without the texts the test expects (they may arrive after its last line)."""
        return [each for each in self.wrong if not any(text in each for text in self.expected)]

    def open(self) -> None:
        """Load the page, anew if it is there already."""
        self.page.goto(f"{self.url}/studio/")
        self.page.wait_for_selector("#fb-make")
        self.page.wait_for_selector("flickbook-stage .fb-screen")

    def tab(self, name: str) -> None:
        """Go to a tab."""
        self.page.get_by_role("tab", name=name).click()

    def backend(self, name: str) -> Any:
        """The form and the stage of a tab."""
        self.tab(name)
        return self.page.get_by_role("tabpanel").filter(visible=True)

    def press(self, name: str) -> None:
        """Press the visible button of this name."""
        self.page.get_by_role("button", name=name, exact=True).filter(visible=True).first.click()

    def more(self) -> None:
        """Unfold the other actions of the film on the stage."""
        self.page.locator(".fb-more > summary").filter(visible=True).first.click()

    def number(self, label: str, value: int) -> None:
        """Set a number of the visible tab: "Steps", "Frames"."""
        # A label may end with what the number means: "Frames (2.0 s)".
        box = self.page.get_by_label(re.compile(rf"^number input for {label}( \(|$)")).filter(visible=True)
        box.fill(str(value))
        box.press("Tab")

    def status(self, words: str) -> None:
        """Wait until the stage says so."""
        self.page.locator("flickbook-stage .fb-status").filter(visible=True).get_by_text(words).wait_for()


def jobs(url: str, **words: str) -> list[dict[str, Any]]:
    """The jobs of a service without keys, the newest first."""
    found = httpx2.get(f"{url}/api/v1/jobs", params=words).json()["data"]
    assert isinstance(found, list)
    return found
