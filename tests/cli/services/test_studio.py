"""`flickbook studio` as a process: it says where its page is, shares nothing without a login, and ends well."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.patience import PATIENCE


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flickbook", "studio", "--no-browser", "--port", "0", *words]
    env = os.environ | {"XDG_DATA_HOME": str(place)}
    return subprocess.Popen(command, env=env, cwd=place, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_studio_prints_its_address_and_ends_with_a_signal(tmp_path: Path) -> None:
    process = start(tmp_path, "--workers", "0")
    assert process.stderr is not None
    output = ""
    while not (found := re.search(r"the studio is at (\S+)", output)):
        assert process.poll() is None, output
        output += process.stderr.readline()
    page = httpx2.get(found[1])
    assert page.status_code == 200 and "Flickbook studio" in page.text
    # A page holds a stream open that has no end of its own.
    with httpx2.stream("GET", f"{found[1]}gradio_api/heartbeat/abc", timeout=PATIENCE):
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--share"], "--share: anyone with the address could use the studio, and there is no login; add --auth"),
        (["--auth", "ada"], "--auth ada: has no password; write NAME:PASSWORD"),
        (["--auth", "ada:short"], "--auth ada: has a password of 5 characters, must be 8 or more"),
        (["--host", "0.0.0.0"], "--host 0.0.0.0: other machines can reach this address"),
    ],
)
def test_unsafe_options_are_refused_in_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    process = start(tmp_path, *words)
    _, output = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and output.count("\n") == 1 and message in output, output
