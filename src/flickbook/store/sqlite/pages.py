"""Recovers rows from the pages of a SQLite file that SQLite itself can no longer read.

Only rows with a valid seal are returned, so nothing is invented; but a freed page may hold an old version of a row.
The format is described in https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from flickbook.store.sqlite.checksums import TABLES, Table

_PAGE: Final = 4096
_LEAF: Final = 0x0D
_INTEGERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def rows(path: Path, columns: Mapping[str, Sequence[str]]) -> Iterator[tuple[Table, dict[str, Any]]]:
    """Every sealed row on a leaf page, with its `seq`; `columns` are the columns of each table in file order."""
    data = path.read_bytes()
    widths = {len(columns[table.name]): table for table in TABLES}
    for page in range(0, len(data), _PAGE):
        start = page + (100 if page == 0 else 0)
        if data[start : start + 1] != bytes([_LEAF]):
            continue
        count = int.from_bytes(data[start + 3 : start + 5], "big")
        for pointer in range(start + 8, min(start + 8 + 2 * count, page + _PAGE - 1), 2):
            try:
                seq, values = _cell(data, page + int.from_bytes(data[pointer : pointer + 2], "big"))
            except (IndexError, ValueError, struct.error):
                continue
            table = widths.get(len(values))
            if table is None:
                continue
            row = dict(zip(columns[table.name], values, strict=True)) | {"seq": seq}
            # SQLite stores a float without a fraction as an integer.
            row |= {name: float(row[name]) for name in table.reals if type(row[name]) is int}
            if table.unsealed(row) is not None:
                yield table, row


def _cell(data: bytes, at: int) -> tuple[int, list[Any]]:
    """The row number and the values of a cell at an offset."""
    size, at = _varint(data, at)
    seq, at = _varint(data, at)
    if size > len(data):
        raise ValueError("the row is longer than the file")
    most, least = _PAGE - 35, (_PAGE - 12) * 32 // 255 - 23
    here = size
    if size > most:
        here = least + (size - least) % (_PAGE - 4)
        here = here if here <= most else least
    payload = data[at : at + here]
    following = int.from_bytes(data[at + here : at + here + 4], "big") if here < size else 0
    while len(payload) < size and 0 < following <= len(data) // _PAGE:
        page = data[(following - 1) * _PAGE : following * _PAGE]
        payload += page[4 : 4 + size - len(payload)]
        following = int.from_bytes(page[:4], "big")
    if len(payload) != size:
        raise ValueError("the row goes on where there is no page")
    return seq, list(_values(payload))


def _values(payload: bytes) -> Iterator[Any]:
    """The values of a record."""
    end, at = _varint(payload, 0)
    place = end
    while at < end:
        kind, at = _varint(payload, at)
        length = _INTEGERS.get(kind, 8 if kind == 7 else (kind - 12) // 2 if kind >= 12 else 0)
        raw = payload[place : place + length]
        if len(raw) != length:
            raise ValueError("the record ends too early")
        place += length
        if kind in _INTEGERS:
            yield int.from_bytes(raw, "big", signed=True)
        elif kind == 7:
            yield struct.unpack(">d", raw)[0]
        elif kind in (8, 9):
            yield kind - 8
        elif kind >= 13 and kind % 2:
            yield raw.decode("utf-8", "replace")
        else:
            yield None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer of one to nine bytes, and the offset after it."""
    number = 0
    for place in range(at, at + 8):
        number = number << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return number, place + 1
    return number << 8 | data[at + 8], at + 9
