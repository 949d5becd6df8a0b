"""The window's ttk style: light, with round corners drawn as images."""

from __future__ import annotations

import tkinter
from tkinter import font, ttk
from typing import Any, Final

from PIL import Image, ImageDraw, ImageTk

PAPER: Final = "#faf9f7"
CARD: Final = "#ffffff"
STAGE: Final = "#f0eeea"
LINE: Final = "#dcd8d1"
INK: Final = "#23262b"
SOFT: Final = "#6b6f76"
FAINT: Final = "#a9a79f"
#: The accent of the studio; PRESSED and ACTIVE are its shades.
ACCENT: Final = "#b3391d"
PRESSED: Final = "#912c17"
ACTIVE: Final = "#d2532b"
PALE: Final = "#e0b3a6"
DEEP: Final = "#5d2216"
WASH: Final = "#fbe9e2"
FAULT: Final = "#b3261e"
#: Pixels: corner radius, space between related widgets, and between groups.
RADIUS: Final = 7
GAP: Final = 8
SPACE: Final = 20
#: Oversampling factor for smooth edges.
_FINE: Final = 4


def tile(fill: str, line: str = "", radius: int = RADIUS, width: float = 1, size: int = 24) -> Image.Image:
    """A square with round corners on a transparent background."""
    image = Image.new("RGBA", (size * _FINE, size * _FINE))
    inset = 0 if not line else width * _FINE / 2
    ends = (inset, inset, size * _FINE - 1 - inset, size * _FINE - 1 - inset)
    ImageDraw.Draw(image).rounded_rectangle(
        ends, radius * _FINE, fill or None, line or None, round(width * _FINE) if line else 0
    )
    return image.resize((size, size), Image.Resampling.LANCZOS)


def shape(kind: str, colour: str, size: int = 16) -> Image.Image:
    """An icon: "play", "pause", "down"."""
    image = Image.new("RGBA", (size * _FINE, size * _FINE))
    draw, unit = ImageDraw.Draw(image), size * _FINE / 16
    if kind == "play":
        draw.polygon([(4.5 * unit, 2.5 * unit), (4.5 * unit, 13.5 * unit), (13.5 * unit, 8 * unit)], colour)
    elif kind == "pause":
        for left in (4, 9.5):
            draw.rounded_rectangle((left * unit, 3 * unit, (left + 2.8) * unit, 13 * unit), unit, colour)
    else:
        points = [(4 * unit, 6 * unit), (8 * unit, 10 * unit), (12 * unit, 6 * unit)]
        draw.line(points, colour, round(1.6 * unit), joint="curve")
    return image.resize((size, size), Image.Resampling.LANCZOS)


def part(name: str, *inside: Any, **options: Any) -> Any:
    """An element of a layout with its children; it fills its space unless `options` say otherwise."""
    options = {"sticky": "nsew", **options}
    return name, options | ({"children": list(inside)} if inside else {})


