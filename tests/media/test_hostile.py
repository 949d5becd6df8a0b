"""Hostile files: bombs, lies, disguises and damage are refused in a process that may grow by 512 MB and no more.

The tasks of a probe's child run here without its limits of time. What each may do is counted: bytes that are read of
the file, and calls that Python makes. None opens another file or a socket.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import features
from tests.media.bombs import saved
from tests.media.hostile import HARMLESS, HEAVY, disguises, film_bombs, harmless, noise, picture_bombs

from flickbook.errors import MediaError, escaped
from flickbook.formats import encoding
from flickbook.media.inspect import inspect
from flickbook.media.read import facts, read_any, read_frames, read_picture, read_video
from flickbook.media.write import write

GROWTH = 512 << 20
#: What one reading may do at most: calls that Python makes, and bytes read for each of the file, and beyond those.
CALLS = 6_000_000
READS, MORE_BYTES = 8, 4 << 20
#: Seconds after which the system kills a reading that has no end; no machine is that slow.
ENDLESS = 300
#: Run with a folder: tries each task on each file in it, and prints what came of it, and how much memory it took.
PROGRAM = """
import json, os, resource, sys, threading, time
from cProfile import Profile
from dataclasses import asdict
from pathlib import Path
from PIL import Image
from flickbook.errors import MediaError
from flickbook.media.untrusted.probe_child import tasks
from flickbook.media.untrusted.sniff import DEFAULT_LIMITS, PICTURE_LIMITS
film, known = {"limits": asdict(DEFAULT_LIMITS)}, tasks()
asked = {"picture": ("picture", {"limits": asdict(PICTURE_LIMITS)}), "video": ("video", film), "facts": ("facts", film),
         "frames": ("frames", film | {"count": 4, "fps": 8.0}),
         "metadata": ("metadata", {"limits": None, "digest": True})}
Image.init()
def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))
def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])
def grow(path):
    with open(path, "ab") as file:
        while not done.wait(0.001) and file.tell() < 16 << 20:
            file.write(bytes(1 << 18))
            file.flush()
watched = None
def watch(event, arguments):
    if watched and event.startswith(("socket.", "subprocess.", "os.exec", "os.system", "ctypes.")):
        raise SystemExit(f"{event} {arguments}")
    # Modules are loaded when first used.
    if watched and event == "open" and not (isinstance(arguments[0], int) or arguments[0] in watched
                                            or str(arguments[0]).endswith((".py", ".pyc", ".so"))):
        raise SystemExit(f"opens {arguments[0]}")
sys.addaudithook(watch)
folder, growth, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
before = memory("VmHWM")
resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + growth,) * 2)
hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
found, work = {}, {}
for path in sorted(folder.iterdir()):
    found[path.name], work[path.name] = {}, {}
    for name, (task, arguments) in asked.items():
        print(path.name.encode("unicode_escape"), name, file=sys.stderr, flush=True)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, hard))
        done, writer = threading.Event(), None
        if path.name.startswith("growing"):
            writer = threading.Thread(target=grow, args=(path,))
            writer.start()
        calls, read = Profile(), bytes_read()
        watched = (str(path), path)
        try:
            calls.enable()
            for _ in known[task](path, **arguments):
                pass
            found[path.name][name] = None
        except MediaError as error:
            found[path.name][name] = str(error)
        finally:
            calls.disable()
            watched = None
            done.set()
            if writer:
                writer.join()
        work[path.name][name] = [sum(each.callcount for each in calls.getstats()), bytes_read() - read]
