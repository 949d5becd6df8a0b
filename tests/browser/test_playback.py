"""What Flickbook writes plays in a browser: Chromium, where there is one, shows the right colours at the right time."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flickbook.media.clip import Clip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FILMS = {
    "h264.mp4": {},
    "av1.mp4": {"codec": "av1"},
    "vp9.webm": {},
    "av1.webm": {"codec": "av1"},
    "ten.webm": {"codec": "av1", "pixel_format": "yuv420p10le"},
}
PICTURES = ("film.gif", "film.webp", "film.apng")
#: Says of each film its size, seconds and the colour at its middle, and of each picture the like.
PAGE = """<pre id=told></pre><script>
const told = {};
function tell(name, what) { told[name] = what; document.getElementById("told").textContent = JSON.stringify(told); }
function colour(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0);
  return [...context.getImageData(width / 2, height / 2, 1, 1).data];
}
for (const name of %s) {
  const film = document.createElement("video");
  film.muted = true; film.src = name;
  film.onerror = () => tell(name, film.error.message);
  film.requestVideoFrameCallback(() => { const [w, h] = [film.videoWidth, film.videoHeight];
    tell(name, {width: w, height: h, seconds: film.duration, colour: colour(film, w, h)}); });
  document.body.append(film);
  film.play();
}
for (const name of %s) {
  const picture = new Image();
  picture.onerror = () => tell(name, "error");
  picture.onload = () => { const [w, h] = [picture.naturalWidth, picture.naturalHeight];
    tell(name, {width: w, height: h, colour: colour(picture, w, h)}); };
  picture.src = name;
  document.body.append(picture);
}
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: Any) -> None:
        """Nothing."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where a browser finds the files of the test's directory."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_chromium_plays_what_is_written(tmp_path: Path, address: str) -> None:
    frames = np.empty((8, 64, 96, 3), np.uint8)
    frames[:] = (210, 60, 40)
    for name, how in FILMS.items():
        Clip(frames, 8.0).save(tmp_path / name, **how)  # type: ignore[arg-type]
    for name in PICTURES:
        Clip(frames, 8.0).save(tmp_path / name)
    (tmp_path / "page.html").write_text(PAGE % (json.dumps(list(FILMS)), json.dumps(PICTURES)), encoding="utf-8")
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--timeout=20000", "--dump-dom"]
    words += ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}", f"{address}/page.html"]
    # Into a file, and killed as a group: a browser's children outlive it, and would hold a pipe open.
    with (tmp_path / "dom.html").open("w+", encoding="utf-8") as dom:
        browser = subprocess.Popen(words, stdout=dom, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            browser.wait(timeout=90)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
    shown = (tmp_path / "dom.html").read_text(encoding="utf-8")
    found = re.search('<pre id="told">(.*?)</pre>', shown)
    assert found is not None, shown[-500:]
    told = json.loads(html.unescape(found[1]))
    assert set(told) == {*FILMS, *PICTURES}
    for name, facts in told.items():
        assert isinstance(facts, dict), f"{name}: {facts}"
        assert (facts["width"], facts["height"]) == (96, 64), name
        assert np.abs(np.subtract(facts["colour"][:3], (210, 60, 40))).max() <= 6, (name, facts)
    assert all(abs(told[name]["seconds"] - 1) < 0.2 for name in FILMS)
