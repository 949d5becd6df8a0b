"""The pictures that a film begins from, ends with or shows: a row for each kind that the chosen model reads."""

from __future__ import annotations

import tkinter
from collections.abc import Callable
from pathlib import Path
from tkinter import filedialog, ttk
from typing import Any, Final

from flickbook.catalogue import Model
from flickbook.conditioning import REFERENCES
from flickbook.desktop.fields import LABELS
from flickbook.errors import RequestError

#: Asks for files; the argument is whether several may be chosen.
Ask = Callable[[bool], list[str]]
KINDS: Final = ("image", "last_image", "reference_images")
_PICTURES: Final = [("Pictures", "*.png *.jpg *.jpeg *.webp *.gif *.bmp"), ("All files", "*")]
_SHOWN: Final = 32  # characters of a file's name


class Inputs(ttk.Frame):
    """The chosen pictures by kind. `ask` opens the system's dialog."""

    def __init__(self, parent: tkinter.Misc, ask: Ask | None = None) -> None:
        super().__init__(parent)
        self._ask: Ask = ask or self._dialog
        self._model: Model | None = None
        self.paths: dict[str, list[str]] = {name: [] for name in KINDS}
        self.rows: dict[str, ttk.Frame] = {}
        self.choose: dict[str, ttk.Button] = {}
        self.remove: dict[str, ttk.Button] = {}
        self._names: dict[str, ttk.Label] = {}
        self._buttons: dict[str, ttk.Frame] = {}
        for name in KINDS:
            row = self.rows[name] = ttk.Frame(self)
            ttk.Label(row, text=LABELS[name], style="Soft.TLabel").pack(anchor="w", pady=(12, 0))
            self._names[name] = ttk.Label(row, style="Soft.TLabel")
            self._buttons[name] = buttons = ttk.Frame(row)
            buttons.pack(anchor="w")
            self.choose[name] = ttk.Button(buttons, style="Link.TButton", text="Choose…")
            self.choose[name].configure(command=lambda name=name: self._choose(name))  # type: ignore[misc]
            self.remove[name] = ttk.Button(buttons, style="Link.TButton", text="Remove")
            self.remove[name].configure(command=lambda name=name: self._set(name, []))  # type: ignore[misc]
            self.choose[name].pack(side="left")
            self._set(name, [])

    def show(self, model: Model, picture: bool) -> None:
        """Shows the kinds that a model reads; a picture may only begin from one."""
        self._model = model
        for name in KINDS:
            self.rows[name].pack_forget()
            if self._reads(name) and not (picture and name != "image"):
                self.rows[name].pack(fill="x")

    def values(self) -> dict[str, Any]:
        """The fields of a Request for the rows that are shown. Raises RequestError for a missing first frame."""
        shown = {name: self.paths[name] for name in KINDS if self.rows[name].winfo_manager() and self.paths[name]}
        if self._model is not None and "text" not in self._model.inputs and "image" not in shown:
            raise RequestError("image", "", f"{self._model.title} starts from one", "choose a picture")
        return {name: tuple(paths) if name == "reference_images" else paths[0] for name, paths in shown.items()}

    def clear(self) -> None:
        """Removes all pictures."""
        for name in KINDS:
            self._set(name, [])

    def _reads(self, name: str) -> bool:
        model = self._model
        return model is not None and name in ((*model.inputs,) if name == "image" else (*model.accepts,))

    def _choose(self, name: str) -> None:
        several = name == "reference_images"
        if found := self._ask(several):
            self._set(name, [*self.paths[name], *found][:REFERENCES] if several else found[:1])

    def _set(self, name: str, paths: list[str]) -> None:
        self.paths[name] = paths
        texts = [text if len(text := Path(path).name) <= _SHOWN else f"{text[:_SHOWN]}…" for path in paths]
        self._names[name].configure(text="\n".join(texts))
        self._names[name].pack_forget()
        self.remove[name].pack_forget()
        if paths:
            self._names[name].pack(anchor="w", before=self._buttons[name])
            self.remove[name].pack(side="left")
        self.choose[name].configure(text="Add…" if paths and name == "reference_images" else "Choose…")

    def _dialog(self, several: bool) -> list[str]:
        if several:
            return [str(path) for path in filedialog.askopenfilenames(parent=self, filetypes=_PICTURES)]
        path = filedialog.askopenfilename(parent=self, filetypes=_PICTURES)
        return [str(path)] if path else []
