"""`flickbook doctor`: checks the machine, what fits on it, and how to fix problems."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from flickbook.cli import console, options
from flickbook.errors import FlickbookError

if TYPE_CHECKING:
    from flickbook.settings import Settings

GIB = 2**30
#: Characters in a line of a list.
_WIDTH = 100
OLDEST_PYTHON = (3, 11)
ENOUGH_DISK = GIB
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
REINSTALL = "reinstall the package, or check the repository out again"


@dataclass(frozen=True)
class Check:
    """One result: `fail` prevents the built-in model from running, `warn` does not. `remedy` is empty for `ok`."""

    name: str
    state: Literal["ok", "warn", "fail"]
    value: str
    remedy: str = ""


def doctor(as_json: options.AsJson = False) -> None:
    """Check this machine: exit code 0 if the built-in model can run, 1 if not."""
    from flickbook import settings

    chosen = settings.load()
    console.start(chosen.log_level)
    checks = list(examine(chosen))
    healthy = all(check.state != "fail" for check in checks)
    if as_json:
        console.document({"ok": healthy, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            # Only lists are wrapped; a path stays whole.
            lines = textwrap.wrap(check.value, _WIDTH) if "; " in check.value else [check.value]
            print(
                f"{check.state:<4}  {check.name:<11} {lines[0]}", *(f"{'':<17} {line}" for line in lines[1:]), sep="\n"
            )
            if check.remedy:
                print(f"{'':<17} -> {check.remedy}")
        print("the built-in model can run here" if healthy else "the built-in model cannot run here yet")
    if not healthy:
        raise typer.Exit(1)


def examine(chosen: Settings) -> Iterator[Check]:
    """Yield every check in display order: machine, libraries, disk space, model, what fits."""
    yield _python()
    yield Check("platform", "ok", f"{platform.platform()}, {_cores()} processor cores")
    yield from _torch(chosen)
    yield from _packages()
    yield _memory()
    yield _disk("output", chosen.output_dir, needed=True)
    yield _disk("cache", chosen.cache_dir, needed=False)
    yield _jobs()
    yield _codecs()
    yield _weights()
    yield from _fits()


def _jobs() -> Check:
    """Check whether the job store opens."""
    from flickbook.jobs.backend import Backend
    from flickbook.store.connect import connect

    try:
        store = connect()
        title, path = store.title, getattr(store, "path", None)
        if path is not None and not path.exists():
            return Check("jobs", "ok", f"{title}: none yet")
        with Backend.at() as backend:
            counts = backend.ask(backend.store.counts())
    except FlickbookError as error:
        text, _, remedy = str(error).rpartition("; ")
        return Check("jobs", "warn", text, remedy)
    held = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"
    return Check("jobs", "ok", f"{title}: {held}")


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("python", "fail", version, "install Python 3.11 or newer")
    return Check("python", "ok", f"{version} at {sys.executable}")


def _cores() -> int:
    # Containers and `taskset` provide fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torch(chosen: Settings) -> Iterator[Check]:
    """Check PyTorch and its GPU. A GPU is optional."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library that fails to load
        yield Check("torch", "fail", f"cannot be imported: {error}", 'run `pip install "flickbook[gen]"`')
        return
    threads = chosen.threads or torch.get_num_threads()
    cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    yield Check("torch", "ok", f"{torch.__version__}, {cuda}, {threads} threads")
    driver = _driver()
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        value = f"{card.name}, {card.total_memory / GIB:.1f} GiB, driver {driver or 'unknown'}"
        yield Check("gpu", "ok", value)
    elif driver:
        remedy = "install a torch built for a CUDA version that this driver supports, or a newer driver"
        yield Check("gpu", "warn", f"driver {driver}, but torch cannot use the GPU", remedy)
    else:
        yield Check("gpu", "ok", "none; the built-in model does not need one")


def _driver() -> str:
    """Return the version of NVIDIA's driver; "" if there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return ""
    return found[0] if found else ""


def _packages() -> Iterator[Check]:
    """Check the packages that the built-in model needs, and the optional ones."""
    from importlib.metadata import PackageNotFoundError, version

    needed: dict[str, tuple[str, str]] = {
        "tokenizers": ("gen", ""),
        "safetensors": ("gen", ""),
        "matplotlib": ("gen", "; --steps-sheet needs it"),
        "opencv-python-headless": ("finish", "; --interpolate needs it"),
    }
    for name, (extra, need) in needed.items():
        shown = "opencv" if name.startswith("opencv") else name
        try:
            yield Check(shown, "ok", version(name))
        except PackageNotFoundError:
            yield Check(
                shown, "warn" if need else "fail", f"not installed{need}", f'run `pip install "flickbook[{extra}]"`'
            )


def free_memory() -> int:
    """Return the bytes that a new process may use: free memory, within the limit of a container."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit = int(CGROUP_LIMIT.read_text())
    except (OSError, ValueError):  # no container, or its limit is "max"
        return free
    return min(free, max(0, limit - _used_in_container()))


