"""Plans of films of several shots: each shot is resolved by itself, and all must join to one film."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from flickbook import catalogue, formats
from flickbook.conditioning import FILES, audio_of, conditions_of, overlap_of, unread
from flickbook.engine.polish import Networks, PolishOptions, Size, finished, parse_polish, size_after
from flickbook.engine.rows import at
from flickbook.engine.shots.shot_list import ShotList
from flickbook.engine.sources import complete
from flickbook.errors import RequestError
from flickbook.resolution import DRAWN_SEED_BITS, nearest_frames, resolve, speed_of
from flickbook.spec import Plan, PlannedShot, Polish, Request, RequestedShot

#: A finished shot is kept in this encoding, which preserves every pixel.
KEPT: Final = {"container": "mkv", "codec": "ffv1"}
_POLISH: Final = tuple(name for name in PolishOptions.__annotations__ if name != "speed")
#: What is added to the prompt of a model that moves the camera as its prompt says.
_CAMERA: Final = {
    "pan-left": "The camera pans to the left.",
    "pan-right": "The camera pans to the right.",
    "tilt-up": "The camera tilts up.",
    "tilt-down": "The camera tilts down.",
    "zoom-in": "The camera slowly zooms in.",
    "zoom-out": "The camera slowly zooms out.",
}
#: Fields of a Plan that only its shots have.
_OF_SHOTS: Final = (
    *(
        "image",
        "video",
        "last_image",
        "conditions",
        "reference_images",
        "control",
        "control_video",
        "face_video",
        "mask",
    ),
    *("strength", "loras", "latents", "overlap", "latent_upsample", "window", "stride"),
)


@dataclass(frozen=True)
class Shooting:
    """A film of several shots before it is made: its Request with the Requests of its shots, its Plan, and the files
    of the networks that polish it."""

    request: Request
    plan: Plan
    networks: Networks


def shooting(
    shot_list: ShotList,
    common: Mapping[str, Any],
    encoding: Mapping[str, Any] | None = None,
    model_dir: Path | None = None,
) -> Shooting:
    """Resolve a shot list. `common` are options that apply to all shots that do not set them, by their names in
    `shot_list.OPTIONS`, and `encoding` the fields of the film's Encoding.

    A shot without a seed takes the seed of `common` or the defaults plus its place in the list; without one there, a
    seed is drawn. Raises RequestError, which names the shot, and the errors of `resolve`.
    """
    requests, shots, networks = list[RequestedShot](), list[PlannedShot](), dict[str, Path]()
    every, drawn = shot_list.options(common), secrets.randbits(DRAWN_SEED_BITS)
    _check_subjects(shot_list, every)
    for number, options in enumerate(every):
        with at(f"shot {number + 1}"):
            pictures = shot_list.pictures(number + 1)
            if pictures and _reads_references(options):
                options["reference_image"] = [*pictures, *(options.get("reference_image") or ())]
            if shot_list.shots[number].get("seed") is None:
                options["seed"] = options.get("seed", drawn) + number
            begins = options.get("begins", "")
            request, plan, files = _request(options, model_dir)
            if begins and shots and not shot_list.fade:
                continued = _continued(request, plan, shots[-1].plan)
                if continued != request:
                    request, plan = continued, resolve(continued, model_dir, image_follows=True)
            if begins:
                _check_chained(number + 1, request)
            requests.append(RequestedShot(request=request, begins=begins))
            shots.append(PlannedShot(plan=plan, begins=begins))
            networks |= files
    head = requests[0].request
    film = Request.of(
        **{**shot_list.sound, **dict(encoding or {}), "prompt": head.prompt, "model": head.model, "seed": head.seed},
        shots=tuple(requests),
        fade=shot_list.fade,
    )
    return Shooting(film, _film(film, shots), networks)


def _reads_references(options: Mapping[str, Any]) -> bool:
    return "reference_images" in catalogue.find(options["model"]).accepts


def _check_subjects(shot_list: ShotList, every: Sequence[Mapping[str, Any]]) -> None:
    """Refuse pictures of subjects that no model of the film reads."""
    pictures = [picture for number in range(1, len(every) + 1) for picture in shot_list.pictures(number)]
    if pictures and not any(_reads_references(options) for options in every):
        raise unread("reference_images", pictures[0], catalogue.find(every[0]["model"]))


def _continued(request: Request, plan: Plan, before: Plan) -> Request:
    """The Request of a shot that begins from the latents of the shot `before`; unchanged if it cannot.

    Both need one model, revision, size and LoRAs, and no polish, which changes frames but not latents.
    """
    made = ("model", "revision", "width", "height", "fps", "loras")
    alike = all(getattr(plan, name) == getattr(before, name) for name in made)
    guided = any(getattr(request, name) for name in (*FILES, "conditions", "reference_images", "prompt_at"))
    if not alike or guided or not (plan.polish.nothing() and before.polish.nothing()):
        return request
    model = catalogue.find(plan.model)
    overlap = (
        0 if plan.speed == "turbo" or plan.latent_upsample else overlap_of(model, before.num_frames, plan.num_frames)
    )
    if not overlap:
        return request
    return request.model_copy(update={"overlap": overlap, "num_frames": plan.num_frames + overlap - 1})


def _request(options: Mapping[str, Any], model_dir: Path | None) -> tuple[Request, Plan, Networks]:
    """The Request and the Plan of one shot, and the files of the networks that polish it."""
    from flickbook.engine.films import located  # imported late: importing torch takes a second

    if catalogue.find(options["model"]).camera and options.get("camera") in _CAMERA:
        words = f"{str(options['prompt']).strip().rstrip('.')}. {_CAMERA[options['camera']]}"
        options = {**options, "prompt": words, "camera": None}
    polish: Any = {name: options[name] for name in _POLISH if options.get(name) is not None}
    if isinstance(polish.get("steady"), bool):
        polish["steady"] = float(polish["steady"])
    level, played = speed_of(options.get("speed"))
    polish |= {} if played is None else {"speed": played}
    fields = {name: options[name] for name in Request.model_fields if name in options and name != "speed"}
    fields["conditions"] = conditions_of(options.get("condition") or ()) or None
    fields["reference_images"] = tuple(options.get("reference_image") or ()) or None
    request = Request.of(**fields, **KEPT, speed=level, loras=located(options.get("lora") or ()))
    model = catalogue.find(request.model)
    if (seconds := options.get("seconds")) is not None:
        model = model.few_steps() if level == "turbo" else model
        rate, every = request.fps or model.fps.default, model.num_frames.every
        frames = nearest_frames(seconds, request.fps, model)
        if abs(frames / rate - seconds) > every / rate:
            least, most = (each / rate for each in model.num_frames.range)
            limit = f"{model.name} makes {least:.2g} to {most:.3g} seconds at {rate:g} frames per second"
            raise RequestError("seconds", seconds, limit, "split the shot, or choose another length")
        request = request.model_copy(update={"num_frames": frames})
    request = complete(request)
    plan = resolve(request, model_dir, image_follows=options.get("begins") == "previous")
    request = request.model_copy(update={"seed": plan.seed})
    if not polish:
        return request, plan, {}
    parsed, networks = parse_polish(plan.num_frames, plan.fps, polish)
    return request.model_copy(update={"polish": parsed}), plan.model_copy(update={"polish": parsed}), networks


def plan_of(request: Request, model_dir: Path | None = None) -> Plan:
    """The Plan of a Request with shots. Raises RequestError for shots that do not join, naming the shot, and the errors
    of `resolve`.
    """
    shots = list[PlannedShot]()
    for number, each in enumerate(request.shots or (), 1):
        with at(f"shot {number}"):
            if each.begins:
                _check_chained(number, each.request)
            plan = resolve(each.request, model_dir, image_follows=bool(each.begins))
            shots.append(PlannedShot(plan=plan, begins=each.begins))
    return _film(request, shots)


def polished_plan(request: Request, plan: Plan) -> Plan:
    """The Plan of `request`, which differs from that of `plan` in the polish of the whole film only."""
    return _film(request, plan.shots)


def _film(request: Request, shots: Sequence[PlannedShot]) -> Plan:
    """The Plan of a film of these shots. Raises RequestError for shots that do not join."""
    fade = request.fade or 0
    sizes = [finished(shot.plan) for shot in shots]
    _check_sizes(sizes)
    starts = first_frames(shots, sizes, fade)
    size, first = sizes[0], shots[0].plan
    count = starts.pop()
    polish = request.polish or Polish()
    after = size_after(polish, count, size.height, size.width, size.fps)
    encoding = formats.encoding(
        request.container or "mp4",
        request.codec,
        request.quality,
        request.pixel_format,
        num_frames=after.num_frames,
        fps=after.fps,
    )
    film = {"task": "shots", "num_frames": count, "width": size.width, "height": size.height, "fps": size.fps}
    turns = tuple((start, shot.plan.prompt) for start, shot in zip(starts[1:], shots[1:], strict=True))
    film |= {"prompt_at": turns, "shots": tuple(shots), "fade": fade, "polish": polish}
    film |= {name: Plan.model_fields[name].default for name in _OF_SHOTS}
    film |= audio_of(request.audio, request.audio_fit, request.audio_fade, encoding.container)
    return first.model_copy(update=film | encoding.model_dump())


def first_frames(shots: Sequence[PlannedShot], sizes: Sequence[Size], fade: int) -> list[int]:
    """The frame of the film at which each shot begins, and the number of frames of the film.

    A shot that begins from the end of the one before it does not repeat those frames. Raises RequestError for a
    fade that is longer than a shot.
    """
    starts = [0]
    for number, (shot, size) in enumerate(zip(shots, sizes, strict=True), 1):
        length = size.num_frames - repeated(shot, fade)
        joints = (number > 1) + (number < len(shots))
        if length < max(1, joints * fade):
            limit = f"shot {number} has {length} frames, which hold a fade of {length // max(1, joints)}"
            raise RequestError("fade", fade, limit, "choose a shorter fade or a longer shot")
        starts.append(starts[-1] + length - (fade if number < len(shots) else 0))
    return starts


def repeated(shot: PlannedShot, fade: int) -> int:
    """How many frames of a shot repeat the one before it and are left out of the film."""
    return (shot.plan.overlap or 1) if shot.begins and not fade else 0


def _check_sizes(sizes: Sequence[Size]) -> None:
    for number, (before, size) in enumerate(pairwise(sizes), 2):
        if (before.width, before.height) != (size.width, size.height):
            limit = f"is the size of shot {number} and must be {before.width}x{before.height}, that of the first"
            raise RequestError("size", f"{size.width}x{size.height}", limit, "give all shots one size")
        if before.fps != size.fps:
            limit = f"is the frame rate of shot {number} and must be {before.fps:g}, that of the first"
            raise RequestError("fps", size.fps, limit, "give all shots one frame rate")


def _check_chained(number: int, request: Request) -> None:
    """Refuse a shot that cannot begin from a frame of another one."""
    remedy = "leave it out"
    if number == 1:
        raise RequestError("begins", "previous", "there is no shot before the first", remedy)
    if request.image is not None or request.video is not None:
        limit = "cannot be combined with an image or a video to begin from"
        raise RequestError("begins", "previous", limit, "leave one of them out")
    model = catalogue.find(request.model)
    if "image" not in model.inputs and not request.overlap:
        able = [
            each.name for each in catalogue.list_models() if "image" in each.inputs and each.num_frames.range[1] > 1
        ]
        limit = f"{model.name} cannot begin from an image"
        raise RequestError("begins", "previous", limit, f"{remedy}, or choose {', '.join(able)}")
