"""What a film that is sent says of itself: a process of its own reads it, and the service goes on."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.media.bombs import gif, saved
from tests.media.hostile import harmless
from tests.server.live import live

from flickbook.errors import one_line
from flickbook.media.untrusted import probe
from flickbook.media.untrusted.probe import Budget, Pool

INSPECT = "/api/v1/recipes/inspect"


@pytest.mark.slow
def test_inspect_without_a_free_reader_is_429_with_retry_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "busy.gif").write_bytes(gif(8, 8, (0, 0, 1, 1), 9))
    small = Pool(children=1, waiting=0)
    monkeypatch.setattr(probe, "pool", lambda: small)
    limits = {"file_bytes": 1 << 20, "pixels": 64, "frames": 9, "decoded_bytes": 1 << 20}
    with (
        live(tmp_path) as service,
        closing(small.stream("video", tmp_path / "busy.gif", probe.DECODE, limits=limits)) as busy,
    ):
        next(busy)
        refused = service.post(INSPECT, files={"file": ("a.png", saved("PNG"))})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "limit_reached")
        assert int(refused.headers["retry-after"]) >= 1
        busy.close()
        assert service.post(INSPECT, files={"file": ("a.png", saved("PNG"))}).status_code == 200
    small.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system enforces no such limit")
def test_a_file_that_exceeds_a_limit_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.ask, "__defaults__", (Budget(memory_mib=1, cpu_seconds=10, seconds=60),))
    with live(tmp_path) as service:
        refused = service.post(INSPECT, files={"file": ("a.jpg", harmless()["exif.jpg"])})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["field"]) == (400, "invalid_request", "file")
    assert "needs more than 1 MiB of memory to read; make it shorter or smaller, or export it again" in error["message"]
    assert error["message"] == one_line(error["message"]) and str(tmp_path) not in error["message"]


@pytest.mark.slow
def test_the_server_process_loads_no_decoder(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from tests.server.live import live
with live(Path(sys.argv[1])) as service:
    sent = Path(sys.argv[2]).read_bytes()
    assert service.post("/api/v1/recipes/inspect", files={"file": ("a.gif", sent)}).status_code == 200
    form = {"request": '{"prompt": "a red circle", "num_frames": 2}'}
    answer = service.post("/api/v1/jobs", data=form, files={"video": ("a.gif", sent)})
    assert answer.status_code == 201, answer.text
print(sorted({"av", "torch"} & set(sys.modules)))
"""
    path = tmp_path / "a.gif"
    path.write_bytes(gif(8, 8, (0, 0, 8, 8), 9))
    command = [sys.executable, "-c", program, str(tmp_path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.stdout.strip() == "[]", done.stderr