def _used_in_container() -> int:
    try:
        return int(CGROUP_LIMIT.with_name("memory.current").read_text())
    except (OSError, ValueError):
        return 0


def _memory() -> Check:
    import psutil

    total, free = int(psutil.virtual_memory().total), free_memory()
    return Check("memory", "ok", f"{free / GIB:.1f} of {total / GIB:.1f} GiB free")


def _disk(name: str, directory: Path, needed: bool) -> Check:
    """Check that `directory`, or the place where it would be created, is writable and has space."""
    worst: Literal["warn", "fail"] = "fail" if needed else "warn"
    parent = directory.absolute()
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    remedy = f"set FLICKBOOK_{name.upper()}_DIR to a directory that you may write to"
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return Check(name, worst, f"{directory} cannot be written", remedy)
    free = shutil.disk_usage(parent).free
    value = f"{directory}, {free / GIB:.1f} GiB free"
    return Check(name, "ok", value) if free >= ENOUGH_DISK else Check(name, "warn", value, "free some space")


def _codecs() -> Check:
    try:
        import av
    except (ImportError, OSError) as error:
        return Check("codecs", "fail", f"PyAV cannot be imported: {error}", "run `pip install --force-reinstall av`")
    from flickbook.formats import CODECS
    from flickbook.media.encode import writable_codecs

    value = f"PyAV {av.__version__}, FFmpeg {getattr(av, 'ffmpeg_version_info', 'unknown')}"
    failures = writable_codecs()
    if failures["h264"]:
        return Check("codecs", "fail", f"{value}, without libx264", "install PyAV's own wheel: `pip install av`")
    works = [name for name, reason in failures.items() if not reason]
    soft, hard = ([name for name in works if CODECS[name].hardware is kind] for kind in (False, True))
    return Check("codecs", "ok", f"{value}: {', '.join(soft)}; hardware encoders: {', '.join(hard) or 'none'}")


def _weights() -> Check:
    """Hash the built-in model's files: the only check that reads them completely."""
    from flickbook.catalogue import find

    model = find("builtin")
    try:
        from flickbook.hub.manifest import verify

        files = verify(model.path())
    except FlickbookError as error:
        return Check("weights", "fail", str(error), REINSTALL)
    except ImportError:
        return Check("weights", "fail", "not verified, because torch is missing", 'run `pip install "flickbook[gen]"`')
    return Check("weights", "ok", f"{model.name} {model.revision()}, {len(files)} files verified")


def _fits() -> Iterator[Check]:
    """Check which models can make a film of their default size on this machine, in what memory and time."""
    from flickbook.catalogue import list_models
    from flickbook.engine.memory import run_history
    from flickbook.engine.memory.fit import estimate
    from flickbook.engine.memory.machine import Machine
    from flickbook.resolution import usual

    machine, records = Machine.here(), run_history.read()
    able, slow, large = list[str](), list[str](), list[str]()
    for model in list_models():
        try:
            found = estimate(model, usual(model), machine, records=records)
        except FlickbookError as error:
            yield Check(f"fits {model.name}", "warn", str(error), f"run `flickbook models pull {model.name}` again")
            continue
        memory = f"{model.name} {found.peak / GIB:.1f} GiB"
        if not found.fits:
            large.append(memory)
        else:
            (slow if found.slow() else able).append(f"{memory}, {found.time()}")
    if able or slow:
        yield Check("fits", "ok", f"memory and time of a film: {'; '.join(able) or 'none in less than an hour'}")
    else:
        yield Check("fits", "warn", "no model, not even the built-in one", "close other programs")
    if slow:
        yield Check("slow", "ok", f"a film fits, but takes an hour or more: {'; '.join(slow)}")
    hint = ". `flickbook generate … --dry-run` shows what would fit"
    yield Check("large", "ok", f"a film does not fit into memory: {'; '.join(large)}{hint}" if large else "no model")
