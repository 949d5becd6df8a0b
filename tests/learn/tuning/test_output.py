"""The output directory of a training: one process at a time writes to it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from flickbook.errors import OutputError
from flickbook.learn.tuning.output import alone, check_free, check_output

HOLD = """
import sys
from pathlib import Path
from flickbook.learn.tuning.output import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Ranks:
    """One of several processes, of which the first holds the directory or not."""

    device = torch.device("cpu")

    def __init__(self, is_main_process: bool, held: bool) -> None:
        self.is_main_process, self.held = is_main_process, held

    def reduce(self, _: torch.Tensor, how: str) -> torch.Tensor:
        return torch.tensor(float(self.held))


def test_a_training_is_refused_while_another_one_writes_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        message = "another training is writing to this directory; wait until that one has ended, or choose another"
        with pytest.raises(OutputError, match=f"{tmp_path}: {message}"):
            check_free(tmp_path)
        other.kill()
        other.wait()
    check_free(tmp_path)
    check_output(tmp_path)  # killed before anything else was written, it is still a directory for a training


def test_a_directory_is_waited_for_as_long_as_asked(tmp_path: Path) -> None:
    with ExitStack() as other:
        other.enter_context(alone(tmp_path))

        def ends() -> bool:
            other.close()
            return True

        with alone(tmp_path, ends), pytest.raises(OutputError):
            check_free(tmp_path)


def test_of_several_processes_the_first_holds_the_directory_for_all(tmp_path: Path) -> None:
    with alone(tmp_path, accelerator=Ranks(is_main_process=False, held=True)), alone(tmp_path):
        for first in (True, False):
            with pytest.raises(OutputError), alone(tmp_path, accelerator=Ranks(first, held=False)):
                pass
