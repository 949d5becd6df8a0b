"""The studio as a person waits for it: `python -m bench.studio [--rounds 5] [--json]`.

A true `flickbook studio` with one worker, and Chromium. Seconds, after a first film has warmed both: until the page can
be used, from the click to the first preview of the built-in model, and from a click on cancel until the page shows it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

GOALS = {"page ready": 2.0, "first preview": 1.5, "cancel shown": 1.0}
_PREVIEW = "flickbook-stage img.fb-preview:visible"
_STOPPING = "() => /stopping|cancelled/i.test(document.querySelector('flickbook-stage .fb-status')?.textContent)"


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, by what is waited for."""
    from playwright.sync_api import sync_playwright
    from tests.browser.chromium import FILM, Seen, browser, studio

    found: dict[str, list[float]] = {name: [] for name in GOALS}
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright, studio(Path(place)) as url:
        seen = Seen.at(browser(playwright).new_page(viewport={"width": 1440, "height": 1000}), url)
        page = seen.page
        for number in range(rounds + 1):
            began = time.perf_counter()
            seen.open()
            ready = time.perf_counter() - began
            page.get_by_label("Prompt", exact=True).first.fill(FILM)
            seen.steps(100)
            began = time.perf_counter()
            seen.press("Make the film")
            page.wait_for_selector(_PREVIEW)
            first = time.perf_counter() - began
            began = time.perf_counter()
            seen.press("Cancel")
            page.wait_for_function(_STOPPING)
            cancelled = time.perf_counter() - began
            seen.status("cancelled")
            if number:  # the first one warms the worker and the browser
                for name, seconds in zip(GOALS, (ready, first, cancelled), strict=True):
                    found[name].append(seconds)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.studio", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        found = measure(given.rounds)
    except ImportError as error:
        print(f"error: {error.name} is not here; make browser", file=sys.stderr)
        sys.exit(2)
    if given.json:
        print(json.dumps(found))
        return
    for name, seconds in found.items():
        told = f"median {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"
        print(f"{name:14} {told}, goal {GOALS[name]:.1f} s")


if __name__ == "__main__":
    main()
