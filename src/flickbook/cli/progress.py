"""Progress of a run on stderr: a bar on a terminal, one line per phase elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from flickbook.spec import Step


class ProgressLine:
    """Displays each Step: the phase, the step, and the seconds left in this phase.

    Use it as a context manager and pass the object as `on_step`.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""

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

    def show(self, name: str, index: int, total: int, seconds: float) -> None:
        """Display that `index` of `total` steps of the phase `name` are done after `seconds`."""
        if self._bar is not None:
            self._draw(self._bar, name, index, total)
        elif index >= total:
            print(f"{name} {index}/{total} in {seconds:.1f} s", file=sys.stderr, flush=True)

    def _draw(self, bar: Progress, name: str, index: int, total: int) -> None:
        # A new progress task for each phase, because the remaining time is estimated from this phase alone.
        if self._task is None or name != self._phase:
            if self._task is not None:
                bar.remove_task(self._task)
            self._task = bar.add_task(name, total=total)
            self._phase = name
        bar.update(self._task, completed=index, total=total)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