print(json.dumps([found, work, memory("VmHWM") - before]))
"""
Found = dict[str, dict[str, str | None]]


@pytest.fixture(scope="module")
def films(
    tmp_path_factory: pytest.TempPathFactory, encode: Callable[..., Path], steps: Callable[..., np.ndarray]
) -> Path:
    """One film of every container and codec, and sound alone."""
    folder = tmp_path_factory.mktemp("films")
    for name, codec in (("a.mp4", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4"), ("a.gif", "gif")):
        encode(folder / name, steps(12), codec)
    for name, codec in (("b.mp4", "h265"), ("c.mp4", "av1"), ("b.webm", "vp9"), ("c.webm", "av1"), ("a.mkv", "ffv1")):
        container: Any = name.partition(".")[2]
        write(folder / name, steps(12), 8, encoding=encoding(container, codec))
    for name in ("a.apng", "moving.webp"):
        write(folder / name, steps(12), 8, "a comment")
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


def outcomes(folder: Path) -> tuple[Found, int]:
    """What each reader said of each file, None if it read it, and the bytes that the process grew by.

    No reading may do more work than is allowed.
    """
    # One arena for all threads: each further one would set aside addresses that are never used.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(GROWTH), str(ENDLESS)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder.parent)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    found, work, growth = json.loads(done.stdout)
    for name, readings in work.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else 0
        for reader, (calls, read) in readings.items():
            assert calls <= CALLS, (name, reader, calls)
            assert read <= READS * size + MORE_BYTES, (name, reader, read, size)
    return found, growth


def check_refusals(found: Found) -> None:
    """Every refusal is one line that names the file and says what to do."""
    for name, refusals in found.items():
        for reader, refusal in refusals.items():
            if refusal is not None:
                assert "\n" not in refusal and "; " in refusal and escaped(name) in refusal, (name, reader, refusal)
                assert refusal.isprintable(), (name, reader)


needs_linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's account of memory")


def place_specials(folder: Path) -> int:
    """What is no file on a disk, or cannot be read; how many there are."""
    before = len(list(folder.iterdir()))
    (folder / "folder.mp4").mkdir()
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "nothing.mp4").symlink_to("missing")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "zeros.mp4").symlink_to("/dev/zero")
    (folder / "memory.mp4").symlink_to("/proc/self/mem")  # a regular file that cannot be read at its beginning
    (folder / "locked.mp4").write_bytes(bytes(99))
    (folder / "locked.mp4").chmod(0)
    return len(list(folder.iterdir())) - before


@needs_linux
@pytest.mark.skipif(not features.check("avif"), reason="needs a Pillow that reads AVIF")
@pytest.mark.parametrize("heavy", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["light", "heavy"])
def test_hostile_files_are_refused_within_memory_and_work(tmp_path: Path, films: Path, heavy: bool) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    files = disguises() | picture_bombs() | film_bombs((films / "a.mp4").read_bytes(), (films / "a.avi").read_bytes())
    files |= {"sound.mp4": (films / "sound.mp4").read_bytes()} | harmless()
    tried = {name: data for name, data in files.items() if (name in HEAVY) == heavy}
    for name, data in tried.items():
        (folder / name).write_bytes(data)
    specials = 0 if heavy else place_specials(folder)
    assert len({*tried.values()}) + specials >= (len(HEAVY) if heavy else 60) and files.keys() >= HEAVY
    found, growth = outcomes(folder)
    assert len(found) == len(tried) + specials
    assert 0 < growth < GROWTH
    check_refusals(found)
    read = {
        name: {reader for reader, refusal in refusals.items() if refusal is None} for name, refusals in found.items()
    }
    allowed = {name: able for name, able in HARMLESS.items() if name in tried}
    assert {name: able for name, able in read.items() if able} == allowed


@needs_linux
def test_a_file_growing_while_read_is_bounded(tmp_path: Path, films: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "growing.png").write_bytes(noise(1500))
    for form in ("JPEG", "TIFF", "WEBP", "AVIF"):
        (folder / f"growing.{form.lower()}").write_bytes(saved(form))
    for name in ("a.mp4", "a.mkv", "a.gif", "a.apng", "moving.webp", "a.avi"):
        (folder / f"growing-{name}").write_bytes((films / name).read_bytes())
    found, growth = outcomes(folder)
    assert growth < GROWTH
    check_refusals(found)


@needs_linux
@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 44), marks=pytest.mark.trial)], ids=["few", "many"])
def test_truncated_and_flipped_files_are_read_or_refused_within_memory(
    tmp_path: Path, films: Path, seeds: range
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    whole = {path.name: path.read_bytes() for path in films.iterdir() if path.name != "sound.mp4"}
    whole |= {f"a.{form.lower()}": saved(form) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "AVIF")}
    assert len(whole) == 17
    for name, data in whole.items():
        for seed in seeds:
            (folder / f"flipped-{seed}-{name}").write_bytes(flipped(data, seed))
        (folder / f"half-{name}").write_bytes(data[: len(data) // 2])
        (folder / f"nearly-{name}").write_bytes(data[: len(data) - len(data) // 50 - 9])
    found, growth = outcomes(folder)
    assert growth < GROWTH
    check_refusals(found)
    read = {
        (name, reader)
        for name, refusals in found.items()
        for reader, refusal in refusals.items()
        if not name.startswith("flipped") and refusal is None
    }
    # Where the headers of a picture are in order, and so is the first picture of a film.
    inspected = {(name, reader) for name, reader in read if reader == "metadata"}
    assert all(name.endswith((".png", ".bmp", ".tiff", ".jpeg", ".avif")) for name, _ in inspected), inspected
    first = {(f"{begin}-{name}", "picture") for begin in ("half", "nearly") for name in ("a.gif", "a.apng")}
    assert read - inspected <= first, read - inspected - first


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
                for read in (read_picture, read_video, read_any, facts, inspect, lambda path: read_frames(path, 1, 8)):
                    with pytest.raises(MediaError):
                        read(tmp_path / name if suffix == name else there)
        with pytest.raises(BlockingIOError):
            server.accept()
