"""The form: film or picture, prompt, model, and the main parameters within the model's limits."""

from __future__ import annotations

import tkinter
from collections.abc import Callable, Sequence
from tkinter import ttk
from typing import Any, Final, get_args

from flickbook.catalogue import Model, Real, Whole
from flickbook.desktop import theme
from flickbook.desktop.scroll import Scrolled
from flickbook.desktop.source import Offer
from flickbook.desktop.theme import Theme
from flickbook.errors import RequestError
from flickbook.spec import Plan, Polish, Request, Speed

WIDTH: Final = 284
#: Number fields: label, and step of an arrow key.
_NUMBERS: Final = {
    "num_frames": ("Frames", 1.0),
    "num_inference_steps": ("Steps", 1.0),
    "guidance_scale": ("Guidance", 0.5),
    "fps": ("Frames/s", 1.0),
}
_SHOWN: Final = 160  # characters of the recommended settings, whose negative prompts may be long
_WHOLE: Final = ("num_frames", "num_inference_steps", "seed")


class Form(ttk.Frame):
    """The form's fields. `on_make` is called when the user submits the form."""

    def __init__(self, parent: tkinter.Misc, theme_: Theme, on_make: Callable[[], None]) -> None:
        super().__init__(parent, width=WIDTH)
        self._theme, self._on_make = theme_, on_make
        self._offers: list[Offer] = []
        self._listed: list[Offer] = []
        self._labels: dict[str, tuple[ttk.Label, str]] = {}
        self.fields: dict[str, Any] = {}
        self.make = ttk.Button(self, text="Make film", style="Accent.TButton", command=on_make)
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
        self._combo("size", "Size", 8, 0)
        self._entry("seed", "Seed", 8, 1)
        self._labels["seed"][0].configure(text="Seed (empty: any)")
        self._labels["seed"] = (self._labels["seed"][0], "Seed (empty: any)")
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
        self._label("prompt", "What it shows", 1, 0, 2)
        self.prompt = self._text("prompt", 2, 4)
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
        self._combo("model", "Model", 4, 0, 2)
        self.fields["model"].bind("<<ComboboxSelected>>", lambda _: self._chosen())

    def _label(self, name: str, text: str, row: int, column: int, span: int = 1) -> None:
        label = ttk.Label(self._body, text=text, style="Soft.TLabel")
        label.grid(row=row, column=column, columnspan=span, sticky="w", pady=(12, 3), padx=self._pad(column, span))
        self._labels[name] = (label, text)

    def _pad(self, column: int, span: int) -> tuple[int, int]:
        return (0, 0) if span == 2 else (0, 5) if column == 0 else (5, 0)

    def _placed(self, widget: Any, name: str, row: int, column: int, span: int = 1) -> None:
        widget.grid(row=row + 1, column=column, columnspan=span, sticky="ew", padx=self._pad(column, span))
        widget.bind("<Return>", lambda _: self._on_make())
        self.fields[name] = widget

    def _number(self, name: str, row: int, column: int) -> None:
        self._label(name, _NUMBERS[name][0], row, column)
        self._placed(ttk.Spinbox(self._body, width=6, increment=_NUMBERS[name][1]), name, row, column)

    def _entry(self, name: str, text: str, row: int, column: int) -> None:
        self._label(name, text, row, column)
        self._placed(ttk.Entry(self._body, width=6), name, row, column)

    def _combo(self, name: str, text: str, row: int, column: int, span: int = 1) -> None:
        self._label(name, text, row, column, span)
        box = ttk.Combobox(self._body, width=6, state="readonly", height=14)
        box.bind("<<ComboboxSelected>>", lambda _: box.selection_clear(), add="+")
        self._placed(box, name, row, column, span)

    def _more_rows(self) -> None:
        self._more = ttk.Button(self._body, style="Link.TButton", command=self._unfold, text="More")
        self._more.grid(row=10, column=0, columnspan=2, sticky="w", pady=(10, 0))
        before = set(self._body.grid_slaves())
        self._number("guidance_scale", 11, 0)
        self._number("fps", 11, 1)
        self._combo("scheduler", "Scheduler", 13, 0)
        self._combo("speed", "Speed", 13, 1)
        self.fields["speed"].configure(values=get_args(Speed))
        self.fields["speed"].current(0)
        self._label("negative_prompt", "What it should not show", 15, 0, 2)
        self._text("negative_prompt", 16, 2).bind("<Return>", self._returned)
        self._advice = ttk.Label(self._body, style="Soft.TLabel", wraplength=WIDTH - 24, justify="left")
        self._advice.grid(row=18, column=0, columnspan=2, sticky="w", pady=(12, 0))
        use = ttk.Button(self._body, style="Link.TButton", command=self._recommend, text="Use these settings")
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
        box.configure(values=[_title(offer) for offer in self._listed])
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
        self.make.configure(text="Make picture" if picture else "Make film")
        for name in ("num_frames", "fps"):
            shown = not picture and (name == "num_frames" or self._unfolded)
            for widget in (self._labels[name][0], self.fields[name]):
                widget.grid() if shown else widget.grid_remove()
        column, span = (0, 2) if picture else (1, 1)
        for widget in (self._labels["num_inference_steps"][0], self.fields["num_inference_steps"]):
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
        for name in _NUMBERS:
            self._limit(name, getattr(model, name), keep)
        box = self.fields["size"]
        box.configure(values=[f"{width} × {height}" for width, height in model.sizes])
        box.configure(state="readonly" if model.sides is None else "normal")
        box.current(0)
        self.fields["scheduler"].configure(values=list(model.schedulers))
        self.fields["scheduler"].current(0)
        self._write("negative_prompt", model.negative_prompt)
        self._advice.configure(text=_shortened(f"Recommended: {model.advice()}"))
        self.unblame()

    def _limit(self, name: str, allowed: Whole | Real, keep: bool) -> None:
        smallest, largest = allowed.range
        spin, (label, _) = self.fields[name], self._labels[name]
        fixed = smallest == largest
        spin.configure(from_=smallest, to=largest, state="normal")
        spin.configure(increment=getattr(allowed, "every", _NUMBERS[name][1]))
        if not (keep and spin.get()):
            spin.set(f"{allowed.default:g}")
        spin.configure(state="disabled" if fixed else "normal")
        text = _NUMBERS[name][0] + ("" if fixed else f"  {smallest:g} – {largest:g}")
        label.configure(text=text)
        self._labels[name] = (label, text)

    def request(self) -> Request:
        """The Request in the form. Raises RequestError for an invalid number or size."""
        model, picture = self.model, self.picture.get()
        if model is None:
            raise RequestError("model", "", "none can be asked for", "wait until there is a connection")
        asked: dict[str, Any] = {"prompt": self.words, "model": model.name}
        for name in (*_NUMBERS, "seed"):
            text = str(self.fields[name].get()).strip()
            if text and not (picture and name in ("num_frames", "fps")):
                asked[name] = _number(name, text)
        if picture:
            asked["num_frames"] = 1
        asked |= _size(str(self.fields["size"].get()))
        asked["scheduler"] = self.fields["scheduler"].get() or None
        speed = self.fields["speed"].get()
        asked["speed"] = None if speed == "exact" else speed  # an older service does not know this field
        negative = self.fields["negative_prompt"].get("1.0", "end-1c").strip()
        if negative != model.negative_prompt:
            asked["negative_prompt"] = negative
        return Request.of(**asked)

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
            raise RequestError("model", plan.model, "is not offered here", "choose another")
        self._write("prompt", plan.prompt)
        self._write("negative_prompt", plan.negative_prompt)
        for name in (*_NUMBERS, "seed"):
            self._set(name, f"{getattr(plan, name):.10g}" if name != "seed" else str(plan.seed))
        self.fields["size"].set(f"{plan.width} × {plan.height}")
        self.fields["scheduler"].set(plan.scheduler)
        self.fields["speed"].set(plan.speed)
        self.prompt.focus_set()
        lacks = {
            "its picture or video to begin from": plan.image or plan.video,
            "its LoRAs": plan.loras,
            "its later prompts": plan.prompt_at,
            "what was done to its frames": plan.polish != Polish(),
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
        self._labels[name][0].configure(style="SoftFault.TLabel")
        self.fields[name].focus_set()

    def unblame(self) -> None:
        """Removes all error marks."""
        for label, text in self._labels.values():
            label.configure(style="Soft.TLabel", text=text)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _moved(widget: Any) -> str:
    if widget is not None:
        widget.tk.call("tk::TabToWindow", widget)  # also selects the field's content, so that typing replaces it
    return "break"


def _title(offer: Offer) -> str:
    if offer.here:
        return offer.model.title
    size = f"{offer.model.download_gb:g} GB " if offer.model.download_gb else ""
    return f"{offer.model.title}  ({size}to be pulled)"


def _number(name: str, text: str) -> int | float:
    """Parses a number. Raises RequestError."""
    try:
        return int(text) if name in _WHOLE else float(text.replace(",", "."))
    except ValueError:
        what = "is no whole number" if name in _WHOLE else "is no number"
        raise RequestError(name, text, what, "write for example 16") from None


def _size(text: str) -> dict[str, int]:
    """Parses width and height from "128 × 128". Raises RequestError."""
    parts = text.lower().replace("×", "x").split("x")
    try:
        width, height = (int(part) for part in parts)
    except ValueError:
        raise RequestError("size", text, "must be width × height in pixels", "write for example 128 x 128") from None
    return {"width": width, "height": height}
