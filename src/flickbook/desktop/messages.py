"""The message line at the foot of the window: what happens, and errors in the words of the form."""

from __future__ import annotations

import logging
from tkinter import ttk

from flickbook.desktop.fields import LABELS
from flickbook.desktop.form import Form
from flickbook.errors import FlickbookError, RequestError, one_line

logger = logging.getLogger(__name__)


class Messages:
    """Writes to a label; an error marks the field of the form that caused it."""

    def __init__(self, label: ttk.Label, form: Form) -> None:
        self._label, self._form = label, form

    def tell(self, text: str) -> None:
        """Shows a message."""
        self._label.configure(text=one_line(text), style="Soft.TLabel")

    def fault(self, error: Exception) -> None:
        """Shows an error, and marks its field."""
        if isinstance(error, FlickbookError):
            self._form.blame(error.field)
            text = worded(error)
        else:
            logger.error("unexpected %s: %s", type(error).__name__, error)
            text = f"unexpected {type(error).__name__}: {error}"
        self._label.configure(text=one_line(text), style="SoftFault.TLabel")


def worded(error: FlickbookError) -> str:
    """The message of an error, with the label of the field: "Frames 999: must be 1 to 16", "Prompt: is empty"."""
    field, text = error.field or "", str(error)
    if field not in LABELS:
        return text
    if isinstance(error, RequestError):
        return error.text(LABELS[field])
    # The errors of a service are texts that begin with the field.
    name, equals, rest = text.partition("=")
    if not equals or name != field:
        return text
    return f"{LABELS[field]}{rest}" if rest.startswith(":") else f"{LABELS[field]} {rest}"