def flipbook(cards: int = 5, width: int = 46, height: int = 58) -> Image.Image:
    """The pages of a flip book side by side, with a moving ball on them."""
    step, fine = width + 8, _FINE
    image = Image.new("RGB", ((step * cards - 8) * fine, height * fine), STAGE)
    draw = ImageDraw.Draw(image)
    for number in range(cards):
        left = number * step * fine
        ends = (left, 0, left + width * fine - 1, height * fine - 1)
        draw.rounded_rectangle(ends, RADIUS * fine, CARD, LINE, fine)
        share = number / (cards - 1)
        x = left + (10 + share * (width - 20)) * fine
        y = (height * 0.68 - 4 * share * (1 - share) * height * 0.36) * fine
        draw.ellipse((x - 6 * fine, y - 6 * fine, x + 6 * fine, y + 6 * fine), ACCENT)
    return image.resize((image.width // fine, image.height // fine), Image.Resampling.LANCZOS)


class Theme:
    """The style of one window. It keeps references to the images that ttk draws, which Tk would drop otherwise."""

    def __init__(self, root: tkinter.Tk) -> None:
        self._root = root
        self._held: list[ImageTk.PhotoImage] = []
        self.style = ttk.Style(root)
        self.style.theme_use("clam")
        base = font.nametofont("TkDefaultFont", root)
        self.family = str(base.actual("family"))
        size = int(base.actual("size"))
        base.configure(size=size)
        font.nametofont("TkTextFont", root).configure(family=self.family, size=size)
        self.small = font.Font(root, family=self.family, size=max(7, size - 1))
        self.strong = font.Font(root, family=self.family, size=size, weight="bold")
        self.large = font.Font(root, family=self.family, size=size + 3, weight="bold")
        root.configure(background=PAPER)
        # On X11, Tk binds Control-a to the beginning of the line, as Emacs does; select all instead.
        root.event_delete("<<LineStart>>", "<Control-a>")
        root.event_add("<<SelectAll>>", "<Control-a>")
        self.play, self.pause = self.photo(shape("play", INK)), self.photo(shape("pause", INK))
        self._plain()
        self._fields()
        self._buttons()
        self._bars()
        self._lists()

    def photo(self, image: Image.Image) -> ImageTk.PhotoImage:
        """Converts an image for Tk and keeps a reference to it."""
        found = ImageTk.PhotoImage(image, master=self._root)
        self._held.append(found)
        return found

    def _element(self, name: str, usual: Image.Image, *states: Any, border: int = RADIUS + 1, **options: Any) -> None:
        """Creates an image element; `states` are pairs of a state and its image."""
        drawn = [(state, str(self.photo(image))) for state, image in states]
        self.style.element_create(
            name, "image", str(self.photo(usual)), *drawn, border=border, sticky="nsew", **options
        )

    def _layout(self, name: str, *elements: Any) -> None:
        """Sets the layout of a widget from elements made by `part`. Tk recognises some of them by the last part of
        their name.
        """
        self.style.layout(name, list(elements))

    def _plain(self) -> None:
        style = self.style
        style.configure(".", background=PAPER, foreground=INK, font="TkDefaultFont", focuscolor=ACCENT)
        style.configure("Soft.TLabel", foreground=SOFT, font=self.small)
        style.configure("Fault.TLabel", foreground=FAULT)
        style.configure("SoftFault.TLabel", foreground=FAULT, font=self.small)
        style.configure("Strong.TLabel", font=self.strong)
        style.configure("Large.TLabel", font=self.large)
        style.configure("Stage.TFrame", background=STAGE)
        style.configure("Stage.TLabel", background=STAGE)
        style.configure("StageLarge.TLabel", background=STAGE, font=self.large)
        style.configure("StageSoft.TLabel", background=STAGE, foreground=SOFT)
        style.configure("Line.TFrame", background=LINE)

    def _buttons(self) -> None:
        style = self.style
        self._element(
            "Flick.button",
            tile(CARD, LINE),
            ("disabled", tile(PAPER, LINE)),
            ("pressed", tile(STAGE, FAINT)),
            ("focus", tile(CARD, ACCENT, width=1.6)),
            ("active", tile(CARD, FAINT)),
        )
        self._element(
            "Flick.accent",
            tile(ACCENT),
            ("disabled", tile(PALE)),
            ("pressed", tile(PRESSED)),
            ("focus", tile(ACCENT, DEEP, width=2)),
            ("active", tile(ACTIVE)),
        )
        self._element(
            "Flick.link", tile(""), ("focus", tile("", ACCENT)), ("pressed", tile(WASH)), ("active", tile(WASH))
        )
        self._element(
            "Flick.segment",
            tile(""),
            ("focus selected", tile(CARD, ACCENT, 6, 1.6)),
            ("selected", tile(CARD, LINE, 6)),
            ("focus", tile("", ACCENT, 6)),
        )
        self._element("Flick.segments", tile(STAGE))
        for name, element in (
            ("TButton", "button"),
            ("Accent.TButton", "accent"),
            ("Primary.TButton", "accent"),
            ("Link.TButton", "link"),
            ("StageLink.TButton", "link"),
            ("Icon.TButton", "link"),
            ("Segment.TRadiobutton", "segment"),
        ):
            kind = "Radiobutton" if "Radio" in name else "Button"
            self._layout(name, part(f"Flick.{element}", part(f"{kind}.padding", part(f"{kind}.label"))))
        style.configure("TButton", padding=(12, 5), anchor="center", foreground=INK, width=0)
        # The background shows at the round corners, where clam has grey.
        style.map("TButton", foreground=[("disabled", FAINT)], background=[("disabled", PAPER)])
        style.configure("Accent.TButton", padding=(14, 9), foreground=CARD, font=self.strong)
        style.map("Accent.TButton", foreground=[("disabled", PAPER)])
        style.configure("Primary.TButton", foreground=CARD)
        for name in ("Link.TButton", "StageLink.TButton"):
            style.configure(name, padding=(8, 4), foreground=ACCENT, width=0)
            style.map(name, foreground=[("disabled", FAINT)])
        style.configure("StageLink.TButton", background=STAGE)
        style.configure("Icon.TButton", padding=0)
        self._layout("Field.TFrame", part("Flick.field"))
        self._layout("Trough.TFrame", part("Flick.segments"))
        style.configure("Segment.TRadiobutton", padding=(10, 5), anchor="center", background=STAGE, foreground=SOFT)
        style.map("Segment.TRadiobutton", foreground=[("selected", INK)])

    def _fields(self) -> None:
        style, states = self.style, []
        for state, image in (
            ("disabled", tile(PAPER, LINE)),
            ("invalid", tile(CARD, FAULT, width=1.6)),
            ("focus", tile(CARD, ACCENT, width=1.6)),
            ("hover", tile(CARD, FAINT)),
        ):
            states.append((state, image))
        self._element("Flick.field", tile(CARD, LINE), *states)
        self._element("Flick.downarrow", shape("down", SOFT), border=0)
        for name in ("TEntry", "TSpinbox", "TCombobox"):
            text = part(f"{name[1:]}.padding", part(f"{name[1:]}.textarea"))
            arrow = [part("Flick.downarrow", side="right", sticky="")] if name == "TCombobox" else []
            self._layout(name, part("Flick.field", *arrow, text))
            style.configure(name, padding=(6, 3), foreground=INK, fieldbackground=CARD, insertcolor=INK)
            style.configure(name, selectbackground=WASH, selectforeground=INK)
            style.map(name, foreground=[("disabled", FAINT)], fieldbackground=[("disabled", PAPER)])
            style.map(name, selectbackground=[("!focus", CARD)], selectforeground=[("!focus", INK)])
        for option, value in (
            ("background", CARD),
            ("foreground", INK),
            ("selectBackground", WASH),
            ("selectForeground", INK),
            ("font", "TkDefaultFont"),
            ("relief", "flat"),
            ("borderWidth", 6),
        ):
            self._root.option_add(f"*TCombobox*Listbox.{option}", value)

    def _bars(self) -> None:
        style = self.style
        self._element("Flick.trough", tile(LINE, radius=3, size=8), border=3, padding=0)
        self._element("Flick.pbar", tile(ACCENT, radius=3, size=8), border=3, padding=0)
        done = part("Flick.pbar", side="left", sticky="ns")
        self._layout("Horizontal.TProgressbar", part("Flick.trough", done, sticky="ew"))
        self._element("Flick.slider", tile(ACCENT, CARD, 8, 2, 16), ("focus", tile(ACCENT, INK, 8, 2, 16)), border=0)
        knob = part("Flick.slider", side="left", sticky="")
        self._layout("Horizontal.TScale", part("Flick.trough", sticky="ew"), knob)
        style.configure("Horizontal.TScale", sliderlength=16)
        self._element(
            "Flick.thumb", tile("#d3cfc7", radius=3, size=8), ("active", tile(FAINT, radius=3, size=8)), border=3
        )
        thumb = part("Flick.thumb", expand="1")
        self._layout("Vertical.TScrollbar", part("Vertical.Scrollbar.trough", thumb, sticky="ns"))
        style.configure("Vertical.TScrollbar", troughcolor=PAPER, bordercolor=PAPER, relief="flat", borderwidth=0)

    def _lists(self) -> None:
        style = self.style
        high = 2 * self.small.metrics("linespace") + 30
        style.configure(
            "History.Treeview",
            background=PAPER,
            fieldbackground=PAPER,
            foreground=INK,
            borderwidth=0,
            rowheight=max(64, high),
            font=self.small,
            relief="flat",
        )
        style.map("History.Treeview", background=[("selected", WASH)], foreground=[("selected", INK)])
        self._layout("History.Treeview", part("Treeview.treearea"))
        inner = part("Treeitem.image", side="left", sticky=""), part("Treeitem.text")
        self._layout("History.Treeview.Item", part("Treeitem.padding", *inner))
        style.configure("History.Treeview.Item", padding=(4, 0))
