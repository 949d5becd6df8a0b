"""OpenVINO in an environment of its own under build/, made when it is first needed.

Its converter reads the stock networks by tracing them; a process of that environment holds the compiled networks and
makes a film when it is told to, with diffusers' DDIM between them, so that it takes turns with all others. PyTorch and
diffusers are seen there through a path file, not installed again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import venv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.subject import Side, Subject, bytes_of

PACKAGE, PLACE = "openvino==2026.4.1", Path("build/bench/openvino")
#: Seconds to convert and compile in; a network that takes longer is not measured.
_PATIENCE = 1800
NOTES = (
    "converted by tracing for this one size of film; another size is converted again",
    "the words' keys and values are computed in every step, as the stock network does",
)


def environment() -> Path:
    """Its Python. Raises CalledProcessError where the package cannot be installed."""
    python = PLACE / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (PLACE / ".ready").exists():
        venv.create(PLACE, clear=True, with_pip=True)
        ask = [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
        place = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
        (place / "beside.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", PACKAGE]
        subprocess.run(pip, check=True, capture_output=True)
        (PLACE / ".ready").touch()
    return python


class Worker:
    """The process that has OpenVINO, spoken to by lines of JSON."""

    def __init__(self, subject: Subject, precisions: tuple[str, ...], keep: Path | None) -> None:
        self.folder = tempfile.TemporaryDirectory()
        given = {"latents": subject.latents, "context": subject.context, "negative": subject.negative}
        np.savez(Path(self.folder.name) / "given.npz", **{name: value.numpy() for name, value in given.items()})
        task = {
            "directory": str(subject.directory.resolve()),
            "folder": self.folder.name,
            "steps": subject.steps,
            "guidance": subject.guidance,
            "whole": subject.whole,
            "threads": subject.threads,
            "precisions": precisions,
            "keep": str(keep.resolve()) if keep else None,
        }
        command = [str(environment()), "-W", "ignore", "-m", "bench.rivals.openvino_worker", json.dumps(task)]
        search = os.pathsep.join(path for path in (str(Path.cwd()), *sys.path) if path and "site-packages" not in path)
        self.said = Path(self.folder.name) / "said.txt"  # a pipe that nobody reads would fill up
        with self.said.open("w", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env={**os.environ, "PYTHONPATH": search},
            )
        limit = threading.Timer(_PATIENCE, self.process.kill)
        limit.start()
        try:
            self.ready = self._told()
        finally:
            limit.cancel()

    def _told(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries may print, too
                return json.loads(line)
        said = self.said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RuntimeError(f"it ended with code {self.process.wait()}" + (f": {said[-1]}" if said else ""))

    def film(self, precision: str, whole: bool) -> Any:
        """Have a film made, and read it."""
        assert self.process.stdin is not None
        self.process.stdin.write(precision + "\n")
        self.process.stdin.flush()
        self._told()
        made = np.load(Path(self.folder.name) / "made.npy")
        return bytes_of(made) if whole else torch.from_numpy(made)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


def sides(
    subject: Subject, precisions: tuple[str, ...] = ("f32", "bf16"), keep: Path | None = None
) -> tuple[Worker, list[Side]]:
    """One side for each precision that OpenVINO computes in; in bf16 it is not exact.

    A large U-Net is converted once, into the folder `keep`. Raises RuntimeError, CalledProcessError or OSError, in
    words, where OpenVINO cannot be installed or cannot convert the network.
    """
    worker = Worker(subject, precisions, keep)
    found = []
    for precision in precisions:
        prepared = worker.ready["convert_s"] + worker.ready["compile_s"][precision]
        kind = precision.replace("f32", "fp32")
        call = partial(worker.film, precision, subject.whole)
        found.append(Side(f"OpenVINO, {kind}", call, kind, prepared=prepared, notes=list(NOTES)))
    return worker, found
