"""Download of model files that a command needs: after a confirmation, with --yes, or if the settings allow it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from flickbook.errors import Cancelled, HubError, ModelNotPulled

if TYPE_CHECKING:
    from flickbook.catalogue import Model

#: Seconds between two updates of the line on a terminal.
_DRAW_EVERY = 0.2


def require(model: Model, yes: bool = False) -> None:
    """Ensure that the files of a model are on this machine.

    Missing files are downloaded with `yes`, if the setting `pull` is auto, or after a confirmation on the terminal.
    Raises ModelNotPulled without a terminal to ask on and if the hub is unreachable, HubError for other failures,
    Cancelled after a no, WeightsError for a model without a repository.
    """
    from flickbook import settings
    from flickbook.hub.fetch import fetch, remaining
    from flickbook.hub.find import directory

    try:
        directory(model)
        return
    except ModelNotPulled as error:
        absent = error
    agreed = yes or settings.load().pull == "auto"
    if not agreed and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ModelNotPulled(model.name, absent.terms, f"{absent.remedy}, or add --yes")
    try:
        left = remaining(model)
    except HubError as error:
        raise ModelNotPulled(model.name, absent.terms, str(error)) from error
    rest = f" {left / 1e9:.2f} GB are left to download." if model.download_gb != round(left / 1e9, 2) else ""
    print(f"{model.name} is not on this machine yet: {absent.terms}.{rest}", file=sys.stderr, flush=True)
    if not agreed:
        _ask()
    fetch(model, PullProgress(model.name))


def _ask() -> None:
    """Ask whether to download. Raises Cancelled for any answer but yes."""
    print("Download it now? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    if answer.strip().lower() not in ("y", "yes"):
        raise Cancelled


class PullProgress:
    """Download progress on stderr: a line that is redrawn on a terminal, a line for each tenth elsewhere."""

    def __init__(self, name: str) -> None:
        self.name, self.drawn, self.began, self.first, self.tenths = name, 0.0, time.monotonic(), -1, -1

    def __call__(self, done: int, total: int) -> None:
        """Display that `done` of `total` bytes are downloaded."""
        text = f"pulling {self.name}: {done / 1e9:.2f} of {total / 1e9:.2f} GB"
        if not sys.stderr.isatty():
            tenths = 10 * done // max(total, 1)
            if tenths != self.tenths:
                self.tenths = tenths
                print(text, file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        self.first = done if self.first < 0 else self.first
        if done < total and now - self.drawn < _DRAW_EVERY:
            return
        self.drawn = now
        rate = (done - self.first) / max(now - self.began, 1e-3)
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        print(f"\r{text}{left}   ", end="\n" if done >= total else "", file=sys.stderr, flush=True)
