"""Files are read by children with limits: what exceeds one is refused in a line, and the next file is read."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from tests.media.bombs import gif, png, saved

from flickbook.errors import LimitReached, MediaError
from flickbook.media.untrusted.probe import Budget, Pool

PLENTY = Budget(memory_mib=512, cpu_seconds=300, seconds=3600)
MANY = {"file_bytes": 1 << 30, "pixels": 1 << 24, "frames": 1 << 20, "decoded_bytes": 1 << 50}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system enforces no such limit")


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(children=1, waiting=0)
    yield made
    made.close()


@pytest.fixture
def film(tmp_path: Path, encode: Callable[..., Path], steps: Callable[..., np.ndarray]) -> Path:
    return encode(tmp_path / "film.mp4", steps(6))


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A GIF of 2 MB whose last frame is found by drawing 100,000 canvases of four million pixels."""
    path = tmp_path / "endless.gif"
    path.write_bytes(gif(2000, 2000, (0, 0, 1, 1), 100_000))
    return path


def answer(pool: Pool, path: Path, task: str = "size", budget: Budget = PLENTY, **arguments: object) -> object:
    *_, last = pool.stream(task, path, budget, **arguments)
    return last.value


def children(of: psutil.Process) -> list[psutil.Process]:
    return [each for each in of.children() if "flickbook.media.untrusted.probe_child" in each.cmdline()]


def check_reads(pool: Pool, place: Path) -> None:
    """The pool still reads a usual picture."""
    (place / "usual.png").write_bytes(saved("PNG"))
    assert answer(pool, place / "usual.png") == [64, 48]


@pytest.mark.slow
@linux
def test_an_image_above_the_memory_limit_is_refused(tmp_path: Path, pool: Pool) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png(6000, 6000, rows=bytes(6000 * 18_001)))
    small = Budget(memory_mib=64, cpu_seconds=300, seconds=3600)
    with pytest.raises(MediaError, match=r"large.png: needs more than 64 MiB of memory to read; make it shorter"):
        answer(pool, path, "picture", small, limits=None)
    check_reads(pool, tmp_path)
    assert answer(pool, path, "picture", PLENTY, limits=None) == {"shape": [6000, 6000, 3]}


@linux
def test_a_film_above_the_memory_limit_is_refused(tmp_path: Path, pool: Pool) -> None:
    """FFV1 keeps a model for each slice: a thousand of them take 30 times what the pixels do."""
    path = tmp_path / "slices.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=8, options={"slices": "1024", "level": "3", "context": "1"})
        stream.width, stream.height, stream.pix_fmt = 640, 640, "bgr0"
        frame = av.VideoFrame.from_ndarray(np.zeros((640, 640, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame.reformat(format="bgr0")), *stream.encode(None)])
    with pytest.raises(MediaError, match="slices.mkv: needs more than 64 MiB of memory to read; make it shorter"):
        answer(pool, path, "video", Budget(memory_mib=64, cpu_seconds=300, seconds=3600), limits=MANY)
    check_reads(pool, tmp_path)


@pytest.mark.slow
@linux
def test_a_film_above_the_cpu_limit_is_refused(tmp_path: Path, pool: Pool, endless: Path) -> None:
    brief = Budget(memory_mib=512, cpu_seconds=2, seconds=3600)
    with pytest.raises(MediaError, match="endless.gif: needs more than 2 seconds of processor time to read; make it"):
        answer(pool, endless, "last", brief)
    check_reads(pool, tmp_path)


@pytest.mark.slow
@linux
def test_a_jpeg_of_many_scans_is_refused_by_its_processor_time(tmp_path: Path, pool: Pool) -> None:
    """A scan of 20 bytes costs as much as the whole image."""
    passes = saved("JPEG", np.zeros((4096, 4096, 3), np.uint8), progressive=True)
    last = passes[passes.rindex(b"\xff\xda") : -2]
    (tmp_path / "passes.jpg").write_bytes(passes[:-2] + last * 20_000 + b"\xff\xd9")
    brief = Budget(memory_mib=512, cpu_seconds=2, seconds=3600)
    with pytest.raises(MediaError, match="passes.jpg: needs more than 2 seconds of processor time to read"):
        answer(pool, tmp_path / "passes.jpg", "picture", brief, limits=None)
    check_reads(pool, tmp_path)


@pytest.mark.slow
def test_a_film_above_the_time_limit_is_refused(tmp_path: Path, pool: Pool, endless: Path) -> None:
    brief = Budget(memory_mib=512, cpu_seconds=300, seconds=2)
    with pytest.raises(MediaError, match="endless.gif: needs more than 2 seconds to read; make it"):
        answer(pool, endless, "last", brief)
    check_reads(pool, tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGSEGV"), reason="there are no signals")
def test_a_crashing_child_fails_its_own_file_only(tmp_path: Path, pool: Pool, endless: Path) -> None:
    others = children(psutil.Process())
    with closing(pool.stream("video", endless, PLENTY, limits=MANY)) as messages:
        assert next(messages).value["most"] == 100_000
        (child,) = set(children(psutil.Process())) - {*others}
        child.send_signal(signal.SIGSEGV)
        with pytest.raises(MediaError, match=r"endless.gif: ends the process that reads it \(SIGSEGV\); convert it"):
            list(messages)
    check_reads(pool, tmp_path)


@pytest.mark.slow
def test_children_end_with_their_parent(endless: Path) -> None:
    program = """
import sys, time
from flickbook.media.untrusted.probe import DECODE, pool
messages = pool().stream("last", sys.argv[1], DECODE)
print("begun", flush=True)
next(messages)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(endless)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"begun\n"
        while not (found := children(psutil.Process(parent.pid))):
            time.sleep(0.05)
        parent.kill()
    ended, alive = psutil.wait_procs(found, 60)
    assert len(ended) == 1 and not alive


def test_a_full_pool_refuses_with_retry_after(tmp_path: Path, pool: Pool, film: Path) -> None:
    with closing(pool.stream("video", film, PLENTY, limits=MANY)) as messages:
        assert next(messages).value == {"most": 6, "rate": 8.0}
        with pytest.raises(LimitReached, match="film.mp4: 1 files are being read already; send it again") as refused:
            answer(pool, film)
        assert refused.value.retry_after > 0
    check_reads(pool, tmp_path)
