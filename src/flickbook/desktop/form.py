"""The form: film or picture, prompt, model, and the main parameters within the model's limits."""

from __future__ import annotations

import tkinter
from collections.abc import Callable, Sequence
from contextlib import suppress
from tkinter import ttk
from typing import Any, Final, get_args

from flickbook.catalogue import Model, Real, Whole
from flickbook.conditioning import files
from flickbook.desktop.fields import LABELS, number, shortened, size, title
from flickbook.desktop.inputs import Inputs
from flickbook.desktop.sources.source import Offer
from flickbook.desktop.widgets import theme
from flickbook.desktop.widgets.scroll import Scrolled
from flickbook.desktop.widgets.theme import Theme
from flickbook.errors import RequestError
from flickbook.spec import Plan, Polish, Request, Speed

WIDTH: Final = 304
#: Number fields, and the step of an arrow key.
_NUMBERS: Final = {"num_frames": 1.0, "num_inference_steps": 1.0, "guidance_scale": 0.5, "fps": 1.0}
#: Milliseconds without a key before the notes on a prompt are requested.
_PAUSE: Final = 500


class Form(ttk.Frame):
    """The form's fields. `on_make` is called when the user submits the form, `on_words` with a prompt and the name of
    a model after either has changed; its notes are shown with `note`.
    """

    def __init__(
        self,
        parent: tkinter.Misc,
        theme_: Theme,
        on_make: Callable[[], None],
        on_words: Callable[[str, str], None] = lambda prompt, model: None,
    ) -> None:
        super().__init__(parent, width=WIDTH)
        self._theme, self._on_make, self._on_words = theme_, on_make, on_words
        self._timer, self._noted = "", ("", "")
        self._offers: list[Offer] = []
        self._listed: list[Offer] = []
        self._labels: dict[str, ttk.Label] = {}
        self._values: dict[str, tkinter.StringVar] = {}
        self.fields: dict[str, Any] = {}
        self.make = ttk.Button(self, text="Make the film", style="Accent.TButton", command=on_make)
        self.make.pack(side="bottom", fill="x", pady=(theme.GAP, 0))
        self._scrolled = Scrolled(self, WIDTH)
        self._scrolled.pack(fill="both", expand=True)
        self._body = self._scrolled.inside
        self._body.columnconfigure((0, 1), weight=1, uniform="halves")
        self._kind_row()
        self._prompt_row()
        self._model_row()
        self._number("num_frames", 6, 0)
        self._number("num_inference_steps", 6, 1)
        self._combo("size", 8, 0)
        self._label("seed", 8, 1)
        self._labels["seed"].configure(text="Seed (empty: random)")
        self._placed(ttk.Entry(self._body, width=6), "seed", 8, 1)
        self._more_rows()
        self._scrolled.ready()

    def _kind_row(self) -> None:
        self.picture = tkinter.BooleanVar(self, False)
        trough = ttk.Frame(self._body, style="Trough.TFrame", padding=3)
        trough.grid(row=0, column=0, columnspan=2, sticky="ew")
        trough.columnconfigure((0, 1), weight=1, uniform="halves")
        for column, (text, value) in enumerate((("Film", False), ("Picture", True))):
            button = ttk.Radiobutton(
                trough, text=text, value=value, variable=self.picture, style="Segment.TRadiobutton", command=self._kind
            )
            button.grid(row=0, column=column, sticky="ew")
            self.fields["picture" if value else "film"] = button

    def _prompt_row(self) -> None:
        self._label("prompt", 1, 0, 2)
        self.prompt = self._text("prompt", 2, 4)
        self.prompt.bind("<<Modified>>", self._modified)
        self.notes = ttk.Label(self._body, style="Soft.TLabel", wraplength=WIDTH - 24, justify="left")
        self.notes.grid(row=3, column=0, columnspan=2, sticky="w", pady=(6, 0))
        self.notes.grid_remove()
        self.prompt.bind("<Return>", self._returned)
        self.prompt.bind("<KP_Enter>", self._returned)

    def _text(self, name: str, row: int, height: int) -> tkinter.Text:
        frame = ttk.Frame(self._body, style="Field.TFrame", padding=(8, 6))
        frame.grid(row=row, column=0, columnspan=2, sticky="ew")
        text = tkinter.Text(
            frame, height=height, width=20, wrap="word", font="TkTextFont", borderwidth=0, highlightthickness=0,
            background=theme.CARD, foreground=theme.INK, insertbackground=theme.INK, selectbackground=theme.WASH,
            selectforeground=theme.INK, undo=True,
        )  # fmt: skip
        text.pack(fill="both", expand=True)
        text.bind("<FocusIn>", lambda _: frame.state(["focus"]))
        text.bind("<FocusOut>", lambda _: frame.state(["!focus"]))
        # The Tab key moves the focus instead of inserting a tab.
        text.bind("<Tab>", lambda event: _moved(event.widget.tk_focusNext()))
        for back in ("<Shift-Tab>", "<ISO_Left_Tab>"):
            try:
                text.bind(back, lambda event: _moved(event.widget.tk_focusPrev()))
            except tkinter.TclError:
                continue  # a key that this system does not know
        self.fields[name] = text
        return text

    def _model_row(self) -> None:
        self._combo("model", 4, 0, 2)
        self.fields["model"].bind("<<ComboboxSelected>>", lambda _: self._chosen())

    def _label(self, name: str, row: int, column: int, span: int = 1) -> None:
        label = ttk.Label(self._body, text=LABELS[name], style="Soft.TLabel")
        label.grid(row=row, column=column, columnspan=span, sticky="w", pady=(12, 3), padx=self._pad(column, span))
        self._labels[name] = label

    def _pad(self, column: int, span: int) -> tuple[int, int]:
        return (0, 0) if span == 2 else (0, 5) if column == 0 else (5, 0)

    def _placed(self, widget: Any, name: str, row: int, column: int, span: int = 1) -> None:
        widget.grid(row=row + 1, column=column, columnspan=span, sticky="ew", padx=self._pad(column, span))
        widget.bind("<Return>", lambda _: self._on_make())
        self.fields[name] = widget

    def _number(self, name: str, row: int, column: int) -> None:
        self._label(name, row, column)
        value = self._values[name] = tkinter.StringVar(self)
        value.trace_add("write", lambda *_: self._ranged("num_frames"))
        self._placed(ttk.Spinbox(self._body, width=6, textvariable=value), name, row, column)

    def _combo(self, name: str, row: int, column: int, span: int = 1) -> None:
        self._label(name, row, column, span)
        box = ttk.Combobox(self._body, width=6, state="readonly", height=14)
        box.bind("<<ComboboxSelected>>", lambda _: box.selection_clear(), add="+")
        self._placed(box, name, row, column, span)

    def _more_rows(self) -> None:
        between = ttk.Frame(self._body)
        between.grid(row=10, column=0, columnspan=2, sticky="ew")
        self.inputs = Inputs(between)
        self.inputs.pack(fill="x")
        self._more = ttk.Button(between, style="Link.TButton", command=self._unfold, text="More")
        self._more.pack(anchor="w", pady=(10, 0))
        before = set(self._body.grid_slaves())
        self._number("guidance_scale", 11, 0)
        self._number("fps", 11, 1)
        self._combo("scheduler", 13, 0)
        self._combo("speed", 13, 1)
        self.fields["speed"].configure(values=get_args(Speed))
        self.fields["speed"].current(0)
        self._label("negative_prompt", 15, 0, 2)
        self._text("negative_prompt", 16, 2).bind("<Return>", self._returned)
        self._advice = ttk.Label(self._body, style="Soft.TLabel", wraplength=WIDTH - 24, justify="left")
        self._advice.grid(row=18, column=0, columnspan=2, sticky="w", pady=(12, 0))
        use = ttk.Button(self._body, style="Link.TButton", command=self._recommend, text="Use the recommended settings")
        use.grid(row=19, column=0, columnspan=2, sticky="w")
        self._folded = [each for each in self._body.grid_slaves() if each not in before]
        self._unfolded = True
        self._unfold()

    def _recommend(self) -> None:
        """Fills in the recommended settings of the chosen model."""
        if self.model is None:
            return
        for name, value in self.model.recommended.model_dump().items():
            self._write(name, value) if name == "negative_prompt" else self._set(name, f"{value:g}")

    def _unfold(self) -> None:
        """Shows or hides the advanced fields."""
        self._unfolded = not self._unfolded
        for widget in self._folded:
            widget.grid() if self._unfolded else widget.grid_remove()
        self._more.configure(text="Less" if self._unfolded else "More")
        self._kinds()

    def _returned(self, _: Any) -> str:
        """Return submits the form; Shift-Return inserts a line break."""
        self._on_make()
        return "break"

    def offer(self, offers: Sequence[Offer], preferred: str) -> None:
        """Sets the available models; `preferred` is chosen if it fits."""
        self._offers = list(offers)
        self._list(preferred)

    def _kind(self) -> None:
        model = self.model
        self._list(model.name if model is not None else "")

    def _list(self, name: str) -> None:
        """Lists the models for the chosen kind, with runnable ones first."""
        before = self.model
        able = [offer for offer in self._offers if offer.fits(self.picture.get())]
        self._listed = sorted(able, key=lambda offer: not offer.here)
        box = self.fields["model"]
        box.configure(values=[title(offer) for offer in self._listed])
        names = [offer.model.name for offer in self._listed]
        if names:
            box.current(names.index(name) if name in names else 0)
        else:
            box.set("")
        self._kinds()
        if self.model != before:
            self._chosen(keep=before is None)

    def _kinds(self) -> None:
        """Shows the fields that only films have, and sets the button's text."""
        picture = self.picture.get()
        self.make.configure(text="Make the picture" if picture else "Make the film")
        if self.model is not None:
            self.inputs.show(self.model, picture)
        for name in ("num_frames", "fps"):
            shown = not picture and (name == "num_frames" or self._unfolded)
            for widget in (self._labels[name], self.fields[name]):
                widget.grid() if shown else widget.grid_remove()
        column, span = (0, 2) if picture else (1, 1)
        for widget in (self._labels["num_inference_steps"], self.fields["num_inference_steps"]):
            widget.grid_configure(column=column, columnspan=span, padx=self._pad(column, span))

    @property
    def model(self) -> Model | None:
        """The chosen model, or None."""
        at = self.fields["model"].current()
        return self._listed[at].model if 0 <= at < len(self._listed) else None

    def _chosen(self, keep: bool = False) -> None:
        """Sets all fields to the model's defaults and limits; with `keep`, keeps values entered before a model was
        known.
        """
        model = self.model
        if model is None:
            return
        self.inputs.show(model, self.picture.get())
        for name in _NUMBERS:
            self._limit(name, getattr(model, name), keep)
        box = self.fields["size"]
        box.configure(values=[f"{width} × {height}" for width, height in model.sizes])
        box.configure(state="readonly" if model.sides is None else "normal")
        box.current(0)
        self.fields["scheduler"].configure(values=list(model.schedulers))
        self.fields["scheduler"].current(0)
        self._write("negative_prompt", model.negative_prompt)
        self._advice.configure(text=shortened(f"Recommended: {model.advice()}"))
        self._modified()
        self.unblame()

    def _limit(self, name: str, allowed: Whole | Real, keep: bool) -> None:
        smallest, largest = self._range(name)
        spin = self.fields[name]
        spin.configure(from_=smallest, to=largest, state="normal")
        spin.configure(increment=getattr(allowed, "every", _NUMBERS[name]))
        if not (keep and spin.get()):
            spin.set(f"{allowed.default:g}")
        spin.configure(state="disabled" if smallest >= largest else "normal")
        self._ranged(name)

    def _range(self, name: str) -> tuple[float, float]:
        """The limits of a number of the chosen model; a film has at least two frames."""
        model = self.model
        assert model is not None, "a number has limits once there is a model"
        smallest, largest = getattr(model, name).range
        return (model.fewest_frames if name == "num_frames" and largest > 1 else smallest), largest

    def _ranged(self, name: str) -> None:
        """Shows the limits of a number in its label, and the duration beside the frames."""
        if self.model is None:
            return
        text, (smallest, largest) = LABELS[name], self._range(name)
        if name == "num_frames":
            with suppress(KeyError, ValueError, ZeroDivisionError):  # not a number yet
                text += f" ({float(self._values[name].get()) / float(self._values['fps'].get()):.1f} s)"
        self._labels[name].configure(text=text + (f" {smallest:g}–{largest:g}" if smallest < largest else ""))

    def _modified(self, _: Any = None) -> None:
        """Requests notes once the prompt and the model have not changed for a moment."""
        self.prompt.edit_modified(False)
        if self._timer:
            self.after_cancel(self._timer)
        self._timer = self.after(_PAUSE, self._look)

    def _look(self) -> None:
        self._timer, model, words = "", self.model, self.words
        if model is None or (words, model.name) == self._noted:
            return
        self._noted = words, model.name
        if words:
            self._on_words(words, model.name)
        else:
            self.note("", [])

    def note(self, prompt: str, notes: Sequence[str]) -> None:
        """Shows notes on a prompt, unless it has changed meanwhile."""
        if prompt == self.words:
            self.notes.configure(text="\n".join(notes))
            self.notes.grid() if notes else self.notes.grid_remove()

    def request(self) -> Request:
        """The Request in the form. Raises RequestError for an invalid number or size, and a missing picture."""
        model, picture = self.model, self.picture.get()
        if model is None:
            raise RequestError("model", "", "none is available", "wait until there is a connection")
        fields: dict[str, Any] = {"prompt": self.words, "model": model.name}
        for name in (*_NUMBERS, "seed"):
            text = str(self.fields[name].get()).strip()
            if text and not (picture and name in ("num_frames", "fps")):
                fields[name] = number(name, text)
        if picture:
            fields["num_frames"] = 1
        elif fields.get("num_frames") == 1:
            limits = "must be {} to {}".format(*self._range("num_frames"))
            raise RequestError("num_frames", 1, limits, "choose Picture for a single image")
        fields |= size(str(self.fields["size"].get()))
        fields["scheduler"] = self.fields["scheduler"].get() or None
        speed = self.fields["speed"].get()
        fields["speed"] = None if speed == "exact" else speed  # an older service does not know this field
        negative = self.fields["negative_prompt"].get("1.0", "end-1c").strip()
        if negative != model.negative_prompt:
            fields["negative_prompt"] = negative
        return Request.of(**fields, **self.inputs.values())

    @property
    def words(self) -> str:
        """The prompt."""
        return str(self.prompt.get("1.0", "end-1c")).strip()

    def say(self, prompt: str) -> None:
        """Sets the prompt."""
        self._write("prompt", prompt)
        self.prompt.focus_set()

    def fill(self, plan: Plan) -> str:
        """Fills in the form from a Plan; returns the options that the form cannot hold, or ""."""
        self.picture.set(plan.num_frames == 1)
        self._list(plan.model)
        model = self.model
        if model is None or model.name != plan.model:
            raise RequestError("model", plan.model, "is not available here", "choose another model")
        self.inputs.clear()  # a Plan contains the hashes of files, not the files
        self._write("prompt", plan.prompt)
        self._write("negative_prompt", plan.negative_prompt)
        for name in (*_NUMBERS, "seed"):
            self._set(name, f"{getattr(plan, name):.10g}" if name != "seed" else str(plan.seed))
        self.fields["size"].set(f"{plan.width} × {plan.height}")
        self.fields["scheduler"].set(plan.scheduler)
        self.fields["speed"].set(plan.speed)
        self.prompt.focus_set()
        guides = [role for role, _ in files(plan) if role not in ("image", "video", "audio")]
        lacks = {
            "the picture or video it starts from": plan.image or plan.video,
            "the images and videos that guide it": guides,
            "its sound file": plan.track(),
            "the LoRAs": plan.loras,
            "later prompts": plan.prompt_at,
            "the finishing of its frames": plan.polish != Polish(),
        }
        return " and ".join(name for name, there in lacks.items() if there)

    def _set(self, name: str, text: str) -> None:
        field = self.fields[name]
        if str(field.cget("state")) != "disabled":
            field.delete(0, "end")
            field.insert(0, text)

    def _write(self, name: str, text: str) -> None:
        field = self.fields[name]
        field.delete("1.0", "end")
        field.insert("1.0", text)

    def blame(self, name: str | None) -> None:
        """Marks a field as invalid and focuses it."""
        self.unblame()
        name = "size" if name in ("width", "height") else name
        if name not in self._labels:
            return
        if self.fields[name] in self._folded and not self._unfolded:
            self._unfold()
        self._labels[name].configure(style="SoftFault.TLabel")
        self.fields[name].focus_set()

    def unblame(self) -> None:
        """Removes all error marks."""
        for label in self._labels.values():
            label.configure(style="Soft.TLabel")


def _moved(widget: Any) -> str:
    if widget is not None:
        widget.tk.call("tk::TabToWindow", widget)  # also selects the field's content, so that typing replaces it
    return "break"
