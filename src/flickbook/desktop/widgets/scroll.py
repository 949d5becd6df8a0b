"""A frame that scrolls, with a scrollbar, if the window is too low for it."""

from __future__ import annotations

import tkinter
from tkinter import ttk
from typing import Any, Final

from flickbook.desktop.widgets import theme

#: Pixels of one wheel step, and width of the scrollbar.
_STEP: Final = 40
_BAR: Final = 8


class Scrolled(ttk.Frame):
    """A scrollable frame; its content belongs in `inside`."""

    def __init__(self, parent: tkinter.Misc, width: int) -> None:
        super().__init__(parent)
        self._canvas = tkinter.Canvas(
            self, background=theme.PAPER, highlightthickness=0, borderwidth=0, width=width, height=100,
            yscrollincrement=1,
        )  # fmt: skip
        self._bar = ttk.Scrollbar(self, orient="vertical", command=self._canvas.yview)
        self._canvas.configure(yscrollcommand=self._scrolled)
        self._canvas.pack(side="left", fill="both", expand=True)
        self.inside = ttk.Frame(self._canvas)
        self._window = self._canvas.create_window(0, 0, window=self.inside, anchor="nw")
        self.inside.bind("<Configure>", self._measured)
        self._canvas.bind("<Configure>", lambda _: self._fitted())

    def ready(self) -> None:
        """Binds the current content: the wheel scrolls it, and a field that gets the focus is scrolled into view."""
        # Bound to the toplevel, because Tk moves the focus to every widget with such a binding, even labels.
        self.winfo_toplevel().bind("<FocusIn>", self._focused, add="+")
        for child in _below(self.inside):
            for name in ("<MouseWheel>", "<Button-4>", "<Button-5>"):
                child.bind(name, self._wheeled)

    def _measured(self, _: Any) -> None:
        self._canvas.configure(scrollregion=(0, 0, 1, self.inside.winfo_reqheight()))

    def _scrolled(self, low: Any, high: Any) -> None:
        self._bar.set(low, high)
        if float(low) <= 0 and float(high) >= 1:
            self._bar.place_forget()
        else:
            self._bar.place(relx=1, rely=0, relheight=1, anchor="ne", width=_BAR)
        self._fitted()

    def _fitted(self) -> None:
        """Fits the content's width to the room beside the scrollbar."""
        room = _BAR + theme.GAP if self._bar.winfo_manager() else 0
        self._canvas.itemconfigure(self._window, width=max(1, self._canvas.winfo_width() - room))

    def _wheeled(self, event: Any) -> str:
        up = event.num == 4 or event.delta > 0
        if self._canvas.yview() != (0.0, 1.0):
            self._canvas.yview_scroll(-_STEP if up else _STEP, "units")
        return "break"  # otherwise a field would change its number

    def _focused(self, event: Any) -> None:
        """Scrolls a focused field into view."""
        if not str(event.widget).startswith(f"{self.inside}."):
            return
        whole, low = self.inside.winfo_reqheight(), self._canvas.canvasy(0)
        top = event.widget.winfo_rooty() - self.inside.winfo_rooty()
        bottom, seen = top + event.widget.winfo_height(), self._canvas.winfo_height()
        if top < low or bottom > low + seen:
            self._canvas.yview_moveto(max(0.0, min(top - theme.SPACE, bottom + theme.SPACE - seen) / max(1, whole)))


def _below(widget: tkinter.Misc) -> list[Any]:
    return [widget] + [each for child in widget.winfo_children() for each in _below(child)]
