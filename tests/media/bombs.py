"""Hostile files, as bytes: what is small and asks for much, what lies, and what is something else than it says."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, rows: bytes = b"", depth: int = 8, colours: int = 2) -> bytes:
    """A PNG with `chunks` before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND")


def apng(count: int, declared: int | None = None, size: int = 1, parts: int = 0) -> bytes:
    """A moving PNG of `count` black frames; in each the second has another denominator if `parts` is given."""
    head = chunk(b"acTL", struct.pack(">II", count if declared is None else declared, 0))
    pixels = zlib.compress(bytes((3 * size + 1) * size), 9)
    frames, number = [], 0
    for index in range(count):
        time = (4000, parts + index) if parts else (1, 25)
        frames.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, size, size, 0, 0, *time, 0, 0)))
        number += 1
        if index:
            frames.append(chunk(b"fdAT", struct.pack(">I", number) + pixels))
            number += 1
        else:
            frames.append(chunk(b"IDAT", pixels))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + head + b"".join(frames) + chunk(b"IEND")


def gif(width: int, height: int, frame: tuple[int, int, int, int], count: int = 1) -> bytes:
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    one = b"\x21\xf9\x04\0\0\0\0\0" + b"\x2c" + struct.pack("<HHHH", *frame) + b"\0\x02\x02\x44\x01\0"
    return head + one * count + b";"


def riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def webp(count: int, side: int = 1) -> bytes:
    """A moving WebP of `count` frames of one pixel on a canvas of `side` by `side`."""
    size = (side - 1).to_bytes(3, "little") * 2
    still = saved("WEBP", pixels=np.zeros((1, 1, 3), np.uint8), lossless=True)[12:]
    frame = riff(b"ANMF", bytes(6) + bytes(6) + b"\x28\0\0\0" + still)
    parts = riff(b"VP8X", b"\x02\0\0\0" + size) + riff(b"ANIM", bytes(6)) + frame * count
    return riff(b"RIFF", b"WEBP" + parts)


def element(kind: str, data: bytes) -> bytes:
    """An element of Matroska."""
    return bytes.fromhex(kind) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of MP4 or AVIF."""
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def sequence(width: int, height: int, bits: int = 16) -> bytes:
    """The sequence header of an AV1 stream, reduced as those of pictures are."""
    fields = [(0, 3), (1, 1), (1, 1), (0, 5), (bits - 1, 4), (bits - 1, 4), (width - 1, bits), (height - 1, bits)]
    number = length = 0
    for value, width_of in [*fields, (0, 24)]:
        number, length = number << width_of | value, length + width_of
    data = (number << -length % 8).to_bytes((length + 7) // 8, "big")
    return bytes([1 << 3 | 2, len(data)]) + data


Item = tuple[bytes, list[tuple[int, int, int]] | bytes]


def avif(items: list[Item], sizes: list[tuple[int, int]], *more: bytes, way: int = 0, reference: int = 0) -> bytes:
    """An AVIF with `items`, each of a kind and with its bytes or (way, offset, length) of its extents.

    `sizes` are the widths and heights of size boxes, `more` boxes beside the items' own.
    """
    brand = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    described = b"".join(
        box(b"infe", b"\2\0\0\0" + struct.pack(">HH4s", number, 0, kind) + b"\0")
        for number, (kind, _) in enumerate(items, 1)
    )

    def meta(start: int) -> bytes:
        places, at = b"", start
        for number, (_, data) in enumerate(items, 1):
            extents = [(way, at, len(data))] if isinstance(data, bytes) else data
            at += len(data) if isinstance(data, bytes) else 0
            places += struct.pack(">HHHH", number, extents[0][0], reference, len(extents))
            places += b"".join(struct.pack(">II", *each[1:]) for each in extents)
        sized = b"".join(box(b"ispe", struct.pack(">III", 0, *each)) for each in sizes)
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, 1)),
            box(b"iloc", b"\1\0\0\0\x44\0" + struct.pack(">H", len(items)), places),
            box(b"iinf", struct.pack(">IH", 0, len(items)), described),
            box(b"iprp", box(b"ipco", sized), box(b"ipma", struct.pack(">IIHBB", 0, 1, 1, 1, 1))),
            *more,
        )

    start = len(brand) + len(meta(0)) + 8
    stored = b"".join(data for _, data in items if isinstance(data, bytes))
    return brand + meta(start) + box(b"mdat", stored)


def patched(data: bytes, kind: bytes, offset: int, patch: bytes) -> bytes:
    """`data` with `patch` so many bytes behind the first `kind`."""
    at = data.index(kind) + len(kind) + offset
    return data[:at] + patch + data[at + len(patch) :]


def saved(form: str, pixels: np.ndarray | None = None, **options: Any) -> bytes:
    """A picture of noise, 48 pixels high and 64 wide, or of `pixels`."""
    stream = BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise if pixels is None else pixels).save(stream, form, **options)
    return stream.getvalue()
