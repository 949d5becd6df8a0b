"""Bodies are refused before they are parsed: by type, size, speed, depth."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from tests.patience import PATIENCE
from tests.server.live import Live, live

from flickbook.server.middleware import body_limits, raw_request, timeouts
from flickbook.server.middleware.body_limits import MAX_DEPTH, check_json, depth
from flickbook.server.service import MAX_BODY, MAX_UPLOAD

PATH = "/api/v1/jobs"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("bodies")) as found:
        yield found


def raw(service: Live, head: str, pieces: Iterable[bytes] = (), pause: float = 0.0, hang_up: bool = False) -> bytes:
    """The answer to a request that is sent as it stands; with `hang_up`, sending ends when the answer begins."""
    with socket.create_connection(("127.0.0.1", service.service.port), PATIENCE / 2) as line:
        answer = b""
        line.sendall(f"{head}\r\nHost: localhost\r\n\r\n".replace("\r\n", "\n").replace("\n", "\r\n").encode())

        def send() -> None:
            try:
                for piece in pieces:
                    line.sendall(piece)
                    time.sleep(pause)
            except OSError:  # it was refused by now
                pass

        thread = threading.Thread(target=send)
        thread.start()
        try:
            while part := line.recv(1 << 16):
                if hang_up and not answer:
                    line.shutdown(socket.SHUT_WR)
                answer += part
        except ConnectionResetError:
            pass
        thread.join()
    return answer


def post(size: int, kind: str = "application/json") -> str:
    return f"POST {PATH} HTTP/1.1\nContent-Type: {kind}\nContent-Length: {size}"


def test_a_body_within_the_limit_is_read(service: Live) -> None:
    assert service.post(PATH, json={"prompt": "a red circle", "num_frames": 8}).status_code in (200, 201, 202)


@pytest.mark.parametrize("size", [MAX_BODY + 1, 10 << 20, 1 << 30, 10**15])
def test_a_too_large_content_length_is_413_before_the_body_is_sent(
    service: Live, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_request, "LINGER", PATIENCE)
    # Not a byte of the body is sent before the answer comes.
    answer = raw(service, post(size), hang_up=True)
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"too_large"' in answer


def test_an_upload_has_a_higher_limit(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_request, "LINGER", 0.1)
    assert raw(service, post(MAX_UPLOAD + 1, "multipart/form-data; boundary=x")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_chunked_body_is_counted(service: Live, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "MAX_UPLOAD", 3 << 20)
    monkeypatch.setattr(raw_request, "LINGER", 0.2)
    head = f"POST /v1/videos HTTP/1.1\nContent-Type: {kind}\nTransfer-Encoding: chunked"
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="input_reference"; filename="a.png"\r\n\r\n'
    first = f"{len(part):x}\r\n".encode() + part + b"\r\n" if kind != "application/json" else b""
    answer = raw(service, head, [first, *[piece] * 100, b"0\r\n\r\n"])
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_request_with_two_lengths_is_refused_and_its_connection_ends(service: Live) -> None:
    head = f"{post(2)}\nTransfer-Encoding: chunked"
    second = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = raw(service, head, [b"2\r\n{}\r\n0\r\n\r\n" + second], hang_up=True)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"Content-Length and Transfer-Encoding" in answer
    assert b"connection: close" in answer.lower() and answer.count(b"HTTP/1.1 ") == 1


def test_a_client_that_sends_all_before_reading_gets_the_response(service: Live) -> None:
    for _ in range(5):
        assert service.post(PATH, content=b" " * (4 << 20), headers=JSON).status_code == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-encoding": "identity"}, 400),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/xml"}, 415),
        ({}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 400),
    ],
)
def test_an_unsupported_content_type_is_415(service: Live, headers: dict[str, str], status: int) -> None:
    assert service.post(PATH, content=b"{}", headers=headers).status_code == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"' * 100_000,
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\xed\xa0\x80"}',
        b'{"prompt": "\xff"}',
        '{"prompt": "x"}'.encode("utf-16"),
        b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": "x", "fps": NaN}',
        b'{"prompt": "x", "fps": 1e999}',
        b"\x00",
        b"nul",
    ],
    ids=range(14),
)
def test_hostile_json_is_400_and_names_no_traceback(service: Live, body: bytes) -> None:
    for path in (PATH, "/v1/videos"):
        answer = service.post(path, content=body, headers=JSON)
        assert answer.status_code in (400, 415), answer.text
        assert set(answer.json()) == {"error"} and "Traceback" not in answer.text


@given(
    st.recursive(
        st.text() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=50
    )
)
def test_json_depth_is_never_underestimated(value: object) -> None:
    def true(each: object) -> int:
        if isinstance(each, dict | list):
            return 1 + max(map(true, each.values() if isinstance(each, dict) else each), default=0)
        return 0

    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        try:
            whole = text.encode()
        except UnicodeEncodeError:
            continue
        assert depth(whole) >= true(value)


@given(st.text(st.characters(codec="utf-8")))
def test_any_valid_json_text_is_accepted(text: str) -> None:
    body = json.dumps({"prompt": text}).encode()
    assert check_json(body) is body


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '"\\udc00"', '"\\ud800\\ud800"', '"\\ud800x\\udc00"', '"\\udc00\\ud800"']
)
def test_a_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(HTTPException):
        check_json(text.encode())


def test_an_escaped_backslash_before_u_is_not_a_surrogate() -> None:
    assert check_json(b'"\\\\ud800"') == b'"\\\\ud800"'


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    assert depth(json.dumps(["[" * 1000, '"[\\"[' * 50]).encode()) == 1
    assert depth(b"[]" * 100) == 1
    assert depth(b"[" * (MAX_DEPTH + 5)) == MAX_DEPTH + 5


def test_a_slow_body_times_out(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "PATIENCE", 0.5)
    monkeypatch.setattr(raw_request, "LINGER", 0.2)
    answer = raw(service, post(1000), iter([b" "] * 12), 0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_head_that_never_ends_times_out(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "HEAD", 0.3)
    for started in (b"", b"GET / HTTP/1.1\r\nHost: local"):
        with socket.create_connection(("127.0.0.1", service.service.port), PATIENCE) as line:
            line.sendall(started)
            with suppress(ConnectionResetError):
                assert line.recv(100) == b""


def test_a_pause_between_requests_does_not_time_out(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.service.port), PATIENCE) as line:
        for _ in range(2):
            line.sendall(request)
            response = b""
            while not response.endswith(b'{"live":true}'):  # head and body may arrive one after the other
                assert (part := line.recv(10_000)), response
                response += part
            assert response.startswith(b"HTTP/1.1 200 ")
            monkeypatch.setattr(timeouts, "HEAD", 0.01)
            time.sleep(0.1)


def test_a_client_refused_while_sending_gets_the_response(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_request, "LINGER", PATIENCE)
    with live(tmp_path) as closed:
        closed.key("one")
        with socket.create_connection(("127.0.0.1", closed.service.port), PATIENCE) as line:
            line.sendall(f"{post(300)}\nHost: localhost\n\n".replace("\n", "\r\n").encode())
            for _ in range(3):  # it reads nothing before it has sent all, as most clients do
                time.sleep(0.1)
                line.sendall(b" " * 100)
            assert line.recv(10_000).startswith(b"HTTP/1.1 401 ")


@pytest.mark.slow
def test_no_body_is_read_before_authentication(tmp_path: Path) -> None:
    """Not a byte of an upload is read of a caller without a key."""
    with live(tmp_path) as closed:
        closed.key("one")
        head = f"{post(100 << 20, 'multipart/form-data; boundary=x')}\nExpect: 100-continue"
        answer = raw(closed, head)
        assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.slow
@pytest.mark.parametrize("size", [1 << 20, 10 << 20, 100 << 20, 1 << 30])
@pytest.mark.parametrize("announced", [True, False])
def test_a_gigabyte_of_bodies_does_not_grow_the_process(
    service: Live, size: int, announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_request, "LINGER", PATIENCE)
    process = psutil.Process()
    before = process.memory_info().rss
    block = b" " * (1 << 16)
    count = size // len(block) + 1
    if announced:
        answer = raw(service, post(count * len(block)), (block for _ in range(count)))
    else:
        head = f"POST {PATH} HTTP/1.1\nContent-Type: application/json\nTransfer-Encoding: chunked"
        chunk = b"10000\r\n" + block + b"\r\n"
        answer = raw(service, head, (chunk if number < count else b"0\r\n\r\n" for number in range(count + 1)))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert process.memory_info().rss - before < 20 << 20
    assert service.get("/healthz").status_code == 200


@pytest.mark.slow
def test_400_slow_clients_do_not_block_others(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "HEAD", 3 * PATIENCE)  # none of them is given up meanwhile
    monkeypatch.setattr(body_limits, "PATIENCE", 3 * PATIENCE)
    lines = [socket.create_connection(("127.0.0.1", service.service.port), PATIENCE) for _ in range(400)]
    try:
        for number, line in enumerate(lines):
            head = f"{post(1000)}\nHost: localhost\n\n" if number % 2 else "GET /healthz HTTP/1.1\nHost: loc"
            line.sendall(head.replace("\n", "\r\n").encode())
        assert all(service.get("/healthz").status_code == 200 for _ in range(50))
    finally:
        for line in lines:
            line.close()


def test_a_dataset_has_a_limit_of_its_own(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "MAX_UPLOAD", 1 << 10)
    monkeypatch.setattr(body_limits, "MAX_DATASET", 1 << 12)
    for path, size, status in (
        ("/api/v1/tunes", 2 << 10, 400),  # a form without settings
        ("/api/v1/tunes", 8 << 10, 413),
        ("/api/v1/recipes/inspect", 2 << 10, 413),
    ):
        response = service.post(path, files={"files": ("a.mp4", bytes(size))})
        assert response.status_code == status, response.text
