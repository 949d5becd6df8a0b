"""Polishing: parses the polish options and applies them to finished frames, in a fixed order."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypedDict, get_args, get_type_hints

import numpy as np

from flickbook.errors import RequestError, WeightsError
from flickbook.files import sha256
from flickbook.media.finishing import cut
from flickbook.media.sound import mix, resample
from flickbook.media.sound.samples import Sound
from flickbook.media.write import MAX_FPS, MIN_FPS
from flickbook.resolution import speed_of
from flickbook.spec import Camera, Loop, Network, Plan, Polish, Step, Treatment

#: SHA-256 -> the file of a network that polishes frames.
Networks = Mapping[str, Path]

#: A film is held in memory as a whole; this limit is 20 s of 1080p at 24 frames per second.
LIMIT_BYTES: Final = 3 << 30
_FACTORS: Final = {"interpolate": 8, "upscale": 4}
#: The operations by the field that enables them, in the order in which they run.
_OPERATIONS: Final = ("trim", "steady", "interpolate", "upscale", "camera", "loop", "speed", "rate", "text")


class PolishOptions(TypedDict, total=False):
    """Options that change a film's frames after generation, as the user writes them. None leaves frames unchanged.

    `trim` is "1.5:3" in seconds or "8:24f" in frames; `steady` is a strength, 0 to 1; `interpolate` and `upscale` are
    "3x" or 3. `interpolator` is the path of a RIFE, `upscaler` that of a Real-ESRGAN, both safetensors; `upscaler` may
    also be "lanczos". `camera` is a move, as "pan-left". `loop` is "pingpong", "blend" or "cut". `speed` plays the same
    frames faster or slower (for a film that is still to be made, it can also set how it is made). `rate` sets frames
    per second and keeps the duration. `text` is drawn over the film.
    """

    trim: str | None
    steady: float | None
    interpolate: str | int | None
    interpolator: str | None
    upscale: str | int | None
    upscaler: str | None
    camera: str | None
    loop: str | None
    speed: str | float | None
    rate: float | None
    text: str | None


def check_names(
    function: Callable[..., object], polish_options: Mapping[str, object], kind: type = PolishOptions
) -> None:
    """Check that each keyword is an option of `kind`. Raises TypeError, as Python does for an unknown argument."""
    offered = get_type_hints(kind)
    for name in polish_options:
        if name not in offered:
            from difflib import get_close_matches  # imported late: only for the hint

            parameters = inspect.signature(function).parameters.values()
            known = [
                *(each.name for each in parameters if each.kind is not each.VAR_KEYWORD),
                *offered,
            ]
            near = [each for each in known if name in each] or get_close_matches(name, known, 1, 0.75)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}")


def parse_polish(num_frames: int, fps: float, polish_options: PolishOptions) -> tuple[Polish, Networks]:
    """Parse the polish options of a film of `num_frames` frames at `fps` to a Polish and the files of its networks.

    Raises RequestError for the first option out of range, WeightsError for a network's file.
    """
    speed = _played(polish_options.get("speed"))
    _check(polish_options, fps, speed)
    networks: dict[str, Path] = {}
    trim, factor = polish_options.get("trim"), _factor("upscale", polish_options.get("upscale"))
    rate, upscaler = polish_options.get("rate"), polish_options.get("upscaler")
    polish = Polish(
        trim=None if trim is None else cut.span(trim, fps, num_frames),
        steady=float(polish_options.get("steady") or 0),
        interpolate=_factor("interpolate", polish_options.get("interpolate")),
        interpolator=_network(polish_options.get("interpolator"), networks),
        upscale=factor,
        upscaler=None if factor == 1 or upscaler == "lanczos" else _network(upscaler, networks),
        camera=polish_options.get("camera") or "",  # type: ignore[arg-type]
        loop=polish_options.get("loop") or "",  # type: ignore[arg-type]
        speed=1.0 if speed is None else float(speed),
        rate=None if rate is None else float(rate),
        text=polish_options.get("text") or "",
    )
    return polish, networks


def _played(speed: str | float | None) -> float | None:
    level, played = speed_of(speed)
    if level is not None:
        raise RequestError(
            "speed",
            speed,
            "selects how a film is generated, and these frames exist already",
            "write a playback speed, as 2",
        )
    return played


def _check(polish_options: PolishOptions, fps: float, speed: float | None) -> None:
    for network, work in (("interpolator", "interpolate"), ("upscaler", "upscale")):
        if polish_options.get(network) is not None and polish_options.get(work) is None:
            limit = f"has no effect without --{work}"
            raise RequestError(network, polish_options.get(network), limit, f"add --{work} 2x")
    loop, steady, text = polish_options.get("loop"), polish_options.get("steady") or 0, polish_options.get("text")
    for name, word, known in (("camera", polish_options.get("camera"), Camera), ("loop", loop, Loop)):
        if word not in (None, *get_args(known)):
            raise RequestError(name, word, "unknown", f"choose {', '.join(filter(None, get_args(known)))}")
    if not 0 <= steady <= 1:
        raise RequestError("steady", steady, "must be 0 to 1", "1 removes all flicker that it finds")
    rate = polish_options.get("rate")
    for name, requested, value in (("rate", rate, rate), ("speed", speed, None if speed is None else fps * speed)):
        if value is not None and not MIN_FPS <= value <= MAX_FPS:
            limit = f"makes {value:g} frames per second, must be {MIN_FPS:g} to {MAX_FPS:g}"
            raise RequestError(name, requested, limit, "choose a value nearer to 1")
    if text:
        from flickbook.media.finishing.caption import MAX_CHARACTERS

        if len(text) > MAX_CHARACTERS:
            raise RequestError("text", text, f"must be at most {MAX_CHARACTERS} characters", "shorten it")


def _factor(field: str, value: str | int | None) -> int:
    if value is None:
        return 1
    match = re.fullmatch(r"([0-9]{1,2})[xX×]?", str(value).strip())
    most = _FACTORS[field]
    if match is None or not 2 <= int(match[1]) <= most:
        raise RequestError(field, value, f"must be a whole factor, 2x to {most}x", "write for example 2x")
    return int(match[1])


def _network(path: str | None, networks: dict[str, Path]) -> Network | None:
    """The network in a file; adds the file to `networks`."""
    if path is None:
        return None
    try:
        digest = sha256(path)
    except OSError as error:
        raise WeightsError(path, error.strerror or "cannot be read", "name a safetensors file") from None
    networks[digest] = Path(path)
    return Network(name=Path(path).stem, sha256=digest)


def weights_of(polish: Polish) -> dict[str, str]:
    """SHA-256 of each network that a Polish uses, by its role and name."""
    named = {"interpolator": polish.interpolator, "upscaler": polish.upscaler}
    return {f"{what}/{network.name}": network.sha256 for what, network in named.items() if network is not None}


def libraries_of(polish: Polish) -> tuple[str, ...]:
    """Libraries that can affect the pixels of this Polish, in addition to those that every Recipe lists."""
    return ("opencv-python-headless",) if polish.interpolate > 1 and polish.interpolator is None else ()


class Size(NamedTuple):
    """The size of a film: frames (for a loop, the maximum), height and width in pixels, frames per second."""

    num_frames: int
    height: int
    width: int
    fps: float


def finished(plan: Plan | Treatment) -> Size:
    """The Size of a Plan's film as saved. Raises RequestError as `size_after` does."""
    return size_after(plan.polish, plan.num_frames, plan.height, plan.width, plan.fps)


