"""Parsing of durations and sizes: 30d, 12h, 500M."""

from __future__ import annotations

import re
from typing import Final

from flickbook.errors import RequestError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_BYTES |= {unit.lower(): size for unit, size in _BYTES.items()}
_AMOUNT: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([A-Za-z])")


def seconds(field: str, text: str) -> float:
    """Convert "30d" to seconds: a number and s, m, h, d or w. Raises RequestError."""
    return _amount(field, text, _SECONDS, "write 90s, 45m, 12h, 30d or 4w")


def octets(field: str, text: str) -> int:
    """Convert "50G" to bytes: a number and K, M, G or T, each 1024 times the previous. Raises RequestError."""
    return int(_amount(field, text, _BYTES, "write 500M, 50G or 2T"))


def _amount(field: str, text: str, units: dict[str, int], remedy: str) -> float:
    found = _AMOUNT.fullmatch(text)
    if found is None or found[2] not in units or float(found[1]) == 0:
        raise RequestError(field, text, "must be a number above 0 and a unit", remedy)
    return float(found[1]) * units[found[2]]
