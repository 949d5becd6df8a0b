"""Polishes existing films: reads and joins files, changes their frames and writes a Recipe of what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from flickbook import formats
from flickbook.engine.memory import device
from flickbook.engine.polish import (
    Networks,
    PolishOptions,
    check_names,
    finished,
    libraries_of,
    parse_polish,
    polished,
    scored,
    size_after,
    weights_of,
)
from flickbook.engine.usage import Meter
from flickbook.errors import MediaError
from flickbook.formats import digest, is_frames
from flickbook.media.clip import Clip, frames_sha256
from flickbook.media.embedded import carried
from flickbook.media.encode import check_encoder
from flickbook.media.finishing.join import join
from flickbook.media.read import read_any
from flickbook.media.write import frame_rate
from flickbook.spec import Container, Placement, Plan, Recipe, Step, Treatment


def joined(paths: Sequence[Path], fade: int = 0, fit: bool = False) -> tuple[np.ndarray, float]:
    """Read films and join them: frames (n, h, w, 3) uint8 and the rate of the first; `fit` scales all to its size.

    Raises MediaError for an unreadable film, RequestError for sizes that differ and for a fade that is too long.
    """
    films = [(read_any(path)[0], _rate(path)) if is_frames(path) else read_any(path) for path in paths]
    if len(films) == 1 and not fade:
        return films[0]
    rates = [rate for _, rate in films]
    return join([frames for frames, _ in films], fade=fade, rates=rates, fit=fit), rates[0]


def _rate(path: Path) -> float:
    """Frames per second of numbered frames, from their Recipe; 8 without one."""
    origin = _origin(path)
    if origin is None:
        return 8.0
    return finished(origin.plan).fps


def _origin(path: Path) -> Recipe | None:
    try:
        return carried(path)[0]
    except MediaError:  # not made by flickbook
        return None


def _prompts(plan: Treatment) -> list[str]:
    """The prompts of the joined films: those of the first one's Recipe, and one placeholder for each further film."""
    made: Plan | Treatment | None = plan
    while isinstance(made, Treatment):
        made = None if made.origin is None else made.origin.plan
    first = [""] if made is None else [made.prompt, *(text for _, text in made.prompt_at)]
    return first + [f"film {number}" for number in range(2, len(plan.sources) + 1)]


def treated(
    plan: Treatment,
    frames: np.ndarray,
    *,
    networks: Networks | None = None,
    inputs: Mapping[str, str] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Clip:
    """The Clip of a Treatment of `frames` (n, h, w, 3) uint8, the joined films. Raises what `polished` raises."""
    meter = Meter(on_step)
    made, fps = polished(frames, plan.fps, plan.polish, networks, meter)
    with_torch = plan.polish.interpolator is not None or plan.polish.upscaler is not None
    recipe = Recipe(
        plan=plan,
        placement=Placement(),
        weights=weights_of(plan.polish),
        frames_sha256=frames_sha256(made),
        versions=device.versions(libraries_of(plan.polish)),
        device_name=device.device_name("cpu"),
        # Importing torch takes a second, and without a network it does not affect the result.
        kernels=device.kernels("cpu") if with_torch else {},
    )
    scores, findings = scored(made, fps, plan.polish, prompts=_prompts(plan))
    return Clip(made, fps, recipe, meter.run(scores=scores, notes=findings, inputs=dict(inputs or {})))


def _digest(path: Path) -> str:
    try:
        return digest(path)
    except OSError as error:
        raise MediaError(path, error.strerror or "cannot be read", "check the path") from None


def polish(
    file: str | Path,
    *,
    join: Sequence[str | Path] = (),
    fade: int = 0,
    fit: bool = False,
    container: Container | None = None,
    codec: str | None = None,
    quality: formats.Quality | None = None,
    pixel_format: str | None = None,
    on_step: Callable[[Step], None] | None = None,
    **polish_options: Unpack[PolishOptions],
) -> Clip:
    """Polish a film from a file; returns a Clip whose Recipe records what was done.

    `join` lists files to append, each cross-faded with the one before over `fade` frames; `fit` scales those of
    another size. `polish_options` are trim, steady, interpolate, upscale, loop and so on, see
    `flickbook.engine.polish.PolishOptions`. Without a `container` a still is saved as PNG and a film as MP4. Raises
    RequestError, MediaError, WeightsError, MissingExtra.
    """
    check_names(polish, polish_options)
    paths = [Path(each) for each in (file, *join)]
    sources = [_digest(path) for path in paths]
    frames, fps = joined(paths, fade, fit)
    requested, networks = parse_polish(len(frames), fps, polish_options)
    count, height, width, _ = frames.shape
    size = size_after(requested, count, height, width, fps)
    still = size.num_frames == 1
    encoding = formats.encoding(
        container or ("png" if still else "mp4"),
        codec,
        quality,
        pixel_format,
        num_frames=size.num_frames,
        fps=None if still else size.fps,
    )
    if not still:
        check_encoder(encoding, size.height, size.width, frame_rate(size.fps))
    for path, before in zip(paths, sources, strict=True):
        if _digest(path) != before:
            raise MediaError(path, "was changed while it was read", "start again")
    plan = Treatment(
        sources=tuple(sources),
        fade=fade,
        fit=fit,
        polish=requested,
        width=width,
        height=height,
        num_frames=count,
        fps=fps,
        origin=_origin(paths[0]),
        **encoding.model_dump(),
    )
    inputs = {digest: str(path.absolute()) for digest, path in zip(sources, paths, strict=True)}
    return treated(plan, frames, networks=networks, inputs=inputs, on_step=on_step)
