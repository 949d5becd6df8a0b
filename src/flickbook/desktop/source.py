"""Where the window's jobs live: what it needs of the local queue and of a service elsewhere alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from PIL import Image

from flickbook import formats
from flickbook.catalogue import Model
from flickbook.spec import Plan, Request
from flickbook.store.base import DONE, Kind, State

#: Jobs that the history shows. Drafts are no films yet.
NEWEST: Final = 100
KINDS: Final[tuple[Kind, ...]] = ("film", "picture", "extension")


@dataclass(frozen=True)
class Offer:
    """A model that can be asked for; `here` is whether its files are where it would run."""

    model: Model
    here: bool

    def fits(self, picture: bool) -> bool:
        """Whether it makes films, or pictures, from words alone."""
        fewest, most = self.model.num_frames.range
        return "text" in self.model.inputs and (fewest == 1 if picture else most > 1)


@dataclass(frozen=True)
class Entry:
    """A job as the window shows it.

    `phase`, `index`, `total`, `fraction` (0 to 1) and `eta` (seconds, None if unknown) are those of a running one; a
    queued one whose model is being downloaded has the phase pull, and bytes for `index` and `total`.
    `made` is whether there is a file to see, `stopping` whether it was asked to stop, `mark` changes with the file.
    """

    id: str
    kind: str
    state: State
    plan: Plan
    created_at: float
    stopping: bool = False
    phase: str = ""
    index: int = 0
    total: int = 0
    fraction: float = 0.0
    eta: float | None = None
    error: str = ""
    made: bool = False
    mark: str = ""
    seconds: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state in DONE or self.state == "paused"

    @property
    def suffix(self) -> str:
        """The suffix of its file."""
        return formats.FORMS[self.plan.container].suffixes[0]


class Source(Protocol):
    """Where jobs are asked for and kept. Every method but `title` and `folder` may block, and raises FlickbookError."""

    #: What it is called in the window, and whether its files lie on this machine.
    title: str
    local: bool

    def open(self) -> list[Offer]:
        """Connect; the models that can be asked for. May be called again after it failed."""

    def close(self) -> None:
        """Let go of it; what runs on this machine is laid down first. May be called twice, from any thread."""

    def make(self, request: Request) -> Entry:
        """Put a film or a picture into the queue."""

    def entry(self, id: str) -> Entry:
        """One job as it is now."""

    def recent(self) -> list[Entry]:
        """The newest jobs, the newest first."""

    def cancel(self, id: str) -> Entry:
        """Stop a job for good."""

    def preview(self, id: str) -> bytes | None:
        """What emerges in a job that runs, a moving WebP; whoever asks is taken to look at it."""

    def film(self, entry: Entry) -> Path:
        """The file that a job made, on this machine."""

    def still(self, entry: Entry, side: int) -> Image.Image:
        """One picture of what a job made, at most `side` pixels wide and high."""

    def folder(self, entry: Entry) -> Path | None:
        """The directory of a job's file; None where it is on another machine."""
