"""The studio in the service: who sees it, what of Gradio is reached, and what it costs before."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest
from tests.server.live import Live, live

from flickbook.web.mount import mount

HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("studio"), mount) as found:
        yield found


def test_the_page_is_there_and_may_load_nothing_from_elsewhere(service: Live) -> None:
    answer = service.get("/studio/", headers=HTML)
    assert answer.status_code == 200 and "Flickbook studio" in answer.text
    assert 'property="og:title" content="Flickbook studio"' in answer.text
    tags = re.findall(r"<meta[^>]*>", answer.text)
    assert not [tag for tag in tags if "gradio" in tag.lower() or "Click to try" in tag]
    assert "<title>Flickbook studio</title>" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert service.http.get(f"{service.url}/studio", follow_redirects=True).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/hostname",
        "gradio_api/file/x",
        "gradio_api/upload_progress?upload_id=x",
        "gradio_api/proxy=https://elsewhere.example/",
        "gradio_api/runs",
        "gradio_api/stream/a/b/c/playlist.m3u8",
        "gradio_api/token",
        "gradio_api/vibe-code/",
        "gradio_api/dev/reload",
        "monitoring",
        "gradio_api/deep_link",
        "own/../mount.py",
        "own/%2e%2e/mount.py",
    ],
)
def test_nothing_else_of_gradios_is_reached(service: Live, path: str) -> None:
    service.get("/studio/", headers=HTML)
    assert service.get(f"/studio/{path}").status_code == 404, path


def test_no_file_goes_into_gradios_cache(service: Live) -> None:
    answer = service.post("/studio/gradio_api/upload", files={"files": ("x.png", b"x", "image/png")})
    assert answer.status_code == 404


FILE = {"path": "http://127.0.0.1:9/a.png", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("value", [FILE, [FILE], [[{"path": "/etc/hostname"}]], {"x": 1}])
def test_no_value_is_fetched_or_copied_as_a_file(service: Live, value: object) -> None:
    for path, body in (
        ("queue/join", {"data": [value], "fn_index": 0, "session_hash": "x"}),
        ("queue/join", {"data": ["x"], "fn_index": 0, "session_hash": "x", "event_data": FILE}),
        ("call/generate", {"data": [value]}),
    ):
        answer = service.post(f"/studio/gradio_api/{path}", json=body)
        assert answer.status_code == 400 and "no file" in answer.text, (path, answer.text)
    form = service.post("/studio/gradio_api/queue/join", files={"data": (None, "[]")})
    assert form.status_code == 415


@pytest.mark.parametrize("path", ["queue/data?session_hash=x", "call/generate/abc"])
def test_a_session_that_is_unknown_is_not_found(service: Live, path: str, capfd: pytest.CaptureFixture[str]) -> None:
    answer = service.get(f"/studio/gradio_api/{path}")
    assert answer.status_code == 404 and answer.json()["error"]["message"] == "no such session"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_stranger_is_sent_to_log_in(service: Live, tmp_path_factory: pytest.TempPathFactory) -> None:
    with live(tmp_path_factory.mktemp("closed"), mount, accounts={"ada": "a long enough one"}) as closed:
        answer = httpx2.get(f"{closed.url}/studio/", headers=HTML, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/studio/login")
        for path in ("config", "gradio_api/info", "gradio_api/queue/data?session_hash=x"):
            assert httpx2.get(f"{closed.url}/studio/{path}").status_code == 401, path


@pytest.mark.slow
def test_gradio_is_not_imported_until_the_page_is_asked_for() -> None:
    program = (
        "import sys; from flickbook.web.mount import mount; from flickbook.server.run import run\n"
        "print('gradio' in sys.modules, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False False"
