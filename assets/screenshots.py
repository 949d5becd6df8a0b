"""The pictures of the studio and the window in README and docs, from the real ones: `make screenshots`.

A studio is started on an empty directory, films are made by the built-in model, and Chromium looks at it.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from PIL import Image
from playwright.sync_api import sync_playwright
from tests.browser.chromium import Seen, browser, studio
from tests.desktop.conftest import shown, until, xdotool

from flickbook.jobs.backend import Backend
from flickbook.store.base import Query

HERE = Path(__file__).parent
FILMS = (
    "a neon city in the rain with flying vehicles",
    "shooting stars over hills",
    "a green square growing on a white background",
    "two yellow balls bouncing on a gray floor",
    "a red circle moving left on a blue background",
)
EMERGING = "() => document.querySelector('flickbook-stage .fb-status')?.textContent.match(/step (1[4-9]|2[0-9]) of/)"


def page(place: Path) -> None:
    """The studio with a film that emerges, and its gallery."""
    with studio(place) as url, sync_playwright() as playwright:
        for prompt in FILMS:
            made = httpx2.post(f"{url}/v1/videos/sync", json={"prompt": prompt, "seed": 1}, timeout=120)
            made.raise_for_status()
        seen = Seen.at(browser(playwright).new_page(viewport={"width": 1440, "height": 900}), url)
        seen.page.get_by_label("Prompt", exact=True).first.fill("a peaceful sunset over mountain ranges")
        seen.page.get_by_label("Seed", exact=True).first.fill("1")
        seen.press("Make the film")
        seen.page.wait_for_function(EMERGING)
        save(Image.open(io.BytesIO(seen.page.screenshot())), "studio")
        seen.page.wait_for_selector("flickbook-stage video:visible")
        seen.tab("Gallery")
        seen.page.wait_for_function(
            "(count) => [...document.querySelectorAll('.fb-card img')].filter((each) => each.naturalWidth).length"
            " > count",
            arg=len(FILMS),
        )
        save(Image.open(io.BytesIO(seen.page.screenshot())), "studio-gallery")


def window(place: Path) -> None:
    """The window on the same films, with one more on its way."""
    os.environ |= {"XDG_DATA_HOME": str(place), "FLICKBOOK_THREADS": "1"}
    os.chdir(place)
    with screen() as display, shown(display) as seen, Backend.at() as backend:
        xdotool(display, "windowsize", "--sync", seen.id, "1180", "760")
        xdotool(display, "windowmove", "--sync", seen.id, "0", "0")
        seen.type("a neon city in the rain with flying vehicles")
        seen.press("Return")

        def half() -> bool:
            running = backend.ask(backend.store.find(Query(states=("running",))))
            return bool(running) and backend.artifacts.progress(running[0].id).get("index", 0) >= 14

        until(half)
        time.sleep(1.0)  # for the preview
        save(seen.grab().crop((0, 0, 1180, 760)), "desktop")


@contextmanager
def screen() -> Iterator[str]:
    """An X server without a screen, by its name."""
    words = ["Xvfb", "-displayfd", "1", "-screen", "0", "1440x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        yield ":" + re.sub(r"\D", "", server.stdout.readline())
    finally:
        server.terminate()
        server.wait(10)


def save(picture: Image.Image, name: str) -> None:
    """Write a picture as WebP, which takes about a third of PNG: git keeps every version of a picture."""
    picture.convert("RGB").save(HERE / f"{name}.webp", quality=92, method=6)


def main() -> None:
    """Make them."""
    with tempfile.TemporaryDirectory() as name:
        page(Path(name))
        window(Path(name))


if __name__ == "__main__":
    main()
