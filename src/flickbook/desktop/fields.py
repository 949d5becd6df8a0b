"""The fields of the form: their labels, and how their texts become values of a Request."""

from __future__ import annotations

from typing import Final

from flickbook.desktop.sources.source import Offer
from flickbook.errors import RequestError

#: The labels of the fields; errors use them too.
LABELS: Final = {
    "prompt": "Prompt",
    "model": "Model",
    "num_frames": "Frames",
    "num_inference_steps": "Steps",
    "size": "Size",
    "width": "Width",
    "height": "Height",
    "seed": "Seed",
    "guidance_scale": "Guidance",
    "fps": "Frames per second",
    "scheduler": "Scheduler",
    "speed": "Speed",
    "negative_prompt": "Negative prompt",
    "image": "First frame",
    "last_image": "Last frame",
    "reference_images": "Reference pictures",
}
_SHOWN: Final = 160  # characters of the recommended settings, whose negative prompts may be long
_WHOLE: Final = ("num_frames", "num_inference_steps", "seed")


def shortened(text: str) -> str:
    """The recommended settings in a few lines."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def title(offer: Offer) -> str:
    """A model in the list, with the size of its download if it is not installed."""
    if offer.here:
        return offer.model.title
    size = f"{offer.model.download_gb:g} GB " if offer.model.download_gb else ""
    return f"{offer.model.title}  ({size}download)"


def number(name: str, text: str) -> int | float:
    """Parses a number. Raises RequestError."""
    try:
        return int(text) if name in _WHOLE else float(text.replace(",", "."))
    except ValueError:
        what = "must be a whole number" if name in _WHOLE else "must be a number"
        raise RequestError(name, text, what, "write for example 16") from None


def size(text: str) -> dict[str, int]:
    """Parses width and height from "128 × 128". Raises RequestError."""
    parts = text.lower().replace("×", "x").split("x")
    try:
        width, height = (int(part) for part in parts)
    except ValueError:
        raise RequestError("size", text, "must be width × height in pixels", "write for example 128 x 128") from None
    return {"width": width, "height": height}
