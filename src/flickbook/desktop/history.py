"""The gallery: the newest jobs first, with thumbnails."""

from __future__ import annotations

import time
import tkinter
from collections.abc import Callable, Sequence
from tkinter import font, ttk
from typing import Any, Final

from PIL import Image, ImageDraw, ImageOps, ImageTk

from flickbook.desktop.sources.source import Entry
from flickbook.desktop.widgets import theme
from flickbook.desktop.widgets.theme import Theme

#: Size of a thumbnail in pixels.
WIDTH: Final = 68
HEIGHT: Final = 52
_FINE: Final = 4
_STATES: Final = {"queued": "waiting", "completed": "file deleted"}


class History(ttk.Frame):
    """A list of entries; `on_open` receives the entry that the user chooses."""

    def __init__(self, parent: tkinter.Misc, theme_: Theme, on_open: Callable[[Entry], None]) -> None:
        super().__init__(parent)
        self._font: font.Font = theme_.small
        self._on_open = on_open
        self._entries: dict[str, Entry] = {}
        self._stills: dict[str, ImageTk.PhotoImage] = {}
        self._signs: dict[str, ImageTk.PhotoImage] = {}
        self._marked = ""
        ttk.Label(self, text="Gallery", style="Strong.TLabel").pack(anchor="w", pady=(0, theme.GAP))
        self._none = ttk.Label(self, text="Your films and pictures appear here.", style="Soft.TLabel", wraplength=200)
        self._body = ttk.Frame(self)
        self.tree = ttk.Treeview(self._body, show="tree", style="History.Treeview", selectmode="browse")
        self.tree.column("#0", width=212, minwidth=120, stretch=True)
        bar = ttk.Scrollbar(self._body, orient="vertical", command=self.tree.yview)
        self.tree.configure(yscrollcommand=lambda low, high: self._scrolled(bar, low, high))
        self.tree.pack(side="left", fill="both", expand=True)
        self.tree.tag_configure("failed", foreground=theme.FAULT)
        self.tree.tag_configure("off", foreground=theme.SOFT)
        self.tree.bind("<<TreeviewSelect>>", self._chosen)
        self.tree.bind("<Configure>", lambda _: self._worded())
        self._none.pack(anchor="w")

    @property
    def entries(self) -> list[Entry]:
        """The listed entries, newest first."""
        return [self._entries[id] for id in self.tree.get_children()]

    def clear(self) -> None:
        """Removes all entries, because the source has changed."""
        self.tree.delete(*self.tree.get_children())
        self._entries, self._stills = {}, {}
        self._shown()

    def fill(self, entries: Sequence[Entry]) -> list[Entry]:
        """Lists these entries, newest first; returns those without a thumbnail."""
        ids = [entry.id for entry in entries]
        for gone in set(self._entries) - set(ids):
            self.tree.delete(gone)
            self._stills.pop(gone, None)
        self._entries = {entry.id: entry for entry in entries}
        for place, entry in enumerate(entries):
            if not self.tree.exists(entry.id):
                self.tree.insert("", place, entry.id)
            elif self.tree.index(entry.id) != place:
                self.tree.move(entry.id, "", place)
            self._row(entry)
        self._shown()
        return [entry for entry in entries if entry.made and entry.id not in self._stills]

    def put(self, entry: Entry) -> None:
        """Updates an entry, or adds a new one at the top."""
        if entry.id in self._entries:
            self._entries[entry.id] = entry
            self._row(entry)
        else:
            self.fill([entry, *self.entries])

    def picture(self, id: str, image: Image.Image) -> None:
        """Sets the thumbnail of an entry."""
        if id in self._entries:
            self._stills[id] = ImageTk.PhotoImage(_cut(image), master=self)
            self._row(self._entries[id])

    def select(self, id: str) -> None:
        """Marks the entry on the stage without opening it; "" for none."""
        # Tk reports the selection later, when `_marked` is already set.
        self._marked = id
        if id and self.tree.exists(id):
            self.tree.selection_set(id)
            self.tree.focus(id)
            self.tree.see(id)
        else:
            self.tree.selection_set(())

    def _chosen(self, _: Any) -> None:
        selected = self.tree.selection()
        if selected and selected[0] != self._marked and selected[0] in self._entries:
            self._marked = selected[0]
            self._on_open(self._entries[selected[0]])

    def _shown(self) -> None:
        """Shows the list, or a text if it is empty."""
        if self._entries:
            self._none.pack_forget()
            self._body.pack(fill="both", expand=True)
        else:
            self._body.pack_forget()
            self._none.pack(anchor="w")

    def _scrolled(self, bar: ttk.Scrollbar, low: Any, high: Any) -> None:
        """Shows the scrollbar only if needed."""
        bar.set(low, high)
        if float(low) <= 0 and float(high) >= 1:
            bar.pack_forget()
        else:
            bar.pack(side="right", fill="y", padx=(4, 0))

    def _row(self, entry: Entry) -> None:
        tag = "failed" if entry.state == "failed" else "" if entry.made or not entry.over else "off"
        image = self._stills.get(entry.id) or self._sign(entry)
        options: dict[str, Any] = {"text": self._text(entry), "image": image, "tags": (tag,) if tag else ()}
        self.tree.item(entry.id, **options)

    def _worded(self) -> None:
        """Wraps the texts again after the width has changed."""
        for entry in self._entries.values():
            self.tree.item(entry.id, text=self._text(entry))

    def _text(self, entry: Entry) -> str:
        room = max(60, self.tree.winfo_width() - WIDTH - theme.GAP - 16)
        lines = wrapped(entry.title, self._font, room, 2)
        return "\n".join([*lines, state_of(entry)])

    def _sign(self, entry: Entry) -> ImageTk.PhotoImage:
        """The icon of an entry without a thumbnail: its progress or state."""
        share = round(entry.fraction * 20)
        name = f"running {share}" if entry.state == "running" else entry.state
        if name not in self._signs:
            self._signs[name] = ImageTk.PhotoImage(_drawn(entry.state, share / 20), master=self)
        return self._signs[name]


