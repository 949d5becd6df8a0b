"""Polishes existing films: reads and joins files, changes their frames and writes a Recipe of what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from flickbook import formats
from flickbook.conditioning import audio_of
from flickbook.engine.memory import device
from flickbook.engine.polish import (
    Networks,
    PolishOptions,
    Size,
    check_names,
    finished,
    libraries_of,
    parse_polish,
    polished,
    scored,
    size_after,
    weights_of,
)
from flickbook.engine.soundtrack import Tracks, soundtrack, tracks
from flickbook.engine.usage import Meter
from flickbook.errors import MediaError
from flickbook.formats import digest, is_frames
from flickbook.media.clip import Clip, frames_sha256, unheard
from flickbook.media.embedded import carried
from flickbook.media.encode import check_encoder
from flickbook.media.finishing.cut import count_at_rate
from flickbook.media.finishing.join import join
from flickbook.media.read import read_any
from flickbook.media.read_sound import film_sound
from flickbook.media.sound.join import join as join_sounds
from flickbook.media.sound.samples import Sound
from flickbook.media.write import frame_rate
from flickbook.spec import AudioFit, Container, Encoding, Placement, Plan, Recipe, Step, Treatment


def joined(
    paths: Sequence[Path], fade: int = 0, fit: bool = False, heard: bool = True
) -> tuple[np.ndarray, float, Sound | None]:
    """Read films and join them: frames (n, h, w, 3) uint8, the rate of the first, and their sound, if any has one.

    `fit` scales all to the size of the first. Unless `heard`, no sound is read. Raises MediaError for an unreadable
    film, RequestError for sizes that differ and for a fade that is too long.
    """
    films = [(read_any(path)[0], _rate(path)) if is_frames(path) else read_any(path) for path in paths]
    rates = [rate for _, rate in films]
    if len(films) == 1 and not fade:
        frames = films[0][0]
    else:
        frames = join([frames for frames, _ in films], fade=fade, rates=rates, fit=fit)
    sounds = [film_sound(path) if heard else None for path in paths]
    counts = [count_at_rate(len(each), rate, rates[0]) for each, rate in films]
    return frames, rates[0], join_sounds(sounds, counts, fade, rates[0])


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
    sound: Sound | None = None,
    tracks: Tracks | None = None,
) -> Clip:
    """The Clip of a Treatment of `frames` (n, h, w, 3) uint8, the joined films, and of their `sound`.

    Raises what `polished` raises.
    """
    meter = Meter(on_step)
    made, fps, own = polished(frames, plan.fps, plan.polish, networks, meter, sound)
    audio = soundtrack(plan, made, fps, own, tracks or {})
    with_torch = plan.polish.interpolator is not None or plan.polish.upscaler is not None
    recipe = Recipe(
        plan=plan,
        placement=Placement(),
        weights=weights_of(plan.polish),
        frames_sha256=frames_sha256(made),
        audio_sha256=None if audio is None else audio.sha256,
        versions=device.versions(libraries_of(plan.polish)),
        device_name=device.device_name("cpu"),
        # Importing torch takes a second, and without a network it does not affect the result.
        kernels=device.kernels("cpu") if with_torch else {},
    )
    scores, findings = scored(made, fps, plan.polish, prompts=_prompts(plan))
    notes = [*findings, *unheard(plan.container, audio)]
    return Clip(made, fps, recipe, meter.run(scores=scores, notes=notes, inputs=dict(inputs or {})), audio=audio)


def _digest(path: Path) -> str:
    try:
        return digest(path)
    except OSError as error:
        raise MediaError(path, error.strerror or "cannot be read", "check the path") from None


def _encoding(
    size: Size,
    container: Container | None,
    codec: str | None,
    quality: formats.Quality | None,
    pixel_format: str | None,
) -> Encoding:
    """The encoding of a polished film. Raises RequestError for one that does not work here."""
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
    return encoding


def polish(
    file: str | Path,
    *,
    join: Sequence[str | Path] = (),
    fade: int = 0,
    fit: bool = False,
    audio: str | Path | None = None,
    audio_fit: AudioFit | None = None,
    audio_fade: float | None = None,
    container: Container | None = None,
    codec: str | None = None,
    quality: formats.Quality | None = None,
    pixel_format: str | None = None,
    on_step: Callable[[Step], None] | None = None,
    **polish_options: Unpack[PolishOptions],
) -> Clip:
    """Polish a film from a file; returns a Clip whose Recipe records what was done.

    `join` lists files to append, each cross-faded with the one before over `fade` frames; `fit` scales those of another
    size. The sound of the films stays in step with their frames. `audio` is a file with a track that replaces it, or
    "none"; see `Sounding` for `audio_fit` and `audio_fade`. `polish_options` are trim, steady, interpolate, upscale,
    loop and so on, see `flickbook.engine.polish.PolishOptions`. Without a `container` a still is saved as PNG and a
    film as MP4. Raises RequestError, MediaError, WeightsError, MissingExtra.
    """
    check_names(polish, polish_options)
    paths = [Path(each) for each in (file, *join)]
    sources = [_digest(path) for path in paths]
    frames, fps, sound = joined(paths, fade, fit, heard=audio is None)
    requested, networks = parse_polish(len(frames), fps, polish_options)
    count, height, width, _ = frames.shape
    size = size_after(requested, count, height, width, fps)
    encoding = _encoding(size, container, codec, quality, pixel_format)
    for path, before in zip(paths, sources, strict=True):
        if _digest(path) != before:
            raise MediaError(path, "was changed while it was read", "start again")
    track = None if audio is None else str(audio)
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
        **audio_of(track, audio_fit, audio_fade, encoding.container),
        **encoding.model_dump(),
    )
    found = tracks(plan, track)
    inputs = {digest: str(path.absolute()) for digest, path in zip(sources, paths, strict=True)}
    inputs |= {digest: str(Path(track or "").absolute()) for digest in found}
    return treated(plan, frames, networks=networks, inputs=inputs, on_step=on_step, sound=sound, tracks=found)
