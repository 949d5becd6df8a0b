"""The hostile files that test_hostile.py tries: each a name and its bytes, in groups of one kind."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO

import numpy as np
from PIL import Image
from tests.media.bombs import (
    apng,
    avif,
    box,
    chunk,
    element,
    gif,
    patched,
    png,
    riff,
    saved,
    sequence,
    webp,
)

SVG = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


def disguises() -> dict[str, bytes]:
    """What no picture or film is, under the name of one."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(10 << 20))
    return {
        "empty.mp4": b"",
        "empty.png": b"",
        "one-byte.png": b"\x89",
        "text.mp4": b"Dear diary, today nothing moved.\n" * 9,
        "hls.mp4": HLS,
        "hls.webm": HLS,
        "concat.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "dash.mp4": b"<?xml version='1.0'?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>",
        "sdp.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
        "drawing.png": SVG,
        "drawing.mp4": SVG,
        "archive.png": archive.getvalue(),
        "postscript.jpg": b"%!PS-Adobe-3.0\nquit\n",
        "pickle.webp": b"\x80\x04\x95cposix\nsystem\n.",
        "flash.mp4": b"FLV\x01\x05\0\0\0\x09" + bytes(200),
        "wave.avi": b"RIFF\x24\0\0\0WAVEfmt " + bytes(200),
        "fits.tif": b"SIMPLE  =                    T" + bytes(2850),
        "bigtiff.tif": b"II\x2b\0\x08\0\0\0" + bytes(200),
        "photo.heic": box(b"ftyp", b"heic\0\0\0\0mif1heic") + bytes(200),
        "only-magic.png": b"\x89PNG\r\n\x1a\n",
        "only-magic.jpg": b"\xff\xd8\xff",
        "only-magic.gif": b"GIF89a",
        "only-magic.webp": b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0",
        "only-magic.webm": b"\x1a\x45\xdf\xa3",
        "only-magic.mp4": b"\0\0\0\x18ftypisom",
        "only-magic.avi": b"RIFF\x20\0\0\0AVI ",
        "only-magic.bmp": b"BM",
        "only-magic.tif": b"II*\0",
        "only-magic.avif": b"\0\0\0\x20ftypavif",
        "-i.mp4": b"-y /etc/passwd\n",
        "--help.png": b"usage: none\n",
        "%n%s%p.mp4": b"%n%n%n%n",
        "%d.png": b"no first frame\n",
        "bell\a and\nline\x1b[31m.mp4": b"\x1b]0;owned\a\n",
        "\u202egnp.exe.mp4": b"MZ" + bytes(99),
    }


