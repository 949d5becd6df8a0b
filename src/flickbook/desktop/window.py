"""The main window: sends requests to a Source in the background and shows the results.

Tk's thread only draws. Two threads work: one sends requests to the source in order; one loads and decodes pictures
and films. Their results pass through a queue that Tk's thread empties about thirty times a second.
"""

from __future__ import annotations

import logging
import queue
import tkinter
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from pathlib import Path
from tkinter import filedialog, ttk
from typing import Any, Final, TypeVar

from flickbook import settings
from flickbook.desktop import frame_buffer
from flickbook.desktop.background import Background, Callbacks, pumped
from flickbook.desktop.connection import Place
from flickbook.desktop.files import revealed, saved, suggested
from flickbook.desktop.form import Form
from flickbook.desktop.frame_buffer import FrameBuffer
from flickbook.desktop.history import HEIGHT, WIDTH, History
from flickbook.desktop.messages import Messages
from flickbook.desktop.sources.remote import Remote
from flickbook.desktop.sources.source import Entry, Offer, Source
from flickbook.desktop.stage import Stage
from flickbook.desktop.widgets import theme
from flickbook.desktop.widgets.theme import Theme
from flickbook.errors import FlickbookError, JobNotFound

T = TypeVar("T")
TITLE: Final = "Flickbook"
SIZE: Final = (1180, 760)
SMALLEST: Final = (960, 650)
_HISTORY: Final = 226
#: Milliseconds between two checks: of results, of the entry on the stage, and of all entries.
_PUMP: Final = 30
_LOOK: Final = 250
_ALL: Final = 2000
#: Factor by which a source that does not respond is polled less often.
_CALM: Final = 8
logger = logging.getLogger(__name__)


