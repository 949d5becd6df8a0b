"""The dialog that chooses where films are made: on this computer, or by a service with a URL and an API key."""

from __future__ import annotations

import tkinter
from collections.abc import Callable
from tkinter import ttk

from flickbook.desktop.sources.remote import Remote
from flickbook.desktop.widgets import theme
from flickbook.errors import FlickbookError


class Place(tkinter.Toplevel):
    """A modal dialog. `choose` receives the service, or None for this computer."""

    def __init__(self, parent: tkinter.Tk, url: str, remote: bool, choose: Callable[[Remote | None], None]) -> None:
        super().__init__(parent, background=theme.LINE)
        self.withdraw()
        self.title("Where films are made")
        self.transient(parent)
        self.resizable(False, False)
        self._choose = choose
        body = ttk.Frame(self, padding=theme.SPACE)
        body.pack(padx=1, pady=1)
        self._remote = tkinter.BooleanVar(self, remote)
        trough = ttk.Frame(body, style="Trough.TFrame", padding=3)
        trough.pack(fill="x")
        trough.columnconfigure((0, 1), weight=1, uniform="halves")
        for column, (text, value) in enumerate((("This computer", False), ("A service", True))):
            ttk.Radiobutton(
                trough, text=text, value=value, variable=self._remote, style="Segment.TRadiobutton", command=self._kind
            ).grid(row=0, column=column, sticky="ew")
        self.url, self.key = ttk.Entry(body, width=44), ttk.Entry(body, width=44, show="•")
        for text, entry in (("Address", self.url), ("API key, if the service needs one", self.key)):
            ttk.Label(body, text=text, style="Soft.TLabel").pack(anchor="w", pady=(14, 3))
            entry.pack(fill="x")
        self.url.insert(0, url or "http://127.0.0.1:8000")
        self.message = ttk.Label(body, style="SoftFault.TLabel", wraplength=340, justify="left")
        self.message.pack(anchor="w", pady=(theme.GAP, 0))
        row = ttk.Frame(body)
        row.pack(fill="x", pady=(theme.GAP, 0))
        ttk.Button(row, text="Connect", style="Accent.TButton", command=self.use).pack(side="right")
        ttk.Button(row, text="Cancel", command=self.destroy).pack(side="right", padx=(0, theme.GAP))
        self.bind("<Return>", lambda _: self.use())
        self.bind("<Escape>", lambda _: self.destroy())
        self._kind()
        self.update_idletasks()
        left = parent.winfo_rootx() + (parent.winfo_width() - self.winfo_reqwidth()) // 2
        self.geometry(f"+{max(0, left)}+{max(0, parent.winfo_rooty() + 90)}")
        self.deiconify()
        self.wait_visibility()
        self.grab_set()
        (self.url if remote else self).focus_force()

    def _kind(self) -> None:
        for entry in (self.url, self.key):
            entry.configure(state="normal" if self._remote.get() else "disabled")

    def use(self) -> None:
        """Accepts the choice; shows an error for an invalid URL."""
        try:
            found = Remote(self.url.get(), self.key.get()) if self._remote.get() else None
        except FlickbookError as error:
            self.message.configure(text=str(error))
            return
        self.destroy()
        self._choose(found)