def picture_bombs() -> dict[str, bytes]:
    """Small files that would be large pictures, or take long."""
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(20 << 20), 1))
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100 << 20), 1))
    jpeg, bitmap = saved("JPEG"), saved("BMP")
    moving = saved("WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    plain = saved("WEBP", lossless=True)
    passes = saved("JPEG", progressive=True)
    last = passes[passes.rindex(b"\xff\xda") : -2]
    return {
        "30000.png": png(30_000, 30_000),
        "65535.png": png(65_535, 65_535, depth=16, colours=6),
        "two-billion.png": png((1 << 31) - 1, (1 << 31) - 1),
        "no-size.png": png(0, 0),
        "text.png": png(8, 8, text * 60, rows=bytes(200)),
        "profile.png": png(8, 8, profile, rows=bytes(200)),
        "65535.jpg": patched(jpeg, b"\xff\xc0", 3, struct.pack(">HH", 65_535, 65_535)),
        "passes.jpg": passes[:-2] + last * 20_000 + b"\xff\xd9",
        "30000.bmp": bitmap[:18] + struct.pack("<ii", 30_000, -30_000) + bitmap[26:],
        "header.bmp": bitmap[:14] + struct.pack("<I", 0xFFFFFFF0) + bitmap[18:],
        "runs.bmp": bitmap[:30] + struct.pack("<I", 1) + bitmap[34:],
        "canvas.webp": moving[:24] + b"\xff\xff\xff\xff\xff\xff" + moving[30:],
        "16384.webp": patched(plain, b"VP8L", 5, struct.pack("<I", 0x0FFFFFFF)),
        "frames.webp": webp(100_000),
        "screen.gif": gif(65_535, 65_535, (0, 0, 1, 1)),
        "comments.gif": gif(1, 1, (0, 0, 1, 1)).replace(b"\x21\xf9", b"\x21\xfe\x01a\0" * 700_000 + b"\x21\xf9"),
        "tags.tif": struct.pack("<4sIH", b"II*\0", 8, 60_000)
        + b"".join(struct.pack("<HHII", tag, 1, 50 << 20, 8) for tag in range(254, 60_254)),
    } | avif_bombs()


def avif_bombs() -> dict[str, bytes]:
    """AVIF that says it is large, is larger than it says, has many tiles, or leads elsewhere."""
    small, size, stream = [(64, 48)], b"av01", sequence(64, 48)
    tiles = struct.pack(">BBBBII", 0, 1, 255, 255, 64 * 256, 48 * 256)
    elsewhere = box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), box(b"url ", bytes(4), b"http://127.0.0.1/\0")))
    whole = saved("AVIF")
    return {
        "65535.avif": patched(whole, b"ispe", 4, struct.pack(">II", 65_535, 65_535)),
        "liar.avif": avif([(size, sequence(32_768, 32_768))], small),
        "grid.avif": avif([(b"grid", tiles), *[(size, stream)] * 200], small),
        "tiles.avif": avif([(b"grid", tiles), *[(size, stream)] * 5000], small),
        "heavy-tiles.avif": avif(
            [(b"grid", struct.pack(">BBBBHH", 0, 0, 9, 9, 640, 480)), *[(size, sequence(4096, 4096))] * 100], small
        ),
        "layers.avif": avif([(size, stream + b"\x1a\x00" * 60_000)], small),
        "overlapping.avif": avif([(size, [(0, 0, 1 << 20)] * 15_000)], small, box(b"free", bytes(1 << 20))),
        "elsewhere.avif": avif([(size, stream)], small, elsewhere),
        "reference.avif": avif([(size, stream)], small, reference=1),
        "boxes.avif": avif([(size, stream)], small, box(b"free") * 100_000),
        "film-beside.avif": avif([(size, stream)], small) + box(b"moov"),
        "no-stream.avif": avif([(size, b"")], small),
    }


def matroska(
    codec: bytes, *clusters: bytes, size: tuple[int, int] = (64, 48), private: bytes = b"", more: bytes = b""
) -> bytes:
    """A Matroska film of one track."""
    width, height = (each.to_bytes(4, "big") for each in size)
    video = element("E0", element("B0", width) + element("BA", height))
    track = element("D7", b"\1") + element("73C5", b"\1") + element("83", b"\1") + element("86", codec) + video
    track += (element("63A2", private) if private else b"") + more
    head = element("1A45DFA3", element("4282", b"matroska"))
    return head + element("18538067", element("1654AE6B", element("AE", track)) + b"".join(clusters))


def cluster(*blocks: bytes) -> bytes:
    return element("1F43B675", element("E7", b"\0") + b"".join(blocks))


