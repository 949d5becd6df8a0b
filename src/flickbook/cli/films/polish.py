"""`flickbook polish`: joins and polishes existing films, and writes a new file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.films import output_path
from flickbook.cli.films.making import tell, words
from flickbook.cli.progress import ProgressLine
from flickbook.errors import RequestError


@options.taking(polish=options.POLISH, audio=options.AUDIO, encoding=options.ENCODING)
def polish(
    file: Annotated[Path, typer.Argument(help="A film, numbered frames (shot-%04d.png), or an image.")],
    polish: Any,
    audio: Any,
    encoding: Any,
    join: Annotated[list[Path] | None, typer.Option(help="Film to append; repeatable.")] = None,
    fade: Annotated[int, typer.Option(help="Frames of the cross-fade between joined films.")] = 0,
    fit: Annotated[bool, typer.Option("--fit", help="Scale joined films to the size of the first.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Also write a contact sheet, .png.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; film-polished.mp4 if unset.")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Polish an existing film and print the path of the new file."""
    from flickbook import formats, settings
    from flickbook.engine.treat import polish as polished
    from flickbook.spec import Step

    console.start(settings.load().log_level)
    path = file.with_name(f"{_stem(file)}-polished{_suffix(file)}") if output is None else output
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise RequestError("sheet", sheet.name, "must end in .png", "name it sheet.png")
    container = formats.container_of(path)
    stills = container not in formats.FILMS
    output_path.check([path], 1 if stills else 2, [] if sheet is None else [sheet], overwrite)
    quality = None if encoding["quality"] is None else formats.quality_of(encoding["quality"])
    polish_options = {**words(polish), **audio, **encoding, "quality": quality}
    output_path.announce([path])
    with ProgressLine(phases={"polish": 0.9, "write": 0.1}) as progress:
        clip = polished(
            file, join=join or [], fade=fade, fit=fit, container=container, on_step=progress, **polish_options
        )
        began = time.perf_counter()
        clip.save(path, overwrite=overwrite)
        if sheet is not None:
            _write_sheet(clip.frames, path.name, sheet, overwrite)
        progress(Step("write", 1, 1, time.perf_counter() - began))
    tell([console.made(path, clip.recipe, clip.run)], as_json)


def _stem(file: Path) -> str:
    return "film" if "%" in file.stem else file.stem


def _suffix(file: Path) -> str:
    """Return the suffix of `file`, or a usual one for numbered frames and for formats that cannot be written."""
    from flickbook import formats
    from flickbook.media.untrusted.sniff import opened

    if formats.is_frames(file):
        return ".mp4"
    if file.suffix.lower() in formats.SUFFIXES:
        return file.suffix
    with opened(file, None, "either") as (_, form, _):
        return ".mp4" if form.moves else ".png"


def _write_sheet(frames: Any, name: str, path: Path, overwrite: bool) -> None:
    import numpy as np

    from flickbook.media.sheet import contact_sheet
    from flickbook.media.write import write_png

    picture = contact_sheet([frames], [name])
    write_png(path, np.asarray(picture), overwrite=overwrite)