class Window:
    """The window on a Source; `local` creates the local one."""

    def __init__(self, root: tkinter.Tk, source: Source, local: Callable[[], Source]) -> None:
        self.root, self.source, self._local = root, source, local
        self.theme = Theme(root)
        self._callbacks: Callbacks = queue.SimpleQueue()
        self._asks, self._pictures = Background("asks", self._callbacks), Background("pictures", self._callbacks)
        self._open = self._looking = self._away = self.closing = self._hung_up = False
        self._hasty = self._follows = False
        self._seen: bytes | None = None
        self._requested: set[str] = set()
        root.title(TITLE)
        root.minsize(*SMALLEST)
        root.geometry(f"{min(SIZE[0], root.winfo_screenwidth())}x{min(SIZE[1], root.winfo_screenheight())}")
        root.report_callback_exception = self._unexpected
        self._build()
        self._bound()
        self._connect()
        root.after(_PUMP, self._pump)
        root.after(_LOOK, self._look)
        root.after(_ALL, self._look_at_all)

    def _build(self) -> None:
        outer = ttk.Frame(self.root, padding=(theme.SPACE, 14, theme.SPACE, 12))
        outer.pack(fill="both", expand=True)
        outer.columnconfigure(1, weight=1)
        outer.rowconfigure(1, weight=1)
        head = ttk.Frame(outer)
        head.grid(row=0, column=0, columnspan=3, sticky="ew", pady=(0, 14))
        ttk.Label(head, text=TITLE, style="Large.TLabel").pack(side="left")
        self._change = ttk.Button(head, text="Change…", style="Link.TButton", command=self._choose_place)
        self._change.pack(side="right")
        self.place = ttk.Label(head, style="Soft.TLabel")
        self.place.pack(side="right", padx=(0, 4))
        self.form = Form(outer, self.theme, self.make, self._worded)
        self.form.grid(row=1, column=0, sticky="ns")
        self.stage = Stage(outer, self.theme, self._act, self.form.say)
        self.stage.grid(row=1, column=1, sticky="nsew", padx=theme.SPACE)
        self.history = History(outer, self.theme, self.open)
        self.history.grid(row=1, column=2, sticky="nsew")
        outer.columnconfigure(2, minsize=_HISTORY)
        foot = ttk.Frame(outer)
        foot.grid(row=2, column=0, columnspan=3, sticky="ew", pady=(10, 0))
        self.message = ttk.Label(foot, style="Soft.TLabel")
        self.message.pack(side="left", fill="x", expand=True)
        messages = Messages(self.message, self.form)
        self.tell, self._fault = messages.tell, messages.fault
        self._retry = ttk.Button(foot, text="Try again", style="Link.TButton", command=self._connect)

    def _bound(self) -> None:
        self.root.protocol("WM_DELETE_WINDOW", self.close)
        self.root.bind(
            "<Escape>", lambda event: self._act("cancel") if event.widget.winfo_toplevel() is self.root else None
        )
        for key in ("<Control-q>", "<Control-w>", "<Command-q>", "<Command-w>"):
            if "Command" not in key or self.root.tk.call("tk", "windowingsystem") == "aqua":
                self.root.bind(key, lambda _: self.close())
        self.form.prompt.focus_set()

    # Requests to the source

    def _ask(
        self,
        where: Background,
        work: Callable[[Source], T],
        then: Callable[[T], None],
        otherwise: Callable[[Exception], None] | None = None,
    ) -> None:
        """Calls the source in the background. Results are dropped if the source has changed meanwhile."""
        source, fault = self.source, otherwise or self._fault

        def still(call: Callable[[Any], None], found: Any) -> None:
            if source is self.source and not self.closing:
                call(found)

        where.do(lambda: work(source), partial(still, then), partial(still, fault))

    def _connect(self) -> None:
        self._open, self._away = False, False
        self._retry.pack_forget()
        self.form.make.state(["disabled"])
        self.place.configure(text=self.source.title)
        self.tell(f"Connecting to {self.source.title}…" if not self.source.local else "Opening…")
        self._ask(self._asks, lambda source: source.open(), self._connected, self._unconnected)

    def _connected(self, offers: list[Offer]) -> None:
        self._open = True
        self.form.make.state(["!disabled"])
        self.form.offer(offers, settings.load().model)
        self.tell("")
        self._ask(self._asks, lambda source: source.recent(), self._first)
        if self._hasty:
            self.make()

    def _unconnected(self, error: Exception) -> None:
        self._hasty = False
        self._fault(error)
        self._retry.pack(side="right")

    def _first(self, entries: list[Entry]) -> None:
        """Shows the first list of entries, and puts a running or waiting one on the stage."""
        self._listed(entries)
        under_way = [entry for entry in entries if not entry.over]
        if under_way and self.stage.entry is None:
            self._show(under_way[-1])

    def make(self) -> None:
        """Submits the form, or does so once connected."""
        self._hasty = not self._open
        if self._hasty or self.form.make.instate(["disabled"]):  # Return was pressed while a response is pending
            return
        self.form.unblame()
        try:
            request = self.form.request()
        except FlickbookError as error:
            self._fault(error)
            return
        self.form.make.state(["disabled"])
        self.tell("Submitting…")
        self._ask(self._asks, lambda source: source.make(request), self._made, partial(self._refused, self.form.make))

    def _made(self, entry: Entry) -> None:
        self.form.make.state(["!disabled"])
        shown = self.stage.entry
        # A film that waits or runs stays on the stage; the next one follows when it ends.
        self._follows = shown is not None and not shown.over
        if self._follows:
            self.history.put(entry)
        else:
            self._show(entry)
        self.tell("Added to the queue." if self._follows else "")

    def _worded(self, prompt: str, model: str) -> None:
        """Requests notes on the prompt that is being typed."""
        self._ask(self._asks, lambda source: source.notes(prompt, model), partial(self.form.note, prompt), _ignored)

    def _refused(self, button: ttk.Button, error: Exception) -> None:
        """Enables a button that waited for a response, and shows the error."""
        button.state(["!disabled"])
        self._fault(error)

    def _act(self, what: str) -> None:
        """Handles the buttons below the stage, and Escape."""
        entry = self.stage.entry
        if entry is None or not self._open:
            return
        if what in ("pause", "resume", "cancel") and not entry.done:
            resume = self.stage.buttons["resume"]
            resume.state(["disabled"])  # a second request to resume would be refused
            self._ask(self._asks, methodcaller(what, entry.id), self._changed, partial(self._refused, resume))
        elif what == "again":
            self._again(entry)
        elif what == "save" and entry.made:
            path = filedialog.asksaveasfilename(
                parent=self.root, initialfile=suggested(entry), defaultextension=entry.suffix, title="Save as"
            )
            if path:
                self.save(entry, Path(path))
        elif what == "folder" and entry.made:
            self._ask(self._pictures, lambda source: revealed(source.folder(entry)), lambda _: None)

    def save(self, entry: Entry, path: Path) -> None:
        """Copies a film to a file that the user chose."""
        self.tell(f"Saving {path.name}…")
        self._ask(
            self._pictures,
            lambda source: saved(source.film(entry), path, entry.suffix),
            lambda _: self.tell(f"Saved {path}"),
        )

    def _again(self, entry: Entry) -> None:
        try:
            lacking = self.form.fill(entry.plan)
            if entry.kind == "tune":
                lacking = f"{lacking} and the LoRA" if lacking else "the LoRA"
        except FlickbookError as error:
            self._fault(error)
            return
        self.tell(f"The form has these settings, except {lacking}" if lacking else "")

    # Display

    def open(self, entry: Entry) -> None:
        """Shows an entry of the history on the stage."""
        self._follows = False
        self.tell("")
        self._show(entry)

    def _show(self, entry: Entry) -> None:
        self._seen = None
        self.stage.show(None)
        self.stage.show(entry, self.source.local)
        self.history.put(entry)
        self.history.select(entry.id)
        if entry.made:
            self._play(entry)

    def _play(self, entry: Entry) -> None:
        self._ask(self._pictures, lambda source: frame_buffer.read(source.film(entry)), partial(self._played, entry))

    def _played(self, entry: Entry, found: FrameBuffer) -> None:
        if self.stage.entry is not None and self.stage.entry.id == entry.id:
            self.stage.play(found)

    def _changed(self, entry: Entry) -> None:
        """Updates an entry."""
        self.history.put(entry)
        shown = self.stage.entry
        if shown is None or shown.id != entry.id:
            return
        if entry != shown:
            self.stage.show(entry, self.source.local)
        if entry.made and not shown.made:
            self._play(entry)
            self._picture(entry)

    def _listed(self, entries: list[Entry]) -> None:
        for entry in self.history.fill(entries):
            self._picture(entry)
        shown = self.stage.entry
        if shown is not None:
            self.history.select(shown.id)
            for entry in entries:
                if entry.id == shown.id:
                    self._changed(entry)
        under_way = [entry for entry in entries if not entry.over]
        if self._follows and under_way and (self.stage.entry is None or self.stage.entry.over):
            self._show(under_way[-1])
        self._follows = self._follows and bool(under_way)

    def _picture(self, entry: Entry) -> None:
        """Loads the thumbnail of an entry, once."""
        if entry.id in self._requested:
            return
        self._requested.add(entry.id)
        side = 2 * max(WIDTH, HEIGHT)
        self._ask(
            self._pictures,
            lambda source: source.still(entry, side),
            partial(self.history.picture, entry.id),
            lambda error: logger.debug("%s: %s", entry.id, error),
        )

    # Periodic tasks

    def _pump(self) -> None:
        """Runs queued callbacks, and closes the window after a signal."""
        if self._hung_up:
            self.close()
        try:
            pumped(self._callbacks)
        finally:
            self.root.after(_PUMP, self._pump)

    def _look(self) -> None:
        """Updates the entry on the stage and its preview."""
        entry = self.stage.entry
        if self._open and entry is not None and not entry.over and not self._looking and not self.closing:
            self._looking = True
            self._ask(self._asks, lambda source: _seen(source, entry.id), self._looked, self._overlooked)
        self.root.after(_LOOK * (_CALM if self._away else 1), self._look)

    def _looked(self, found: tuple[Entry, bytes | None]) -> None:
        self._looking = False
        self._back()
        entry, preview = found
        self._changed(entry)
        if preview is not None and preview != self._seen and not entry.over:
            self._seen = preview
            self._ask(self._pictures, lambda _: frame_buffer.of_bytes(preview), partial(self._emerged, entry), _ignored)

    def _overlooked(self, error: Exception) -> None:
        self._looking = False
        if isinstance(error, JobNotFound):
            self.stage.show(None)
            self.tell("This film was deleted elsewhere.")
            return
        self._overlooked_all(error)

    def _emerged(self, entry: Entry, found: FrameBuffer) -> None:
        shown = self.stage.entry
        if shown is not None and shown.id == entry.id and not shown.over:
            self.stage.emerge(found)

    def _look_at_all(self) -> None:
        if self._open and not self.closing:
            self._ask(self._asks, lambda source: source.recent(), self._all_looked, self._overlooked_all)
        self.root.after(_ALL * (_CALM if self._away else 1), self._look_at_all)

    def _all_looked(self, entries: list[Entry]) -> None:
        self._back()
        self._listed(entries)

    def _overlooked_all(self, error: Exception) -> None:
        self._fault(error)
        self._away = True

    def _back(self) -> None:
        """Clears the error message when the source responds again."""
        if self._away:
            self._away = False
            self.tell("")

    def _unexpected(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Shows an error of the window itself instead of printing it to the terminal."""
        logger.debug("in the window", exc_info=(kind, error, trace))
        if isinstance(error, Exception) and not self.closing:
            self._fault(error)

    # Connection

    def _choose_place(self) -> None:
        remote = isinstance(self.source, Remote)
        url = self.source.url if isinstance(self.source, Remote) else settings.load().url
        Place(self.root, url, remote, self.move)

    def move(self, remote: Remote | None) -> None:
        """Switches to a service, or to this computer for None. Local jobs are released first."""
        before, self.source = self.source, remote or self._local()
        self._asks.do(before.close, lambda _: None)
        self.stage.show(None)
        self.history.clear()
        self._requested, self._looking = set(), False
        self._connect()

    def close(self) -> None:
        """Hides the window at once, releases local jobs, then exits."""
        if self.closing:
            return
        self.closing = True
        self.root.withdraw()
        if self.source.local:
            self._asks.do(self.source.close, lambda _: self.root.destroy(), lambda _: self.root.destroy())
        else:
            self.root.destroy()

    def hang_up(self, *_: Any) -> None:
        """Signal handler: closes the window as soon as Tk may be called."""
        self._hung_up = True


def _seen(source: Source, id: str) -> tuple[Entry, bytes | None]:
    """An entry, and its preview while it runs."""
    entry = source.entry(id)
    return entry, source.preview(id) if entry.state == "running" else None


def _ignored(error: Exception) -> None:
    logger.debug("a preview or notes that cannot be shown: %s", error)