def state_of(entry: Entry) -> str:
    """A short text for an entry's state."""
    if entry.stopping:
        return "pausing" if entry.stopping == "pause" else "stopping"
    if entry.state == "running":
        return f"{100 * entry.fraction:.0f} %"
    if entry.made:
        return age(time.time() - entry.created_at)
    return _STATES.get(entry.state, entry.state)


def age(seconds: float) -> str:
    """A relative time: "just now", "5 min ago", "3 h ago", "9 d ago"."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def wrapped(text: str, face: font.Font, room: int, most: int) -> list[str]:
    """Wraps `text` to at most `most` lines, none wider than `room` pixels."""
    lines: list[str] = []
    words = " ".join(text[:400].split()).split(" ")
    while words and len(lines) < most:
        line = words.pop(0)
        while words and face.measure(f"{line} {words[0]}") <= room:
            line += f" {words.pop(0)}"
        if len(lines) == most - 1 and words:
            line += "…"
        lines.append(_shortened(line, face, room))
    return lines


def _shortened(line: str, face: font.Font, room: int) -> str:
    while face.measure(line) > room and len(line) > 2:
        line = f"{line[:-2]}…"
    return line


def _cut(image: Image.Image) -> Image.Image:
    """Crops a picture to a thumbnail with round corners."""
    filled = ImageOps.fit(image.convert("RGB"), (WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return _framed(filled)


def _framed(image: Image.Image) -> Image.Image:
    """Adds round corners, and a margin on the right."""
    mask = Image.new("L", (WIDTH * _FINE, HEIGHT * _FINE))
    ends = (0, 0, WIDTH * _FINE - 1, HEIGHT * _FINE - 1)
    ImageDraw.Draw(mask).rounded_rectangle(ends, theme.RADIUS * _FINE, 255)
    image.putalpha(mask.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    found = Image.new("RGBA", (WIDTH + theme.GAP, HEIGHT))
    found.paste(image, (0, 0))
    return found


def _drawn(state: str, share: float) -> Image.Image:
    image = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), theme.STAGE)
    draw = ImageDraw.Draw(image)
    middle, radius = (WIDTH * _FINE / 2, HEIGHT * _FINE / 2), 11 * _FINE
    ends = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)
    width = 3 * _FINE
    if state == "running":
        draw.arc(ends, 0, 360, theme.LINE, width)
        draw.arc(ends, -90, -90 + 360 * share, theme.ACCENT, width)
    elif state in ("queued", "paused"):
        for offset in (-10, 0, 10):
            x, y = middle[0] + offset * _FINE, middle[1]
            draw.ellipse((x - width * 0.8, y - width * 0.8, x + width * 0.8, y + width * 0.8), theme.FAINT)
    else:
        colour = theme.FAULT if state == "failed" else theme.FAINT
        reach = 6 * _FINE
        for side in (-1, 1):
            ends_ = (middle[0] - reach, middle[1] - side * reach, middle[0] + reach, middle[1] + side * reach)
            draw.line(ends_, colour, width)
    return _framed(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
