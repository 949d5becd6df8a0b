"""A POST to where a stranger says: listed hosts, public addresses, the address that was judged, and nothing else."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.jobs.receiver import receiver
from tests.patience import until

from flickbook.errors import RequestError
from flickbook.jobs import safe_http
from flickbook.jobs.safe_http import Target, post, public, resolved, target

HOSTS = ("hooks.example.com", "Other.example.com:8443", "127.0.0.1:9000", "[::1]", "10.0.0.5", "localhost")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hooks.example.com", Target("https", "hooks.example.com", 443, "/")),
        ("https://HOOKS.example.com:443/a?b=c", Target("https", "hooks.example.com", 443, "/a?b=c")),
        ("https://other.example.com:8443/x", Target("https", "other.example.com", 8443, "/x")),
        ("http://127.0.0.1:9000/x", Target("http", "127.0.0.1", 9000, "/x")),
        ("https://[::1]/x", Target("https", "::1", 443, "/x")),
        ("https://10.0.0.5/x", Target("https", "10.0.0.5", 443, "/x")),
        ("http://localhost/x", Target("http", "localhost", 80, "/x")),
    ],
)
def test_an_allowed_url_is_accepted(url: str, expected: Target) -> None:
    assert target(url, HOSTS) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",  # what leaves this machine is encrypted
        "http://10.0.0.5/",
        "https://hooks.example.com:8443/",
        "https://other.example.com/",
        "https://evil.example.com/",
        "https://hooks.example.com.evil.com/",
        "https://evil.com/hooks.example.com",
        "https://evil.com#@hooks.example.com/",
        "https://hooks.example.com@evil.com/",
        "https://hooks.example.com:x/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:0/",
        "https://evil.com\\@hooks.example.com/",
        "https://hooks.example.com/\r\nHost: evil",
        "https://hooks.example.com/ space",
        "https://hooks.exämple.com/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://127.1:9000/",
        "https://[::ffff:127.0.0.1]:9000/",
        "https://0.0.0.0/",
        "https:///path",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:9000/",
        "//hooks.example.com/",
        "hooks.example.com",
        "https://hooks.example.com/" + "a" * 3000,
        "",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(RequestError):
        target(url, HOSTS)


def test_every_url_is_refused_without_allowed_hosts() -> None:
    with pytest.raises(RequestError, match="sends no webhooks"):
        target("https://hooks.example.com/", ())


@given(st.text(max_size=60) | st.from_regex(r"https?://[^\s]{0,40}", fullmatch=True))
def test_any_url_has_an_allowed_host_or_is_refused(url: str) -> None:
    try:
        found = target(url, HOSTS)
    except RequestError:
        return
    assert found.host in ("hooks.example.com", "other.example.com", "127.0.0.1", "::1", "10.0.0.5", "localhost")


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1"),
        *("::ffff:10.0.0.1", "2002:0a00:0001::", "2001:db8::1", "64:ff9b::a00:1", "64:ff9b::7f00:1"),
        *("fec0::1", "feff::1", "192.88.99.1", "::ffff:192.88.99.1", "64:ff9b::c058:6301"),
    ],
)
def test_private_addresses_are_not_public(text: str) -> None:
    assert not public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_public(text: str) -> None:
    assert public(ipaddress.ip_address(text))


def answering(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Have names resolve so; the names that were asked for."""
    names: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        names.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["169.254.169.254"], []])
def test_a_name_that_resolves_to_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    answering(monkeypatch, *addresses)
    with pytest.raises(RequestError, match="not public"):
        asyncio.run(resolved(Target("https", "hooks.example.com", 443, "/")))


def test_localhost_must_resolve_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "127.0.0.1")
    assert asyncio.run(resolved(Target("http", "localhost", 80, "/"))) == "127.0.0.1"
    answering(monkeypatch, "8.8.8.8")
    with pytest.raises(RequestError):
        asyncio.run(resolved(Target("http", "localhost", 80, "/")))


def test_a_name_is_resolved_once_and_that_address_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as other:
        names = answering(monkeypatch, "127.0.0.1")
        status = asyncio.run(post(Target("http", "localhost", other.port, "/x"), b"{}", {}))
        # The address is a number, which needs no name server.
        assert (status, [each for each in names if each != "127.0.0.1"]) == (200, ["localhost"])
        assert other.deliveries[0][1]["host"] == f"localhost:{other.port}"


def test_redirects_are_not_followed() -> None:
    with receiver() as other:
        other.answers = [302]
        assert asyncio.run(post(Target("http", "127.0.0.1", other.port, "/"), b"{}", {})) == 302
        assert len(other.deliveries) == 1


def test_a_long_response_body_is_not_read() -> None:
    with receiver() as other:
        other.body = bytes(50_000_000)
        assert asyncio.run(post(Target("http", "127.0.0.1", other.port, "/"), b"{}", {})) == 200
        until(lambda: other.broken_off)


def test_a_silent_server_times_out() -> None:
    with receiver() as other:
        other.answers = [0]
        with pytest.raises(TimeoutError):
            asyncio.run(post(Target("http", "127.0.0.1", other.port, "/"), b"{}", {}, seconds=0.2))


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"", b"HTTP/1.1 99 x\r\n", b"x" * 9000])
def test_a_response_that_is_not_http_is_an_error(answer: bytes) -> None:
    async def main() -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            return await post(Target("http", "127.0.0.1", server.sockets[0].getsockname()[1], "/"), b"", {})

    with pytest.raises((ValueError, OSError)):
        asyncio.run(main())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_the_certificate_must_match_the_host(tmp_path: Path) -> None:
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*words.split(), *files], cwd=tmp_path, check=True, capture_output=True)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with receiver(server_context) as other:
        good = Target("https", "localhost", other.port, "/")
        assert asyncio.run(post(good, b"{}", {}, trusting)) == 200
        with pytest.raises(ssl.SSLError):
            asyncio.run(post(good, b"{}", {}))
        with pytest.raises(ssl.SSLError):
            asyncio.run(post(Target("https", "127.0.0.1", other.port, "/"), b"{}", {}, trusting))
        assert len(other.deliveries) == 1


def test_the_limits_are_small() -> None:
    assert safe_http.SECONDS <= 10 and safe_http._ANSWER <= 4096
