"""An HTTP POST to a user-supplied URL that cannot reach addresses behind the firewall (SSRF protection).

The host must be on the operator's list of allowed hosts. Its name is resolved once, the address is checked, and the
connection goes to that address, so a second DNS answer changes nothing. Redirects are not followed, proxies from the
environment are ignored, and only the status of the response is used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from flickbook.errors import RequestError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Timeout in seconds for the whole request: resolve, connect, send and receive.
SECONDS: Final = 10.0
#: Bytes of a response that are read.
_ANSWER: Final = 4096
_MAX_URL: Final = 2048
_PORTS: Final = {"https": 443, "http": 80}
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?:[ \r\n]|$)")
#: Addresses with an IPv4 address in their last four bytes, which NAT64 connects to.
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
#: Ranges that Python's `is_global` accepts: deprecated site-local addresses (RFC 3879), 6to4 relays (RFC 7526).
_NOT_PUBLIC: Final = tuple(map(ipaddress.ip_network, ("fec0::/10", "192.88.99.0/24")))


@dataclass(frozen=True)
class Target:
    """The parts of a URL: `host` in lower case, without the brackets of an IPv6 address; `path` with its query."""

    scheme: str
    host: str
    port: int
    path: str

    def authority(self) -> str:
        """Host and port as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def target(url: str, hosts: Sequence[str]) -> Target:
    """Parses `url` and checks it against `hosts`; entries are HOST, for the default port, or HOST:PORT.

    Raises RequestError for every other URL. Only https is allowed, and http if the host is this machine.
    """
    if not hosts:
        raise RequestError("url", url, "this service sends no webhooks", "start it with --webhook-host HOST")
    if len(url) > _MAX_URL or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise RequestError("url", url, f"must be at most {_MAX_URL} plain characters", "write it percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RequestError("url", url, "is no URL", "write for example https://example.com/flickbook") from None
    host = (parts.hostname or "").lower()
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc or "#" in url or port == 0:
        limit = "must be https://HOST/PATH, without a name, a password or a fragment"
        raise RequestError("url", url, limit, "write for example https://example.com/flickbook")
    query = f"?{parts.query}" if parts.query else ""
    found = Target(parts.scheme, host, port or _PORTS[parts.scheme], (parts.path or "/") + query)
    if (found.host, found.port) not in {_entry(each, found.scheme) for each in hosts}:
        remedy = "ask the operator to add it with --webhook-host"
        raise RequestError("url", url, "is not an allowed webhook host of this service", remedy)
    if found.scheme == "http" and not _is_here(host):
        raise RequestError("url", url, "must be https, because the request leaves this machine", "write https://")
    return found


def _entry(entry: str, scheme: str) -> tuple[str, int]:
    """Host and port of a list entry."""
    text = entry.strip().lower()
    address = _address(text.strip("[]"))
    if address is not None:
        return str(address), _PORTS[scheme]
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal():
        return host.strip("[]"), int(port)
    return text, _PORTS[scheme]


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_here(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def public(address: Address) -> bool:
    """Whether an address is public, and so is every address embedded in it."""
    if address in _NAT64:
        return public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        return all(each is None or public(each) for each in inner)
    return True


async def resolved(to: Target) -> str:
    """Resolves the host of a target. Raises RequestError if one of its addresses must not be reached.

    A host that the list names by address may be anywhere; all addresses of `localhost` must be loopback.
    """
    if _address(to.host) is not None:
        return to.host
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
    # A zone ("%eth0") is not part of the address.
    texts = [str(answer[4][0]).partition("%")[0] for answer in answers]
    addresses = [ipaddress.ip_address(text) for text in texts]
    good = all(each.is_loopback if to.host == "localhost" else public(each) for each in addresses)
    if not addresses or not good:
        raise RequestError(
            "url", to.host, "resolves to an address that is not public", "allow the address itself with --webhook-host"
        )
    return texts[0]


async def post(
    to: Target, body: bytes, headers: Mapping[str, str], context: ssl.SSLContext | None = None, seconds: float = SECONDS
) -> int:
    """Sends `body` as JSON and returns the status of the response, 100 to 599.

    `context` is the TLS context, None for the default. Raises OSError (including TimeoutError and SSL errors),
    RequestError as `resolved` does, and ValueError if the response is not HTTP.
    """
    async with asyncio.timeout(seconds):
        address = await resolved(to)
        secure = to.scheme == "https"
        tls = (context or ssl.create_default_context()) if secure else None
        name = to.host if secure else None
        reader, writer = await asyncio.open_connection(
            address, to.port, ssl=tls, server_hostname=name, limit=_ANSWER, happy_eyeballs_delay=None
        )
        try:
            writer.write(_head(to, body, headers) + body)
            await writer.drain()
            answer = await reader.read(_ANSWER)
            while b"\n" not in answer and len(answer) < _ANSWER and (more := await reader.read(_ANSWER)):
                answer += more
        finally:
            # Do not wait for the rest of the response.
            with suppress(Exception):
                writer.transport.abort()
    match = _STATUS.match(answer)
    if match is None:
        raise ValueError("the response is not HTTP")
    return int(match[1])


def _head(to: Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {to.path} HTTP/1.1", f"Host: {to.authority()}", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "User-Agent: flickbook"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
