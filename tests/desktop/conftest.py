"""What the tests of the window share: an X server without a screen, the window on it, and fingers."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageGrab
from tests.patience import PATIENCE

import flickbook
from flickbook.jobs.backend import Backend
from flickbook.store.base import Job, Query

SOURCE = Path(flickbook.__file__).parents[1]
#: What makes a film of the built-in model in a moment.
QUICK = {"num_frames": "4", "num_inference_steps": "2", "seed": "7"}
#: Tk ends the program if it is freed by another thread than its own, and Python frees where it happens to be.
_KEPT: list[Any] = []
MISSING = [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]
MISSING += [] if find_spec("tkinter") and find_spec("_tkinter") else ["tkinter"]
#: These import it; those that need the display say in their place that it is missing.
collect_ignore = [f"test_{name}.py" for name in ("form", "history", "player", "stage", "window")]
collect_ignore = collect_ignore if "tkinter" in MISSING else []


def until(what: Callable[[], Any], meanwhile: Callable[[], Any] = lambda: time.sleep(0.05)) -> Any:
    """What `what` gives once it gives something."""
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        meanwhile()
    return found


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """An X server of our own, by its name."""
    if MISSING:
        pytest.skip(f"no {' and no '.join(MISSING)} here")
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1440x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait(PATIENCE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's jobs are kept, for this process and those that it starts."""
    monkeypatch.setenv("FLICKBOOK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FLICKBOOK_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def backend(place: Path) -> Iterator[Backend]:
    """The queue that the window works on."""
    with Backend.at() as found:
        yield found


def only(backend: Backend) -> Job | None:
    """The one job that there is."""
    found = backend.ask(backend.store.find(Query()))
    assert len(found) < 2
    return found[0] if found else None


class Screen:
    """A window in a process of its own, as somebody sees it who has a keyboard."""

    def __init__(self, display: str, process: subprocess.Popen[str], id: str) -> None:
        self.display, self.process, self.id = display, process, id

    def press(self, *keys: str) -> None:
        for key in keys:
            xdotool(self.display, "key", key)

    def type(self, text: str) -> None:
        xdotool(self.display, "type", "--delay", "5", text)

    def grab(self) -> Image.Image:
        return ImageGrab.grab(xdisplay=self.display)

    def end(self) -> tuple[int, str]:
        """The exit code of the window's process once it has ended, and all that it printed."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out + err


def xdotool(display: str, *words: str) -> str:
    ran = subprocess.run(["xdotool", *words], env=os.environ | {"DISPLAY": display}, capture_output=True, text=True)
    return ran.stdout.strip()


def seen(picture: Image.Image, colour: np.ndarray) -> float:
    """The share of a picture that is of this colour, or nearly."""
    away = np.abs(np.asarray(picture.convert("RGB"), np.int16) - colour.astype(np.int16)).max(axis=-1)
    return float((away <= 14).mean())


@contextmanager
def shown(display: str, *arguments: str) -> Iterator[Screen]:
    """`flickbook desktop`, once it is on the screen, has the keyboard and can be asked."""
    environment = os.environ | {"DISPLAY": display, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "flickbook", "desktop", *arguments]
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    try:
        id = until(lambda: xdotool(display, "search", "--onlyvisible", "--name", "^Flickbook$").split("\n")[-1])
        xdotool(display, "windowfocus", "--sync", id)
        screen = Screen(display, process, id)
        from flickbook.desktop.widgets.theme import ACCENT  # which needs Tk

        # Its button has that colour, and the black of the empty screen is far from it.
        until(lambda: seen(screen.grab(), np.array(ImageColor.getrgb(ACCENT))) > 0.005)
        yield screen
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=PATIENCE)


@pytest.fixture
def root(display: str) -> Iterator[Any]:
    """Tk in this process, on the X server."""
    import tkinter

    found = tkinter.Tk(screenName=display, className="Flickbook")
    yield found
    _KEPT.append(found)
    with suppress(tkinter.TclError):  # the test may have closed it
        found.destroy()
    gc.collect()