def matroska_bombs() -> dict[str, bytes]:
    """EBML that nests, repeats or unpacks."""
    head = element("1A45DFA3", element("4282", b"webm"))
    block = element("A3", b"\x81\0\0\x80" + bytes(9))
    laced = element("A3", b"\x81\0\0\x84\xff" + bytes(256))  # 256 frames of one byte each
    packed = element("A3", b"\x81\0\0\x80" + zlib.compress(bytes(400 << 20), 9))
    unpack = element("6D80", element("6240", element("5034", element("4254", b"\0"))))
    nested = b""
    for _ in range(900):
        nested = element("67C8", nested)
    unknown = b"\x01" + b"\xff" * 7
    return {
        "no-film.webm": head + element("18538067", element("1549A966", b"") + element("1654AE6B", b"")),
        "million-tracks.webm": head + element("18538067", element("1654AE6B", b"\xae\x80" * 1_000_000)),
        "attachments.webm": head + element("18538067", element("1941A469", b"\x61\xa7\x80" * 1_000_000) * 3),
        "longer-than-it-is.webm": head + bytes.fromhex("18538067") + (1 << 40 | 1 << 56).to_bytes(8, "big") + bytes(99),
        "segments.mkv": head + (bytes.fromhex("18538067") + unknown) * 600_000,
        "void.mkv": matroska(b"V_VP9", b"\xec\x80" * 600_000),
        "nested.mkv": matroska(b"V_VP9", element("1254C367", nested)),
        "blocks.mkv": matroska(b"V_VP9", cluster(block * 300_000)),
        "laces.mkv": matroska(b"V_VP9", cluster(laced * 20_000)),
        "unpacked.mkv": matroska(b"V_VP9", cluster(packed * 3), more=unpack),
        "16384.mkv": matroska(b"V_FFV1", cluster(block), size=(16_384, 16_384)),
        "16384.webm": matroska(b"V_VP9", cluster(block), size=(16_384, 16_384)).replace(b"matroska", b"webm", 1),
        "header.mkv": matroska(b"V_FFV1", cluster(block), private=b"\xff" * 400_000),
    }


def film_bombs(mp4: bytes, avi: bytes) -> dict[str, bytes]:
    """Films whose index or header asks for much, or does not fit what they hold."""
    start = avi[12 : avi.index(b"movi") - 8]
    size = mp4.index(b"avc1", mp4.index(b"stsd")) + 28
    assert mp4[size : size + 4] == struct.pack(">HH", 64, 48)
    return {
        "samples.mp4": patched(mp4, b"stsz", 4, struct.pack(">II", 1, 1_000_000_000)),
        "huge-sample.mp4": patched(mp4, b"stsz", 4, struct.pack(">II", 0x3FFFFFFF, 12)),
        "tiny-samples.mp4": patched(mp4, b"stsz", 4, struct.pack(">II", 1, 900_000)),
        "16384.mp4": mp4[:size] + struct.pack(">HH", 16_384, 16_384) + mp4[size + 4 :],
        "lower.mp4": mp4[:size] + struct.pack(">HH", 16, 16) + mp4[size + 4 :],
        "rate.mp4": patched(mp4, b"stts", 8, struct.pack(">II", 0x7FFFFFFF, 1)),
        "compressed.mp4": mp4.replace(b"mvhd", b"cmov"),
        "no-index.mp4": mp4.replace(b"moov", b"free"),
        "boxes.mp4": mp4 + box(b"free") * 5000,
        "gigabytes.avi": patched(avi, b"RIFF", 0, struct.pack("<I", 0xFFFFFFFF)),
        "16384.avi": patched(avi, b"strf", 8, struct.pack("<ii", 16_384, 16_384)),
        "nothings.avi": riff(b"RIFF", b"AVI " + start + riff(b"LIST", b"movi" + riff(b"00dc", b"") * 1_000_000)),
        "bytes.avi": riff(b"RIFF", b"AVI " + start + riff(b"LIST", b"movi" + riff(b"00dc", b"\1") * 500_000)),
        "zeros-behind.avi": avi + bytes(64 << 20),
        "chunks.avi": riff(b"RIFF", b"AVI " + riff(b"JUNK", b"") * 5000),
        "indices.avi": _indexed(avi),
        "no-film.avi": avi.replace(b"vids", b"auds"),
        "frame.gif": gif(8, 8, (60_000, 60_000, 5_000, 5_000)),
        "fewer.apng": apng(3, declared=1 << 30),
    } | matroska_bombs()


