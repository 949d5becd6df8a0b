"""MongoDB URLs: parsing, and hiding their secrets.

The driver gets the URL unchanged. People see `shown`: hosts and database without user, password and options, some of
which are secrets too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, unquote_plus

from flickbook.errors import StoreError

SCHEMES: Final = ("mongodb://", "mongodb+srv://")
DATABASE: Final = "flickbook"
#: Shown for an invalid URL: any part of it may be the password.
UNREADABLE: Final = "mongodb://…"
_HOST: Final = r"(?:[\w.%-]+|\[[0-9a-fA-F:.%]+\])(?::\d{1,5})?"
_HOSTS: Final = re.compile(f"{_HOST}(?:,{_HOST})*")
_NAME: Final = re.compile(r"[\w-]{1,63}")
_FORM: Final = "write mongodb://USER:PASSWORD@HOST/DATABASE, or mongodb+srv://… as Atlas shows it"
_ESCAPE: Final = "write @ : / ? # % in a user's name or password as %40 %3A %2F %3F %23 %25"
_SECRET_OPTIONS: Final = ("tlscertificatekeyfilepassword", "authmechanismproperties", "proxypassword")


@dataclass(frozen=True)
class MongoUrl:
    """A MongoDB URL. `text` is for the driver only; names of `options` are in lower case."""

    text: str = field(repr=False)
    shown: str
    database: str
    options: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    @classmethod
    def read(cls, text: str) -> MongoUrl:
        """Parses a URL. Raises StoreError for an ambiguous one; the message does not quote it."""
        scheme = next((each for each in SCHEMES if text.startswith(each)), None)
        if scheme is None:
            raise StoreError(UNREADABLE, "is not an address of MongoDB", _FORM)
        rest = text.removeprefix(scheme)
        authority, path, query = _parts(rest)
        credentials, at, hosts = authority.rpartition("@")
        # A second @, or one after the hosts, comes from an unescaped password, which would be shown as a host.
        if "@" in credentials or rest.count("@") > len(at):
            raise StoreError(UNREADABLE, "has a user name or password that is not escaped", _ESCAPE)
        if not _HOSTS.fullmatch(hosts):
            raise StoreError(UNREADABLE, "has no valid host and port", f"{_FORM}; {_ESCAPE}")
        if path and not _NAME.fullmatch(path):
            raise StoreError(
                UNREADABLE, "has a database name with characters other than letters, digits, - and _", _FORM
            )
        options = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
        password = credentials.partition(":")[2]
        hidden = [password, unquote(password), unquote_plus(password)]
        hidden += [options[name] for name in _SECRET_OPTIONS if name in options]
        database = path or DATABASE
        return cls(text, f"{scheme}{hosts}/{database}", database, options, tuple({each for each in hidden if each}))

    def clean(self, text: object) -> str:
        """Removes all secrets of this URL from `text`."""
        line = str(text)
        for secret in sorted(self.secrets, key=len, reverse=True):
            line = line.replace(secret, "***")
        return line


def _parts(rest: str) -> tuple[str, str, str]:
    """The authority, path and query of what follows the scheme."""
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    return authority, path, query
