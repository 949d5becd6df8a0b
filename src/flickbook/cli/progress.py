"""Progress of a run on stderr: a bar on a terminal, one line per phase elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from flickbook.spec import Step

#: Phases of a film in order, and the usual share of its time that each takes.
FILM: Final = {"load": 0.06, "encode": 0.02, "denoise": 0.8, "decode": 0.09, "polish": 0.01, "write": 0.02}
#: Steps of a phase after which the remaining time is shown.
_ENOUGH: Final = 3


class ProgressLine:
    """Displays Steps: on a terminal as one bar over all phases of all films, which never goes backwards.

    Use it as a context manager and pass the object as `on_step`. A film is done when its last phase is.
    """

    def __init__(self, films: int = 1, phases: Mapping[str, float] = FILM, done: int = 0) -> None:
        self._films, self._phases = max(1, films), phases
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase, self._first, self._done, self._share = "", 0, done, 0.0
        self._pace: float | None = None  # seconds that one film takes, None if not known yet

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, step: Step) -> None:
        """Display one Step."""
        self.show(step.phase, step.index, step.total, step.seconds)

    def show(
        self, name: str, index: int, total: int, seconds: float, known: tuple[float, float | None] | None = None
    ) -> None:
        """Display that `index` of `total` steps of the phase `name` are done, `seconds` after the phase began.

        `known` are the finished share of the whole work, 0 to 1, and the seconds left, if the caller knows them.
        """
        share, left = self.after(name, index, total, seconds) if known is None else known
        if self._bar is not None:
            shown = "" if left is None else f"{_clock(left)} left"
            if self._task is None:
                self._task = self._bar.add_task(name, total=1.0, steps="", left="")
            self._bar.update(self._task, description=name, completed=share, steps=f"{index}/{total}", left=shown)
        elif index >= total:
            print(f"{name} {index}/{total} in {seconds:.1f} s", file=sys.stderr, flush=True)

    def after(self, name: str, index: int, total: int, seconds: float) -> tuple[float, float | None]:
        """The finished share of all films after a step, which never falls, and the seconds left, None if unknown."""
        if name != self._phase:
            # A resumed phase begins in the middle.
            self._phase, self._first = name, index - 1 if index > 1 else 0
        within = min(1.0, index / max(1, total))
        own = self._phases.get(name, 0.0)
        if index - self._first >= _ENOUGH and own and seconds > 0:
            self._pace = seconds * total / (index - self._first) / own
        names = list(self._phases)
        before = sum(self._phases[each] for each in names[: names.index(name)]) if own else 0.0
        share = (self._done + (before + own * within) / sum(self._phases.values())) / self._films
        if within == 1.0 and name == names[-1]:
            self._done += 1
        self._share = max(self._share, min(1.0, share))
        return self._share, None if self._pace is None else self._pace * self._films * (1 - self._share)


def _clock(seconds: float) -> str:
    """Format a duration: "0:07", "1:02:30"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    texts = [TextColumn("{task.description:<8}"), TextColumn("{task.fields[steps]}"), TextColumn("{task.fields[left]}")]
    columns = (texts[0], BarColumn(), TaskProgressColumn(), *texts[1:])
    return Progress(*columns, console=Console(stderr=True), transient=True)
