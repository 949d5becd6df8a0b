"""The Source protocol: what the window needs from the local queue or a remote service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from PIL import Image

from flickbook import formats
from flickbook.catalogue import Model
from flickbook.spec import Plan, Request
from flickbook.store.base import DONE, Kind, State

#: Number of jobs in the history, and their kinds. Drafts are not films yet; the film of a tune shows its LoRA.
NEWEST: Final = 100
KINDS: Final[tuple[Kind, ...]] = ("film", "picture", "extension", "tune")


@dataclass(frozen=True)
class Offer:
    """An available model; `here` is whether its files are installed where it runs."""

    model: Model
    here: bool

    def fits(self, picture: bool) -> bool:
        """Whether it makes films, or pictures, from what the form holds."""
        fewest, most = self.model.num_frames.range
        begins = bool({"text", "image"} & {*self.model.inputs})
        held = begins and {*self.model.needs} <= {"last_image", "reference_images"}
        return held and (fewest == 1 if picture else most > 1)


@dataclass(frozen=True)
class Entry:
    """A job as the window shows it.

    `phase`, `index`, `total`, `fraction` (0 to 1) and `eta` (seconds, None if unknown) belong to a running job. A
    queued job whose model is being downloaded has the phase pull, and bytes as `index` and `total`.
    `made` is whether there is a file to show, `stopping` "pause" or "cancel" if a running job was requested to stop,
    and `mark` changes with the file. `notes` are those of the finished film. `by_command` is whether a command runs
    the job, so that only `flickbook jobs resume` resumes it; a service does not say so.
    """

    id: str
    kind: str
    state: State
    plan: Plan
    created_at: float
    stopping: Literal["", "pause", "cancel"] = ""
    phase: str = ""
    index: int = 0
    total: int = 0
    fraction: float = 0.0
    eta: float | None = None
    error: str = ""
    made: bool = False
    mark: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    by_command: bool = False

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.state in DONE

    @property
    def over(self) -> bool:
        """Whether its state no longer changes without a request."""
        return self.done or self.state == "paused"

    @property
    def title(self) -> str:
        """Its prompt; that of a training says so."""
        prompt = self.plan.prompt or "(no prompt)"
        return f"Training: {prompt}" if self.kind == "tune" else prompt

    @property
    def suffix(self) -> str:
        """The suffix of its file."""
        return formats.FORMS[self.plan.container].suffixes[0]


class Source(Protocol):
    """A queue of jobs. Every method except `title` and `folder` may block and raise FlickbookError."""

    #: Its name in the window, and whether its files are on this machine.
    title: str
    local: bool

    def open(self) -> list[Offer]:
        """Connects and returns the available models. May be called again after a failure."""

    def close(self) -> None:
        """Closes the source; local jobs are released first. May be called twice, from any thread."""

    def make(self, request: Request) -> Entry:
        """Queues a film or a picture."""

    def notes(self, prompt: str, model: str) -> list[str]:
        """Notes on a prompt: words that the model never learned, with the nearest that it knows."""

    def entry(self, id: str) -> Entry:
        """The current state of a job."""

    def recent(self) -> list[Entry]:
        """The newest jobs, newest first."""

    def cancel(self, id: str) -> Entry:
        """Cancels a job."""

    def pause(self, id: str) -> Entry:
        """Pauses a job: at once if it waits, at its next step if it runs."""

    def resume(self, id: str) -> Entry:
        """Puts a paused job back into the queue. Not for a job of a command."""

    def preview(self, id: str) -> bytes | None:
        """The preview of a running job, an animated WebP. The caller counts as a viewer."""

    def film(self, entry: Entry) -> Path:
        """The file of a job on this machine."""

    def still(self, entry: Entry, side: int) -> Image.Image:
        """One frame of a job's result, at most `side` pixels wide and high."""

    def folder(self, entry: Entry) -> Path | None:
        """The directory of a job's file; None if it is on another machine."""