def size_after(polish: Polish, num_frames: int, height: int, width: int, fps: float) -> Size:
    """The Size of a film after polishing.

    Raises RequestError if that is more than a film may hold, or if a polishing step needs more frames.
    """
    if polish.trim is not None:
        start, end = polish.trim
        if not start < end <= num_frames:
            raise RequestError(
                "trim", f"{start}:{end}f", f"must lie within the {num_frames} frames", "choose another part"
            )
        num_frames = end - start
    if num_frames == 1:
        still = {"interpolate": polish.interpolate > 1, "loop": bool(polish.loop), "steady": polish.steady > 0}
        still["camera"] = bool(polish.camera)
        for name, enabled in still.items():
            if enabled:
                raise RequestError(name, num_frames, "needs 2 frames or more", "leave it out for an image")
    num_frames, fps = num_frames * polish.interpolate, fps * polish.interpolate
    num_frames = 2 * num_frames if polish.loop == "pingpong" else num_frames
    fps *= polish.speed
    if polish.rate is not None:
        num_frames, fps = max(1, round(num_frames * polish.rate / fps)), polish.rate
    height, width = height * polish.upscale, width * polish.upscale
    size = 3 * num_frames * height * width
    if size > LIMIT_BYTES:
        limit = f"makes {num_frames} frames of {width}x{height}, {size / 2**30:.1f} GiB, more than {LIMIT_BYTES >> 30}"
        raise RequestError("upscale", polish.upscale, limit, "trim the film, or use a smaller factor")
    if not MIN_FPS <= fps <= MAX_FPS:
        limit = f"makes {fps:g} frames per second, must be {MIN_FPS:g} to {MAX_FPS:g}"
        raise RequestError("rate", fps, limit, "ask for another rate or speed, or for less interpolation")
    return Size(num_frames, height, width, fps)


