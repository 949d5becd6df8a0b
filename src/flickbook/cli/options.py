"""The options that several commands take, each named and explained once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from flickbook.errors import RequestError

Model = Annotated[str | None, typer.Option(help="Which model; `flickbook models list`.")]
ModelDir = Annotated[Path | None, typer.Option(help="Where its files are, if not where it was pulled to.")]
NegativePrompt = Annotated[str | None, typer.Option(help="What the film should not show.")]
NumFrames = Annotated[int | None, typer.Option(help="Frames of the film; 1 makes a still.")]
NumInferenceSteps = Annotated[int | None, typer.Option(help="Denoising steps: more is slower and finer.")]
GuidanceScale = Annotated[float | None, typer.Option(help="How closely to follow the prompt.")]
Fps = Annotated[float | None, typer.Option(help="Frames a second.")]
Seed = Annotated[int | None, typer.Option(help="The same seed makes the same film; drawn if unset.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels.")]
Scheduler = Annotated[str | None, typer.Option(help="How to denoise; `flickbook models show`.")]
PromptAt = Annotated[
    list[str] | None, typer.Option(metavar="FRAME:PROMPT", help="What the film shows from a frame on; repeatable.")
]
Image = Annotated[Path | None, typer.Option(help="A picture that the film begins from.")]
Video = Annotated[Path | None, typer.Option(help="A video that the film is made from.")]
Strength = Annotated[float | None, typer.Option(help="How much of it is made anew, 0 to 1.")]
Lora = Annotated[
    list[str] | None, typer.Option(metavar="PATH_OR_REPO[:WEIGHT]", help="An addition to the weights; repeatable.")
]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16, fp16, fp8 or int8.")]
Count = Annotated[int, typer.Option(help="How many films, with seeds counting up.")]
Output = Annotated[Path | None, typer.Option(help="Where to: .mp4, or .png for a still.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def size_of(size: str | None) -> dict[str, int]:
    """Width and height of "128x128", by their names."""
    if size is None:
        return {}
    match = re.fullmatch(r"([0-9]{1,6})[xX×]([0-9]{1,6})", size.strip())
    if match is None:
        raise RequestError("size", size, "must be WIDTHxHEIGHT in pixels", "write for example 128x128")
    return {"width": int(match[1]), "height": int(match[2])}
