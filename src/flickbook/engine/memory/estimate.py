"""The Estimate of what a film takes of a machine, as numbers and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from flickbook.engine.memory.device import at_once
from flickbook.spec import Placement

Basis = Literal["measured", "computed", "believed"]
GIB = 2**30
#: Seconds from which on a film counts as slow.
SLOW = 3600


@dataclass(frozen=True)
class Estimate:
    """What a film takes on its device, in bytes; `room` is what is free there. For a GPU, `host` is what the process
    takes of the machine's memory and `host_room` what is free of that; for other devices both are 0.

    `activations` (denoising) and `decode` come on top of `weights`, one after the other; `peak` is the maximum at any
    time, without pages of files that the system can reclaim: `fits` compares it with `room`. `download` is still to be
    fetched. `seconds` count from the start of the command; None if no earlier run is known to compare with. `remedy`
    names a request that would fit, "" if this one does. `basis` says where the peak is from: measured in a run of this
    shape, computed by a formula that was verified on similar networks, or believed (a formula that was not verified).
    """

    device_name: str
    room: int
    host: int
    host_room: int
    weights: int
    activations: int
    decode: int
    peak: int
    download: int
    seconds: float | None
    placement: Placement
    fits: bool
    remedy: str
    basis: Basis

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary for JSON."""
        return {**asdict(self), "placement": self.placement.model_dump(mode="json")}

    def line(self) -> str:
        """One line for the user, shown before each film."""
        where = f"{placement_text(self.placement)} on {self.device_name}"
        text = f"{where}, {_gib(self.peak)} of {_gib(self.room)} ({self.basis})"
        text += "" if self.seconds is None else f", {_about(self.seconds)}"
        return text if self.fits else f"{text}; it may not fit: {self.remedy}"

    def lines(self) -> list[str]:
        """At most seven lines for the user."""
        found = [
            f"runs on   {self.device_name}, {placement_text(self.placement)}",
            f"memory    {_gib(self.peak)} at most ({self.basis}), {_gib(self.room)} free",
            f"          weights {_gib(self.weights)}, denoising {_gib(self.activations)}, decoding {_gib(self.decode)}",
        ]
        if self.host:
            found.append(f"machine   {_gib(self.host)} of main memory as well, {_gib(self.host_room)} free")
        if self.download:
            found.append(f"download  {self.download / 1e9:.1f} GB")
        found.append(f"time      {'unknown before the first run' if self.seconds is None else _about(self.seconds)}")
        if not self.fits:
            return [*found, f"it does not fit: {self.remedy}"]
        return [*found, f"it fits, but takes {self.time()}" if self.slow() else "it fits"]

    def time(self) -> str:
        """The expected time: "about 3 min", or "time unknown"."""
        return "time unknown" if self.seconds is None else _about(self.seconds)

    def slow(self) -> bool:
        """Whether the film is known to take an hour or more."""
        return self.seconds is not None and self.seconds >= SLOW


def placement_text(placement: Placement) -> str:
    """A placement as text: "bfloat16, 4 frames decoded at once, in tiles"."""
    parts = [placement.dtype + (f" with {placement.quantize} weights" if placement.quantize else "")]
    count = placement.decode_frames
    parts += [f"{count} frame{'s' if count > 1 else ''} decoded at once"] if count < at_once(placement.device) else []
    parts += ["in tiles"] * placement.tiling + ["guidance in two passes"] * placement.slicing
    waits = {"none": [], "model": ["networks offloaded to memory"], "sequential": ["layers offloaded to memory"]}
    return ", ".join(parts + waits[placement.offload])


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
