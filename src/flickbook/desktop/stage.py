"""The stage: a film or its preview, its progress, and its actions."""

from __future__ import annotations

import time
import tkinter
from collections.abc import Callable
from tkinter import ttk
from typing import Any, Final

from flickbook.desktop.frame_buffer import FrameBuffer
from flickbook.desktop.sources.source import Entry
from flickbook.desktop.widgets import theme
from flickbook.desktop.widgets.player import Player
from flickbook.desktop.widgets.theme import Theme

#: Prompts that the empty stage suggests, in words that the built-in model knows.
EXAMPLES: Final = (
    "a red circle moving left on a blue background",
    "a peaceful sunset over mountain ranges",
    "a neon city in the rain with flying vehicles",
)
#: The share of a job after which the remaining time is estimated.
_ENOUGH: Final = 0.1
_PHASES: Final = {
    "load": "Loading the model",
    "encode": "Reading the prompt",
    "train": "Training, update {index} of {total}",
    "denoise": "Denoising, step {index} of {total}",
    "decode": "Decoding, frame {index} of {total}",
    "polish": "Finishing",
    "write": "Writing the file",
}
_STATES: Final = {
    "queued": "Waiting in the queue",
    "paused": "Paused",
    "cancelled": "Cancelled",
    "expired": "Expired: it waited too long in the queue",
    "completed": "The file was deleted; make the film again with Use these settings",
}


class Stage(ttk.Frame):
    """Shows one entry at a time. `on_action` receives "pause", "cancel" or the name of a button below an entry that is
    over; `say` receives an example prompt.
    """

    def __init__(
        self, parent: tkinter.Misc, theme_: Theme, on_action: Callable[[str], None], say: Callable[[str], None]
    ) -> None:
        super().__init__(parent)
        self.entry: Entry | None = None
        self._local = True
        self._there: Any = None
        self._pace = Pace()
        self._below = ttk.Frame(self)
        self._below.pack(side="bottom", fill="x", pady=(theme.GAP, 0))
        self.player = Player(self, theme_)
        self.player.pack(fill="both", expand=True)
        self._empty = self._proposal(say, theme_.photo(theme.flipbook()))
        self._caption = ttk.Label(self._below, style="Strong.TLabel", justify="left")
        self._facts = ttk.Label(self._below, style="Soft.TLabel", justify="left")
        self._message = ttk.Label(self._below, style="Fault.TLabel", justify="left")
        self._notes = ttk.Label(self._below, style="Soft.TLabel", justify="left")
        self._work(on_action)
        self._actions(on_action)
        self.bind("<Configure>", self._sized)
        self.show(None)

    def _proposal(self, say: Callable[[str], None], flipbook: Any) -> ttk.Frame:
        """The content of the empty stage."""
        frame = ttk.Frame(self.player.canvas, style="Stage.TFrame")
        ttk.Label(frame, image=flipbook, style="Stage.TLabel").pack(pady=(0, 18))
        ttk.Label(frame, text="Your film appears here", style="StageLarge.TLabel").pack()
        ttk.Label(
            frame, text="Write a prompt and press Return, or try:", style="StageSoft.TLabel"
        ).pack(pady=(6, 10))  # fmt: skip
        for text in EXAMPLES:
            button = ttk.Button(frame, text=text, style="StageLink.TButton", command=lambda text=text: say(text))  # type: ignore[misc]
            button.pack(pady=1)
        return frame

    def _work(self, on_action: Callable[[str], None]) -> None:
        """The progress bar, and the buttons Pause and Cancel."""
        self._progress = ttk.Frame(self._below)
        self._progress.columnconfigure(0, weight=1)
        self.bar = ttk.Progressbar(self._progress, maximum=1.0)
        self.bar.grid(row=0, column=0, sticky="ew")
        self.phase = ttk.Label(self._progress, style="Soft.TLabel")
        self.phase.grid(row=1, column=0, columnspan=3, sticky="w", pady=(4, 0))
        self.pause = ttk.Button(self._progress, text="Pause", command=lambda: on_action("pause"))
        self.pause.grid(row=0, column=1, padx=(16, theme.GAP))
        self.cancel = ttk.Button(self._progress, text="Cancel", command=lambda: on_action("cancel"))
        self.cancel.grid(row=0, column=2)

    def _actions(self, on_action: Callable[[str], None]) -> None:
        self._row = ttk.Frame(self._below)
        self.buttons = {
            "resume": ttk.Button(
                self._row, text="Resume", style="Primary.TButton", command=lambda: on_action("resume")
            ),
            "cancel": ttk.Button(self._row, text="Cancel", command=lambda: on_action("cancel")),
            "save": ttk.Button(self._row, text="Save as…", style="Primary.TButton", command=lambda: on_action("save")),
            "folder": ttk.Button(self._row, text="Open folder", command=lambda: on_action("folder")),
            "again": ttk.Button(self._row, text="Use these settings", command=lambda: on_action("again")),
        }

    def show(self, entry: Entry | None, local: bool = True) -> None:
        """Shows an entry, or updates the current one; None clears the stage."""
        new = entry is None or self.entry is None or entry.id != self.entry.id
        self.entry, self._local = entry, local
        there = None if entry is None else (entry.id, buttons(entry, local), bool(message(entry)))
        if new:
            self.player.clear()
            self._pace = Pace()
        if new or there != self._there:  # placing widgets again would flicker
            self._there = there
            self._placed(entry)
        if entry is None:
            return
        plan = entry.plan
        self._caption.configure(text=_shortened(entry.title))
        facts = [plan.model, f"{plan.width} × {plan.height}"]
        if plan.num_frames > 1:
            facts.append(f"{plan.num_frames} frames at {plan.fps:g} fps")
        facts += [f"{plan.num_inference_steps} steps", f"seed {plan.seed}"]
        if entry.made and entry.seconds:
            facts.append(f"made in {duration(entry.seconds)}")
        self._facts.configure(text=" · ".join(facts))
        self._notes.configure(text="\n".join(entry.notes))
        self._message.configure(text=message(entry), style="Fault.TLabel" if entry.error else "Soft.TLabel")
        self.bar.configure(value=entry.fraction if entry.state == "running" else 0.0)
        self.phase.configure(text=progress(entry, self._pace.left(entry)))
        if self.player.frame_buffer is None:
            self.player.hint("" if entry.over else "The preview appears here")
        self.pause.state(["disabled" if entry.stopping else "!disabled"])
        self.cancel.state(["disabled" if entry.stopping == "cancel" else "!disabled"])
        self.buttons["resume"].state(["!disabled"])

    def _placed(self, entry: Entry | None) -> None:
        """Shows the widgets that belong to this entry, and hides the others."""
        for widget in (self._caption, self._facts, self._notes, self._message, self._progress, self._row):
            widget.pack_forget()
        if entry is None:
            self.player.hint("")
            self._empty.place(relx=0.5, rely=0.5, anchor="center")
            return
        self._empty.place_forget()
        self._caption.pack(anchor="w", pady=(4, 0))
        self._facts.pack(anchor="w", pady=(2, 0))
        if entry.made and entry.notes:
            self._notes.pack(anchor="w", pady=(4, 0))
        if message(entry):
            self._message.pack(anchor="w", pady=(6, 0))
        if not entry.over:
            self._progress.pack(fill="x", pady=(12, 0))
            return
        self._row.pack(anchor="w", pady=(12, 0))
        self._flow(buttons(entry, self._local))

    def _flow(self, names: tuple[str, ...]) -> None:
        """Places these buttons side by side, in a second line where the stage is too narrow for one, and no others."""
        for button in self.buttons.values():
            button.grid_forget()
        line = column = used = 0
        for name in names:
            button = self.buttons[name]
            width = button.winfo_reqwidth()
            if column and used + width > self.winfo_width():
                line, column, used = line + 1, 0, 0
            # In a second line it spans all columns, which keep the widths of the first.
            how: Any = {"columnspan": len(names)} if line else {}
            button.grid(
                row=line, column=column, sticky="w", padx=(0, theme.GAP), pady=(theme.GAP if line else 0, 0), **how
            )
            column, used = column + 1, used + width + theme.GAP

    def emerge(self, frame_buffer: FrameBuffer) -> None:
        """Shows a preview of the current entry."""
        self.player.show(frame_buffer, controls=False)

    def play(self, frame_buffer: FrameBuffer) -> None:
        """Plays the result of the current entry."""
        self.player.show(frame_buffer)

    def _sized(self, event: Any) -> None:
        for label in (self._caption, self._facts, self._notes, self._message):
            label.configure(wraplength=max(200, event.width - 8))
        if self.entry is not None and self.entry.over:
            self._flow(buttons(self.entry, self._local))