def polished(
    frames: np.ndarray,
    fps: float,
    polish: Polish,
    networks: Networks | None = None,
    on_step: Callable[[Step], None] | None = None,
    sound: Sound | None = None,
) -> tuple[np.ndarray, float, Sound | None]:
    """Apply a Polish: the new frames (n, h, w, 3) uint8, the frame rate, and the sound in step with them.

    `sound` begins with the frames; the new one is as long as the new film. `on_step` is called after each operation.
    Raises RequestError, WeightsError for a network, MissingExtra.
    """
    count, height, width, _ = frames.shape
    size_after(polish, count, height, width, fps)
    work = [name for name in _OPERATIONS if getattr(polish, name) != getattr(Polish(), name)]
    began = time.perf_counter()
    for number, name in enumerate(work, 1):
        frames, fps, sound = _operated(name, frames, fps, polish, networks or {}, sound)
        if on_step is not None:
            on_step(Step("polish", number, len(work), time.perf_counter() - began))
    return frames, fps, None if sound is None else mix.lasting(sound, len(frames), fps)


def scored(
    frames: np.ndarray,
    fps: float,
    polish: Polish,
    seams: Sequence[int] = (),
    prompts: Sequence[str] = (),
    pictured: bool = False,
) -> tuple[dict[str, float], list[str]]:
    """The scores of polished frames, and a note for each fault that the `prompts` do not ask for.

    A `pictured` film begins with a picture, whose colours may be others than the prompt's. Repeated frames that
    interpolation adds at the end do not count as a fault.
    """
    from flickbook.media.metrics.expected import expected
    from flickbook.media.metrics.quality import faults, scores

    shown = frames if polish.loop or polish.rate is not None else frames[: len(frames) - _held(polish)]
    found = scores(shown, fps, seams=seams)
    return found, faults(found, len(shown), expected(prompts, shown[0] if pictured else None))


def _held(polish: Polish) -> int:
    """How many copies of the last frame interpolation adds: no frame follows to interpolate towards."""
    return polish.interpolate - 1


def _operated(
    name: str, frames: np.ndarray, fps: float, polish: Polish, networks: Networks, sound: Sound | None
) -> tuple[np.ndarray, float, Sound | None]:
    """Apply one operation, named by its field: the new frames, frame rate and sound.

    Operations that keep the duration keep the sound.
    """
    # Each module is imported late: together they are slow to load, and most films need none of them.
    match name:
        case "trim":
            assert polish.trim is not None
            heard = sound and mix.during(sound, *polish.trim, fps)
            return cut.trim(frames, *polish.trim), fps, heard
        case "steady":
            from flickbook.media.finishing.steady import steady

            return steady(frames, polish.steady), fps, sound
        case "interpolate":
            from flickbook.media.finishing.interpolate import interpolate

            model = _file("interpolator", polish.interpolator, networks)
            return interpolate(frames, polish.interpolate, model=model), fps * polish.interpolate, sound
        case "upscale":
            from flickbook.media.finishing.upscale import upscale

            return upscale(frames, polish.upscale, model=_file("upscaler", polish.upscaler, networks)), fps, sound
        case "camera":
            from flickbook.media.finishing.camera import camera

            return camera(frames, polish.camera), fps, sound
        case "loop":
            from flickbook.media.finishing import loop

            assert polish.loop
            # The repeated last frames keep the duration; in a loop they would look like a stop.
            frames = frames[: len(frames) - _held(polish)]
            part = loop.part_of(frames, polish.loop)
            heard = sound and mix.looped(sound, polish.loop, part, len(frames), fps)
            return loop.looped(frames, polish.loop, part), fps, heard
        case "speed":
            return frames, fps * polish.speed, sound and resample.played(sound, polish.speed)
        case "rate":
            assert polish.rate is not None
            return cut.at_rate(frames, fps, polish.rate), polish.rate, sound
    from flickbook.media.finishing.caption import caption

    return caption(frames, polish.text), fps, sound


def _file(field: str, network: Network | None, networks: Networks) -> Path | None:
    """The file of a network, with its hash verified. Raises RequestError, WeightsError."""
    if network is None:
        return None
    path = networks.get(network.sha256)
    if path is None:
        limit = f"its file with SHA-256 {network.sha256} is not on this machine"
        raise RequestError(field, network.name, limit, "name the file")
    if (found := sha256(path)) != network.sha256:
        raise WeightsError(path, f"has SHA-256 {found} instead of {network.sha256}", "download it again")
    return path
