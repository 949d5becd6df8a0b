"""A service as the window asks it, and what it says of one that is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.server.live import live
from tests.server.settled import QUICK, claimed, settled

from flickbook.desktop import frame_buffer
from flickbook.desktop.sources.remote import Remote, address
from flickbook.errors import FlickbookError, JobConflict, JobNotFound, MediaError, RequestError, ServiceError
from flickbook.files import sha256
from flickbook.spec import Request


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything alike: where it is, and the keys that it was sent."""
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", keys
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.model
def test_a_job_from_its_asking_to_its_film(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        source = Remote(f"{service.url}/api/v1/")
        offers = {offer.model.name: offer for offer in source.open()}
        assert offers["builtin"].here and offers["builtin"].fits(picture=True)
        made = source.make(Request.of(**QUICK))
        assert (made.state, made.kind, made.plan.seed, made.made) == ("queued", "film", 7, False)
        assert source.preview(made.id) is None
        job = settled(service, made.id)
        assert job.result is not None
        (entry,) = source.recent()
        assert entry == source.entry(made.id) and entry.made and entry.over
        path = source.film(entry)
        assert sha256(path) == job.result.sha256 and path == source.film(entry)
        assert len(frame_buffer.read(path).frames) == 4
        assert max(source.still(entry, 64).size) <= 64
        assert source.folder(entry) is None
        source.close()
        assert not path.exists()


def test_pictures_are_sent_with_a_job(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    with live(tmp_path) as service:
        source = Remote(service.url)
        made = source.make(Request.of(**QUICK, image=str(tmp_path / "red.png")))
        assert made.plan.image == sha256(tmp_path / "red.png")
        with pytest.raises(MediaError, match="No such file"):
            source.make(Request.of(**QUICK, image=str(tmp_path / "gone.png")))
        with pytest.raises(FlickbookError, match="last_image.*takes no last frame"):
            source.make(Request.of(**QUICK, last_image=str(tmp_path / "red.png")))


def test_what_waits_is_cancelled(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        source = Remote(service.url)
        made = source.make(Request.of(**QUICK))
        assert source.cancel(made.id).state == "cancelled"
        assert [entry.state for entry in source.recent()] == ["cancelled"]


def test_what_waits_is_paused_and_resumed(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        source = Remote(service.url)
        made = source.make(Request.of(**QUICK))
        assert source.pause(made.id).state == "paused" and source.entry(made.id).over
        assert source.resume(made.id).state == "queued"
        with pytest.raises(FlickbookError, match="is queued and cannot be resumed"):
            source.resume(made.id)
        claimed(service, made.id)
        assert source.pause(made.id).stopping == "pause"


def test_a_job_of_a_command_is_not_resumed_by_the_service(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        id = service.job(home="command", state="paused").id
        with pytest.raises(JobConflict, match=f"a command started it: run `flickbook jobs resume {id}` on the service"):
            Remote(service.url).resume(id)


def test_a_preview_is_sent_only_if_it_changed(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        source = Remote(service.url)
        made = source.make(Request.of(**QUICK))
        service.service.artifacts.show(made.id, b"RIFF one")
        assert source.preview(made.id) == source.preview(made.id) == b"RIFF one"
        service.service.artifacts.show(made.id, b"RIFF another")
        assert source.preview(made.id) == b"RIFF another"


def test_a_field_that_is_refused_is_told_in_the_services_words(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        source = Remote(service.url)
        with pytest.raises(FlickbookError) as caught:
            source.make(Request.of(**QUICK | {"num_frames": 999}))
        assert str(caught.value) == "num_frames=999: must be 1 to 256; ask for 256 frames or fewer"
        assert caught.value.field == "num_frames"
        assert ['"circl" (nearest: "circle")' in note for note in source.notes("a red circl", "builtin")] == [True]
        assert source.notes("a red circle", "builtin") == []


def test_a_wrong_key_is_sent_once_and_said_in_one_line(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        service.key("me", "read")
        source = Remote(service.url, "fb_wrong")
        for _ in range(40):  # twenty bad keys would lock this machine out
            with pytest.raises(ServiceError, match="refuses: invalid API key; enter its address"):
                source.recent() if _ else source.open()
        assert service.get("/api/v1/models", headers=service.key("other", "read")[1]).status_code == 200


@pytest.mark.slow
def test_a_key_that_may_only_read_is_told_so(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        _, headers = service.key("me", "read")
        source = Remote(service.url, headers["authorization"].removeprefix("Bearer "))
        assert source.open()
        with pytest.raises(ServiceError, match="refuses: this API key lacks the scope create"):
            source.make(Request.of(**QUICK))
        assert source.recent() == []


def test_nobody_there_is_one_line() -> None:
    with pytest.raises(ServiceError, match=r"^127.0.0.1:9: cannot be reached \(Connection refused\); check the addr"):
        Remote("http://127.0.0.1:9").open()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"data": [{"name": 1}]}'),
        (404, b"not here"),
        (500, b'{"error": 7}'),
        (200, b"[" * 100_000),
    ],
)
def test_another_server_is_no_service(status: int, body: bytes) -> None:
    with answering(status, body) as (url, _), pytest.raises(ServiceError) as caught:
        Remote(url).open()
    assert "does not answer as a Flickbook service" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_service_cannot_name_files_or_lie_about_states() -> None:
    for id in ("../../etc/passwd", "job_../x", ""):
        body = b'{"id": "%s", "progress": null, "result": null, "error": null, "eta_seconds": null}' % id.encode()
        with answering(200, body) as (url, _), pytest.raises(ServiceError, match="does not answer as"):
            Remote(url).entry("job_0")


def test_the_key_goes_to_no_other_place() -> None:
    with (
        answering(200, b"{}") as (elsewhere, strangers),
        answering(302, b"", Location=elsewhere) as (url, keys),
        pytest.raises(ServiceError),
    ):
        Remote(url, "fb_secret").open()
    assert keys == ["Bearer fb_secret"] and strangers == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("films.example", "http://films.example"),
        ("https://films.example/flick/api/v1", "https://films.example/flick"),
        (" http://[::1]:8000 ", "http://[::1]:8000"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "ftp://x", "http://", "http://a:b@c", "http://x:port", "http://x/?a=1", "http://a b"]
)
def test_what_is_no_address_is_refused_and_shows_no_password(text: str) -> None:
    with pytest.raises(RequestError, match="is not the address of a service; write for example") as caught:
        Remote(text)
    assert "a:b" not in str(caught.value)


def test_a_key_that_no_header_can_hold_is_refused_and_not_shown() -> None:
    with pytest.raises(RequestError, match=r"key=\(hidden\): is not an API key"):
        Remote("http://127.0.0.1:8000", "fb_\nX-Evil: 1")


def test_a_film_asked_for_again_after_a_lost_answer_is_the_same(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        source = Remote(service.url)
        original, source._entry = (
            source._entry,
            lambda job: (_ for _ in ()).throw(ServiceError("x", "cut off", "try again")),
        )
        with pytest.raises(ServiceError, match="cut off"):
            source.make(Request.of(**QUICK))
        source._entry = original
        made = source.make(Request.of(**QUICK))
        assert [entry.id for entry in source.recent()] == [made.id]
        # Once it was answered, the same again is another one.
        assert source.make(Request.of(**QUICK)).id != made.id


def test_a_film_that_was_deleted_is_told_so(tmp_path: Path) -> None:
    with live(tmp_path) as service, pytest.raises(JobNotFound):
        Remote(service.url).entry("job_" + "1" * 26)