def buttons(entry: Entry, local: bool) -> tuple[str, ...]:
    """The names of the buttons below an entry that is over."""
    if not entry.over:
        return ()
    if entry.state == "paused":
        return ("cancel", "again") if entry.by_command else ("resume", "cancel", "again")
    if not entry.made:
        return ("again",)
    return ("save", "folder", "again") if local else ("save", "again")


def message(entry: Entry) -> str:
    """The message for an entry that ended without a film; "" for others."""
    if entry.error:
        return entry.error
    if entry.made or not entry.over:
        return ""
    if entry.state == "paused" and entry.by_command:
        return f"Paused; `flickbook jobs resume {entry.id}` to resume"
    return _STATES.get(entry.state, entry.state)


class Pace:
    """Estimates the remaining time of an entry from its speed, if the source has no estimate."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def left(self, entry: Entry) -> float | None:
        """The remaining seconds, or None."""
        if entry.state != "running":
            self._first = None  # a pause is not part of the speed
        if entry.eta is not None or entry.state != "running" or entry.phase != "denoise":
            return entry.eta
        now = time.monotonic()
        if self._first is None:
            self._first = now, entry.fraction
        began, share = self._first
        done = entry.fraction - share
        return (now - began) / done * (1 - entry.fraction) if done > _ENOUGH else None


def progress(entry: Entry, eta: float | None = None) -> str:
    """The phase of an entry and its remaining time."""
    if entry.state == "queued" and entry.phase == "pull":
        done = f": {entry.index / 1e9:.2f} of {entry.total / 1e9:.2f} GB" if entry.total else ""
        return f"Downloading {entry.plan.model}{done}"
    if entry.state == "queued":
        return _STATES["queued"]
    if entry.stopping:
        return "Pausing" if entry.stopping == "pause" else "Stopping"
    if entry.kind == "tune" and entry.phase == "encode":
        return f"Reading the clips, {entry.index} of {entry.total}"
    phase = _PHASES.get(entry.phase, "Starting").format(index=entry.index, total=entry.total)
    return phase if eta is None else f"{phase} · {left(eta)}"


def left(seconds: float) -> str:
    """The remaining time: "about 12 s left"."""
    return "nearly done" if seconds < 1 else f"about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """A duration: 12 s, 3 min, 1 h 20 min."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:159]}…"