def _indexed(avi: bytes) -> bytes:
    """The film with an index of 256 indices, which are all the same one, far behind the film."""
    far = avi + riff(b"JUNK", bytes(1 << 18))
    base = struct.pack("<QI", 0, 0)
    index = riff(b"ix00", struct.pack("<HBBI4s", 2, 0, 1, 1, b"00dc") + base + struct.pack("<II", 0, 0))
    entries = struct.pack("<QII", len(far), len(index), 1) * 256
    header = riff(b"indx", struct.pack("<HBBI4s", 4, 0, 0, 256, b"00dc") + base + entries)
    # In place of the room that the encoder left for it.
    at, size = far.index(b"JUNK"), len(header)
    assert far[at : at + 8] == riff(b"JUNK", bytes(size - 8))[:8]
    return far[:at] + header + far[at + size :] + index


#: Files that some readers read, because what is asked of them is small.
HARMLESS = {
    "frames.gif": {"picture", "facts", "frames"},  # 100,000 of them
    "frames.apng": {"picture", "facts", "frames"},  # as many
    "times.apng": {"picture", "facts", "frames", "video", "metadata"},  # 4,000 denominators
    "long.png": {"picture", "metadata"},  # 100 MB behind the last row
    "animated.png": {"picture", "metadata"},  # a billion frames by its header, and none
    "exif.jpg": {"picture", "metadata"},  # 15 MB of it
    "passes.jpg": {"picture", "metadata"},  # 20,000 scans, of a small picture
    "profiles.tif": {"picture", "metadata"},  # 40 GB, all in the same bytes
    "playlist-behind.png": {"picture", "metadata"},
    "frame.gif": {"metadata"},  # whose header is in order
    "fewer.apng": {"picture"},
    "indices.avi": {"video", "frames", "facts", "metadata"},  # whose indices are not read
    "16384.avi": {"video", "frames", "facts", "metadata"},  # its stream says what is true
    "tiny-samples.mp4": {"metadata"},
    # Only reading the packet, or decoding it, tells:
    "header.mkv": {"metadata"},
    "huge-sample.mp4": {"metadata"},
    "lower.mp4": {"metadata"},
}


#: Files that take longer than the others, though no reading of one takes two seconds.
HEAVY = {
    *("segments.mkv", "void.mkv", "blocks.mkv", "laces.mkv", "unpacked.mkv", "bytes.avi", "nothings.avi"),
    *("comments.gif", "frames.gif", "frames.apng", "frames.webp", "times.apng"),
}


def harmless() -> dict[str, bytes]:
    """Files that look worse than they are."""
    jpeg = saved("JPEG")
    exif = b"\xff\xe1" + struct.pack(">H", 60_008) + b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\xff" * 59_992
    grey = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 8, 279: 64}
    tags = [(tag, 4, 1, value) for tag, value in grey.items()]
    tags += [(tag, 7, 40 << 20, 8) for tag in range(40_000, 41_000)]
    tiff = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    frames = chunk(b"acTL", struct.pack(">II", 1 << 30, 0))
    return {
        "frames.gif": gif(1, 1, (0, 0, 1, 1), 100_000),
        "frames.apng": apng(100_000),
        "times.apng": apng(4000, parts=40_000),
        "long.png": png(8, 8, rows=bytes(100 << 20)),
        "animated.png": png(8, 8, frames, rows=bytes(200)),
        "exif.jpg": jpeg[:2] + exif * 250 + jpeg[2:],
        "profiles.tif": struct.pack("<4sIH", b"II*\0", 8, len(tags)) + tiff + bytes(8),
        "playlist-behind.png": saved("PNG") + b"#EXTM3U\nhttp://127.0.0.1/\n",
    }


def noise(side: int) -> bytes:
    """A PNG of noise, which grows while it is read."""
    return saved("PNG", np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8))
