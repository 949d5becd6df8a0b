"""Hostile files: bombs, lies, disguises and damage are refused in a process that may grow by 512 MB and no more."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from flickbook.errors import MediaError
from flickbook.media.inspect import inspect
from flickbook.media.read import facts, read_frames, read_picture, read_video

GROWTH = 512 << 20
READERS = ("picture", "video", "frames", "facts", "inspect")
#: Run with a folder: tries each reader on each file in it, and prints what came of it and how much memory it took.
PROGRAM = """
import json, resource, sys
from pathlib import Path
from flickbook.errors import MediaError
from flickbook.media.inspect import inspect
from flickbook.media.read import facts, read_frames, read_picture, read_video
readers = {"picture": read_picture, "video": read_video, "frames": lambda path: read_frames(path, 4, 8),
           "facts": facts, "inspect": inspect}
def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))
before = memory("VmHWM")
resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + int(sys.argv[2]),) * 2)
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    for name, read in readers.items():
        try:
            read(path)
            found[f"{path.name} {name}"] = None
        except MediaError as error:
            found[f"{path.name} {name}"] = str(error)
print(json.dumps([found, memory("VmHWM") - before]))
"""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, rows: bytes = b"", depth: int = 8, colours: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def gif(width: int, height: int, frame: tuple[int, int, int, int], count: int = 1) -> bytes:
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    one = b"\x21\xf9\x04\0\0\0\0\0" + b"\x2c" + struct.pack("<HHHH", *frame) + b"\0\x02\x02\x44\x01\0"
    return head + one * count + b";"


def patched(data: bytes, kind: bytes, offset: int, patch: bytes) -> bytes:
    """`data` with `patch` so many bytes behind the first `kind`."""
    at = data.index(kind) + len(kind) + offset
    return data[:at] + patch + data[at + len(patch) :]


def element(kind: str, data: bytes) -> bytes:
    return bytes.fromhex(kind) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def saved(form: str, **options: Any) -> bytes:
    stream = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def disguises() -> dict[str, bytes]:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(10 << 20))
    return {
        "empty.mp4": b"",
        "empty.png": b"",
        "one-byte.png": b"\x89",
        "text.mp4": b"Dear diary, today nothing moved.\n" * 9,
        "hls.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "concat.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "sdp.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
        "drawing.png": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        "archive.png": archive.getvalue(),
        "postscript.jpg": b"%!PS-Adobe-3.0\nquit\n",
        "pickle.webp": b"\x80\x04\x95cposix\nsystem\n.",
        "flash.mp4": b"FLV\x01\x05\0\0\0\x09" + bytes(200),
        "wave.avi": b"RIFF\x24\0\0\0WAVEfmt " + bytes(200),
        "fits.tif": b"SIMPLE  =                    T" + bytes(2850),
        "bigtiff.tif": b"II\x2b\0\x08\0\0\0" + bytes(200),
        "only-magic.png": b"\x89PNG\r\n\x1a\n",
        "only-magic.jpg": b"\xff\xd8\xff",
        "only-magic.gif": b"GIF89a",
        "only-magic.webp": b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0",
        "only-magic.webm": b"\x1a\x45\xdf\xa3",
        "only-magic.mp4": b"\0\0\0\x18ftypisom",
        "only-magic.avi": b"RIFF\x20\0\0\0AVI ",
        "only-magic.bmp": b"BM",
        "only-magic.tif": b"II*\0",
    }


def picture_bombs() -> dict[str, bytes]:
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(20 << 20), 1))
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100 << 20), 1))
    jpeg, bitmap, webp = (
        saved("JPEG"),
        saved("BMP"),
        saved("WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
    )
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
        "canvas.webp": webp[:24] + b"\xff\xff\xff\xff\xff\xff" + webp[30:],
        "screen.gif": gif(65_535, 65_535, (0, 0, 1, 1)),
        "comments.gif": gif(1, 1, (0, 0, 1, 1)).replace(b"\x21\xf9", b"\x21\xfe\x01a\0" * 700_000 + b"\x21\xf9"),
        "tags.tif": struct.pack("<4sIH", b"II*\0", 8, 60_000)
        + b"".join(struct.pack("<HHII", tag, 1, 50 << 20, 8) for tag in range(254, 60_254)),
    }


def film_bombs(mp4: bytes, webm: bytes, avi: bytes) -> dict[str, bytes]:
    head = element("1A45DFA3", element("4282", b"webm"))
    size = mp4.index(b"avc1", mp4.index(b"stsd")) + 28
    assert mp4[size : size + 4] == struct.pack(">HH", 64, 48)
    return {
        "samples.mp4": patched(mp4, b"stsz", 4, struct.pack(">II", 1, 1_000_000_000)),
        "huge-sample.mp4": patched(mp4, b"stsz", 4, struct.pack(">II", 0x3FFFFFFF, 12)),
        "16384.mp4": mp4[:size] + struct.pack(">HH", 16_384, 16_384) + mp4[size + 4 :],
        "lower.mp4": mp4[:size] + struct.pack(">HH", 16, 16) + mp4[size + 4 :],
        "rate.mp4": patched(mp4, b"stts", 8, struct.pack(">II", 0x7FFFFFFF, 1)),
        "compressed.mp4": mp4.replace(b"mvhd", b"cmov"),
        "no-index.mp4": mp4.replace(b"moov", b"free"),
        "no-film.webm": head + element("18538067", element("1549A966", b"") + element("1654AE6B", b"")),
        "million-tracks.webm": head + element("18538067", element("1654AE6B", b"\xae\x80" * 1_000_000)),
        "attachments.webm": head + element("18538067", element("1941A469", b"\x61\xa7\x80" * 1_000_000) * 3),
        "longer-than-it-is.webm": head + bytes.fromhex("18538067") + (1 << 40 | 1 << 56).to_bytes(8, "big") + bytes(99),
        "gigabytes.avi": patched(avi, b"RIFF", 0, struct.pack("<I", 0xFFFFFFFF)),
        "no-film.avi": avi.replace(b"vids", b"auds"),
        "frame.gif": gif(8, 8, (60_000, 60_000, 5_000, 5_000)),
    }


#: Files that some readers read, because what is asked of them is small.
HARMLESS = {
    "frames.gif": {"picture", "facts", "frames"},  # 100,000 of them
    "long.png": {"picture", "inspect"},  # 100 MB behind the last row
    "animated.png": {"picture", "inspect"},  # a billion frames, by its header
    "exif.jpg": {"picture", "inspect"},  # 15 MB of it
    "profiles.tif": {"picture", "inspect"},  # 40 GB, all in the same bytes
    "playlist-behind.png": {"picture", "inspect"},
    "frame.gif": {"inspect"},  # whose header is in order
}


def harmless() -> dict[str, bytes]:
    jpeg = saved("JPEG")
    exif = b"\xff\xe1" + struct.pack(">H", 60_008) + b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\xff" * 59_992
    grey = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 8, 279: 64}
    tags = [(tag, 4, 1, value) for tag, value in grey.items()]
    tags += [(tag, 7, 40 << 20, 8) for tag in range(40_000, 41_000)]
    tiff = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    frames = chunk(b"acTL", struct.pack(">II", 1 << 30, 0))
    return {
        "frames.gif": gif(1, 1, (0, 0, 1, 1), 100_000),
        "long.png": png(8, 8, rows=bytes(100 << 20)),
        "animated.png": png(8, 8, frames, rows=bytes(200)),
        "exif.jpg": jpeg[:2] + exif * 250 + jpeg[2:],
        "profiles.tif": struct.pack("<4sIH", b"II*\0", 8, len(tags)) + tiff + bytes(8),
        "playlist-behind.png": saved("PNG") + b"#EXTM3U\nhttp://127.0.0.1/\n",
    }


@pytest.fixture(scope="module")
def films(
    tmp_path_factory: pytest.TempPathFactory, encode: Callable[..., Path], steps: Callable[..., np.ndarray]
) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, codec in (("a.mp4", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4"), ("a.gif", "gif")):
        encode(folder / name, steps(12), codec)
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), format="fltp", layout="stereo")
        silence.sample_rate, silence.pts = 48000, 0
        for frame in (silence, None):
            container.mux(stream.encode(frame))
    return folder


def flipped(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.choice((1, 4, 32))):
        at = rng.randrange(rng.choice((min(900, len(out)), len(out))))
        out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def outcomes(folder: Path) -> tuple[dict[str, str | None], int]:
    """What each reader said of each file, None if it read it, and the bytes that the process grew by."""
    # One arena for all threads: each further one would set aside addresses that are never used.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(GROWTH)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found, growth = json.loads(done.stdout)
    return found, growth


needs_linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's account of memory")


@needs_linux
def test_what_is_hostile_is_refused_within_its_memory(tmp_path: Path, films: Path) -> None:
    files = disguises() | picture_bombs()
    files |= film_bombs(*((films / name).read_bytes() for name in ("a.mp4", "a.webm", "a.avi")))
    files["sound.mp4"] = (films / "sound.mp4").read_bytes()
    assert len(files) >= 50
    for name, data in (files | harmless()).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "nothing.mp4").symlink_to("missing")
    os.mkfifo(tmp_path / "pipe.mp4")
    found, growth = outcomes(tmp_path)
    assert 0 < growth < GROWTH
    for case, refusal in found.items():
        name, reader = case.split()
        allowed = HARMLESS.get(name, set())
        if name in ("huge-sample.mp4", "lower.mp4"):  # only reading the packet, or decoding it, tells
            allowed = {"inspect"}
        assert (refusal is None) == (reader in allowed), (case, refusal)
        if refusal is not None:
            assert "\n" not in refusal and "; " in refusal and name in refusal
            assert "more memory than there is" not in refusal, "refused by luck, not by a limit"


@needs_linux
def test_what_is_cut_or_flipped_is_read_or_refused_within_its_memory(tmp_path: Path, films: Path) -> None:
    whole = {path.name: path.read_bytes() for path in films.iterdir() if path.name != "sound.mp4"}
    whole |= {f"a.{form.lower()}": saved(form) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")}
    for name, data in whole.items():
        for seed in range(12):
            (tmp_path / f"flipped-{seed}-{name}").write_bytes(flipped(data, seed))
        (tmp_path / f"half-{name}").write_bytes(data[: len(data) // 2])
    found, growth = outcomes(tmp_path)
    assert growth < GROWTH
    read = [case for case, refusal in found.items() if case.startswith("half-") and not refusal]
    # Headers are in order, and so is the first picture of a GIF.
    assert [case for case in read if not case.endswith("inspect")] in ([], ["half-a.gif picture"])
    assert all("\n" not in refusal for refusal in found.values() if refusal)


def test_no_file_opens_a_socket_or_another_file(tmp_path: Path, films: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes((films / "a.mp4").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        there = f"http://127.0.0.1:{server.getsockname()[1]}/film.mp4"
        disguised = {
            "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{there}\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
            "concat.mp4": f"ffconcat version 1.0\nfile '{there}'\nfile '{secret}'\n",
            "dash.mp4": f"<?xml version='1.0'?><MPD><BaseURL>{there}</BaseURL></MPD>",
            "drawing.png": f"<svg xmlns='http://www.w3.org/2000/svg'><image href='{there}'/></svg>",
            "sdp.mp4": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\na=control:{there}\n",
            "address.mp4": there,
        }
        for name, text in disguised.items():
            (tmp_path / name).write_text(text)
            for suffix in (name, there):  # an address is no path either
                for read in (read_picture, read_video, facts, inspect, lambda path: read_frames(path, 1, 8)):
                    with pytest.raises(MediaError):
                        read(tmp_path / name if suffix == name else there)
        with pytest.raises(BlockingIOError):
            server.accept()
