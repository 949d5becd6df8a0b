"""Plays a film on a canvas in a loop, with play, pause and a position slider."""

from __future__ import annotations

import time
import tkinter
from tkinter import ttk
from typing import Any, Final

from PIL import Image, ImageTk

from flickbook.desktop.frame_buffer import FrameBuffer
from flickbook.desktop.widgets import theme
from flickbook.desktop.widgets.theme import Theme

#: Maximum pixels of scaled frames that are cached, and maximum enlargement of a film.
_HELD: Final = 24 << 20
_LARGEST: Final = 6.0
#: Pixels: height of the controls, and corner radius of the stage.
_CONTROLS: Final = 34
_CORNER: Final = 12
#: Seconds after which a new window size counts as final, and the minimum duration of a frame.
_SETTLE: Final = 0.12
_SHORTEST: Final = 0.015


class Player(ttk.Frame):
    """The stage and its controls. Runs in Tk's thread; frames are decoded already."""

    def __init__(self, parent: tkinter.Misc, theme_: Theme) -> None:
        super().__init__(parent)
        self._theme = theme_
        self._reel: FrameBuffer | None = None
        self._images: dict[int, ImageTk.PhotoImage] = {}
        self._index, self._playing, self._due = 0, False, 0.0
        self._timer = self._settling = ""
        self.canvas = tkinter.Canvas(
            self, background=theme.PAPER, highlightthickness=0, borderwidth=0, takefocus=1, width=240, height=160
        )
        self.controls = ttk.Frame(self, height=_CONTROLS)
        self.controls.pack_propagate(False)
        self.controls.pack(side="bottom", fill="x", pady=(theme.GAP, 0))
        self.canvas.pack(fill="both", expand=True)
        self._back = self.canvas.create_polygon(0, 0, 0, 0, fill=theme.STAGE, width=2, smooth=True)
        self._hint = self.canvas.create_text(0, 0, fill=theme.SOFT, width=400, justify="center")
        self._picture = self.canvas.create_image(0, 0)
        self._button = ttk.Button(
            self.controls, image=theme_.pause, style="Icon.TButton", command=self.toggle, takefocus=True
        )
        self._place = tkinter.DoubleVar(self, 0.0)
        self._scale = ttk.Scale(self.controls, variable=self._place, command=self._pulled)
        self._time = ttk.Label(self.controls, style="Soft.TLabel", width=11, anchor="e")
        self.canvas.bind("<Configure>", self._sized)
        self.canvas.bind("<Button-1>", self._pressed)
        for event, colour in (("<FocusIn>", theme.ACCENT), ("<FocusOut>", "")):
            self.canvas.bind(event, lambda _, colour=colour: self.canvas.itemconfigure(self._back, outline=colour))  # type: ignore[misc]
        for key, what in (
            ("<space>", self.toggle),
            ("<Left>", lambda: self.step(-1)),
            ("<Right>", lambda: self.step(1)),
        ):
            self.canvas.bind(key, lambda _, what=what: what())  # type: ignore[misc]

    @property
    def index(self) -> int:
        """The index of the current frame."""
        return self._index

    @property
    def playing(self) -> bool:
        """Whether it is playing."""
        return self._playing

    @property
    def frame_buffer(self) -> FrameBuffer | None:
        """The current film."""
        return self._reel

    def show(self, frame_buffer: FrameBuffer, controls: bool = True) -> None:
        """Plays a film from its start; a preview that replaces one with as many frames continues at the same frame."""
        again = self._reel is not None and not controls and len(self._reel.frames) == len(frame_buffer.frames)
        self._reel, self._images = frame_buffer, {}
        self._index = self._index if again else 0
        moves = len(frame_buffer.frames) > 1
        self.hint("")
        self._control(controls and moves)
        self._draw()
        self._play(moves)

    def clear(self) -> None:
        """Empties the stage."""
        self._play(False)
        self._reel, self._images = None, {}
        self.canvas.itemconfigure(self._picture, image="")
        self._control(False)

    def hint(self, text: str) -> None:
        """Sets the text on the empty stage; showing a film removes it."""
        self.canvas.itemconfigure(self._hint, text=text)

    def _control(self, on: bool) -> None:
        """Shows or hides the controls; their space is kept, so that the stage does not change its size."""
        for widget in (self._button, self._scale, self._time):
            widget.pack_forget()
        if on and self._reel is not None:
            self._scale.configure(from_=0, to=len(self._reel.frames) - 1)
            self._button.pack(side="left")
            self._time.pack(side="right")
            self._scale.pack(side="left", fill="x", expand=True, padx=theme.GAP)

    def toggle(self) -> None:
        """Plays or pauses."""
        if self._reel is not None and len(self._reel.frames) > 1:
            self._play(not self._playing)

    def step(self, by: int) -> None:
        """Pauses and moves by a number of frames."""
        if self._reel is not None:
            self._play(False)
            self._index = (self._index + by) % len(self._reel.frames)
            self._draw()

    def _pressed(self, _: Any) -> None:
        self.canvas.focus_set()
        if self._button.winfo_manager():
            self.toggle()

    def _pulled(self, value: str) -> None:
        """Handles dragging of the slider."""
        self._play(False)
        if self._reel is not None:
            self._index = min(len(self._reel.frames) - 1, max(0, round(float(value))))
            self._draw(place=False)

    def _play(self, on: bool) -> None:
        self._playing = on
        self._button.configure(image=self._theme.pause if on else self._theme.play)
        if self._timer:
            self.after_cancel(self._timer)
            self._timer = ""
        if on and self._reel is not None:
            self._due = time.monotonic() + 1 / self._reel.fps
            self._wait()

    def _wait(self) -> None:
        self._timer = self.after(max(1, round(1000 * (self._due - time.monotonic()))), self._tick)

    def _tick(self) -> None:
        """Shows the next frame; late frames are skipped."""
        self._timer = ""
        if self._reel is None or not self._playing:
            return
        each = max(_SHORTEST, 1 / self._reel.fps)
        late = int(max(0.0, time.monotonic() - self._due) / each)
        self._index = (self._index + 1 + late) % len(self._reel.frames)
        self._due += (1 + late) * each
        self._draw()
        self._wait()

    def _sized(self, event: Any) -> None:
        """Scales frames again once the size is final; until then the current one is centred."""
        for item in (self._picture, self._hint):
            self.canvas.coords(item, event.width / 2, event.height / 2)
        self.canvas.itemconfigure(self._hint, width=max(80, event.width - 2 * theme.SPACE))
        self.canvas.coords(self._back, *_rounded(event.width - 1, event.height - 1))
        if self._settling:
            self.after_cancel(self._settling)
        self._settling = self.after(round(1000 * _SETTLE), self._settled)

    def _settled(self) -> None:
        self._settling = ""
        self._images = {}
        self._draw()

    def _draw(self, place: bool = True) -> None:
        if self._reel is None:
            return
        found = self._images.get(self._index)
        if found is None:
            image = self._fitted(self._reel.frames[self._index])
            found = ImageTk.PhotoImage(image, master=self)
            if image.width * image.height * len(self._reel.frames) <= _HELD:
                self._images[self._index] = found
            else:
                self._images = {self._index: found}  # Tk drops images without a reference
        self.canvas.itemconfigure(self._picture, image=found)
        if place:
            self._place.set(self._index)
        at = (self._index + 1) / self._reel.fps
        self._time.configure(text=f"{at:.1f} / {self._reel.seconds:.1f} s")

    def _fitted(self, image: Image.Image) -> Image.Image:
        """Scales a frame to the canvas; enlarges it by whole multiples only, so that its pixels stay sharp."""
        room = (max(32, self.canvas.winfo_width() - 24), max(32, self.canvas.winfo_height() - 24))
        scale = min(room[0] / image.width, room[1] / image.height, _LARGEST)
        scale = float(int(scale)) if scale > 1 else scale
        size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
        return image if size == image.size else image.resize(size, resampling)


def _rounded(width: int, height: int) -> list[float]:
    """The points of a smooth polygon that is a rectangle with round corners: each end of a straight side is doubled."""
    low, right, bottom, turn = 1.0, float(width - 1), float(height - 1), float(_CORNER)
    corners = (
        ((low, low + turn), (low, low), (low + turn, low)),
        ((right - turn, low), (right, low), (right, low + turn)),
        ((right, bottom - turn), (right, bottom), (right - turn, bottom)),
        ((low + turn, bottom), (low, bottom), (low, bottom - turn)),
    )
    points: list[float] = []
    for before, edge, after in corners:
        points += [*before, *before, *edge, *after, *after]
    return points
