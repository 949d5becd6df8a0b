"""What a film would take of a machine, in figures and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from flickbook.engine.memory.device import at_once
from flickbook.spec import Placement

Basis = Literal["measured", "computed", "believed"]
GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """What a film takes on the device that would run it; `room` is what is free there. On a GPU `host` is what its
    process takes of the machine's memory, and `host_room` is what is free of that; elsewhere both are 0.

    `activations` and `decode` are held beside `weights`, one after the other; `peak` is the most at once. `download` is
    yet to be fetched. `seconds` count from the start of the command; None where no run is known to compare with.
    `remedy` names what would fit, "" if this does. `basis`: the peak was measured in a run of this shape, is computed
    by a formula that was measured on like networks, or is only believed.
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
        """For JSON."""
        return {**asdict(self), "placement": self.placement.model_dump(mode="json")}

    def line(self) -> str:
        """For people, before every film: one line."""
        said = f"{spoken(self.placement)} on {self.device_name}, {_gib(self.peak)} of {_gib(self.room)} ({self.basis})"
        said += "" if self.seconds is None else f", {_about(self.seconds)}"
        return said if self.fits else f"{said}; it may not fit: {self.remedy}"

    def lines(self) -> list[str]:
        """For people: seven lines at most."""
        found = [
            f"runs on   {self.device_name}, {spoken(self.placement)}",
            f"memory    {_gib(self.peak)} at most ({self.basis}), {_gib(self.room)} free",
            f"          weights {_gib(self.weights)}, denoising {_gib(self.activations)}, decoding {_gib(self.decode)}",
        ]
        if self.host:
            found.append(f"machine   {_gib(self.host)} of its memory too, {_gib(self.host_room)} free")
        if self.download:
            found.append(f"download  {self.download / 1e9:.1f} GB")
        found.append(f"time      {'unknown before a first run' if self.seconds is None else _about(self.seconds)}")
        return [*found, "it fits" if self.fits else f"it does not fit: {self.remedy}"]


def spoken(placement: Placement) -> str:
    """A placement in words: "bfloat16, 4 frames decoded at once, in tiles"."""
    said = [placement.dtype + (f" with {placement.quantize} weights" if placement.quantize else "")]
    count = placement.decode_frames
    said += [f"{count} frame{'s' if count > 1 else ''} decoded at once"] if count < at_once(placement.device) else []
    said += ["in tiles"] * placement.tiling + ["guidance in halves"] * placement.slicing
    waits = {"none": [], "model": ["networks wait in memory"], "sequential": ["layers wait in memory"]}
    return ", ".join(said + waits[placement.offload])


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
