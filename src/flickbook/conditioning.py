"""Resolution of what guides a film besides its prompt: last frame, frames at places, references, control, mask."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Final

from flickbook import formats
from flickbook.catalogue import Guide, Model, list_models
from flickbook.errors import MediaError, RequestError
from flickbook.files import sha256
from flickbook.keyframes import Condition, Keyframe
from flickbook.spec import NO_AUDIO, AudioFit, Container, Plan, Request

#: The most conditions of a film, and the most reference images.
CONDITIONS: Final = 32
REFERENCES: Final = 8
#: The longest fade of a sound, in seconds.
_LONGEST_FADE: Final = 60.0
#: The fields of a Request that name one file.
FILES: Final = ("image", "video", "last_image", "control_video", "face_video", "mask")
#: The same with the kept latents, which no face reads.
INPUTS: Final = (*FILES, "latents")
_CONDITION: Final = re.compile(r"(.+)@(-?[0-9]{1,6}|[0-9]{1,5}(?:\.[0-9]{1,6})?s)(?::([0-9]*\.?[0-9]+))?", re.DOTALL)
#: The fields that guide a film -> what messages call them.
_NAMES: Final = {
    "last_image": "last frame",
    "conditions": "frames at places",
    "reference_images": "reference images",
    "control_video": "control video",
    "face_video": "face video",
    "mask": "mask",
}


def guides(request: Request, model: Model, num_frames: int, fps: float) -> dict[str, Any]:
    """The fields of a Plan that guide its film besides the prompt, files by SHA-256.

    Raises RequestError for an input that the model does not read, with the models that do, and for conditions outside
    the film; MediaError for a file that cannot be read.
    """
    named: dict[Guide, Any] = {
        "last_image": request.last_image,
        "conditions": request.conditions or None,
        "reference_images": request.reference_images or None,
        "control_video": request.control_video,
        "face_video": request.face_video,
        "mask": request.mask,
    }
    sent = [name for name, value in named.items() if value is not None]
    for name in sent:
        if name not in model.accepts:
            raise unread(name, _shown(named[name]), model, request.speed == "turbo")
    for name in model.needs:
        if name not in sent:
            option = f"add --{name.replace('_', '-')} PATH"
            raise RequestError(name, "", f"{model.name} makes no film without a {_NAMES[name]}", option)
    _check_together(request, model, num_frames)
    conditions = _keyframes(request, model, num_frames, fps)
    references = request.reference_images or ()
    if len(references) > REFERENCES:
        raise RequestError("reference_images", len(references), f"must be at most {REFERENCES}", "send fewer")
    return {
        "last_image": _digest(request.last_image),
        "conditions": conditions,
        "reference_images": tuple(_digest(path) for path in references),
        "control_video": _digest(request.control_video),
        "control": request.control or "",
        "face_video": _digest(request.face_video),
        "mask": _digest(request.mask),
    }


def audio_of(path: str | None, fit: AudioFit | None, fade: float | None, container: Container) -> dict[str, Any]:
    """Return the fields of a `Sounding` record for the track at `path`, "none" for silence, None for the film's own.

    Raises RequestError for a container without sound and for options without a track, MediaError for an unreadable
    file.
    """
    has_track = path is not None and path != NO_AUDIO
    for field, value in (("audio_fit", fit), ("audio_fade", fade)):
        if value is not None and not has_track:
            raise RequestError(field, value, "has no effect without a track", "add a sound file, or leave it out")
    if fade is not None and not (isfinite(fade) and 0 <= fade <= _LONGEST_FADE):
        limit = f"must be 0 to {_LONGEST_FADE:g} seconds"
        raise RequestError("audio_fade", fade, limit, "1 suits most films")
    if path is None or not has_track:
        return {"audio": path or ""}
    if container not in formats.SOUNDING:
        limit = f"{container} files hold no sound"
        raise RequestError(
            "audio", Path(path).name, limit, f"name the film {', '.join(f'.{each}' for each in formats.SOUNDING)}"
        )
    try:
        digest = sha256(path)
    except OSError as error:
        raise MediaError(path, error.strerror or "cannot be read", "check the path of the track") from None
    return {"audio": digest, "audio_fit": fit or "pad", "audio_fade": float(fade or 0)}


def continuation(request: Request, model: Model, num_frames: int, follows: bool) -> dict[str, Any]:
    """The fields of a Plan about the film that it continues: the SHA-256 of its kept latents, and the overlap.

    With `follows` the latents do not exist yet. Raises RequestError for a model that cannot continue from latents, for
    other inputs beside them, and for the overlap; MediaError for a file that cannot be read.
    """
    if request.latents is None and not (follows and request.overlap):
        if request.overlap:
            raise RequestError("overlap", request.overlap, "has no effect without latents", "leave it out")
        return {}
    value = "previous" if request.latents is None else _shown(request.latents)
    if not model.overlap:
        able = ", ".join(each.name for each in list_models() if each.overlap)
        limit = f"{model.name} cannot continue from latents"
        raise RequestError("latents", value, limit, f"begin from an image, or choose a model that can: {able}")
    others = (*FILES, "conditions", "reference_images", "prompt_at")
    if other := next((name for name in others if getattr(request, name)), None):
        raise RequestError(other, value, "cannot be combined with latents to continue from", "leave one of them out")
    overlap, every = model.overlap if request.overlap is None else request.overlap, model.num_frames.every
    most = min(model.overlap, num_frames - every)
    if not every < overlap <= most or (overlap - 1) % every:
        limit = f"must be {every + 1} to {most}" + (f", in steps of {every}" if every > 1 else "")
        raise RequestError("overlap", overlap, limit, "ask for another overlap, or for more frames")
    return {"latents": _digest(request.latents), "overlap": overlap}


def overlap_of(model: Model, before: int, num_frames: int) -> int:
    """The frames that a film shares with the film of `before` frames that it continues, 0 if it cannot.

    The continuation has `num_frames` frames, with the last one of the film before as its first; the model makes
    `overlap - 1` more.
    """
    every = model.num_frames.every
    most = min(model.overlap, before, model.num_frames.range[1] - num_frames + 1)
    overlap = (most - 1) // every * every + 1
    return overlap if overlap > every else 0


def files(plan: Plan) -> list[tuple[str, str]]:
    """The role and the SHA-256 of each input file of a Plan, in the order of `paths`."""
    found = [(name, digest) for name in INPUTS if (digest := getattr(plan, name))]
    found += [("condition", each.image) for each in plan.conditions]
    found += [("reference image", digest) for digest in plan.reference_images]
    found += [("audio", digest) for digest in filter(None, [plan.track()])]
    return found + [file for shot in plan.shots for file in files(shot.plan)]


def paths(request: Request) -> list[str]:
    """The paths of a Request's input files, in the order of `files` of its Plan."""
    return [
        *(path for name in INPUTS if (path := getattr(request, name)) is not None),
        *(each.image for each in request.conditions or ()),
        *(request.reference_images or ()),
        *([] if request.audio in (None, NO_AUDIO) else [request.audio]),
        *(path for shot in request.shots or () for path in paths(shot.request)),
    ]


def conditions_of(texts: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions in "IMAGE@FRAME", "IMAGE@1.5s" and "IMAGE@FRAME:STRENGTH". Raises RequestError."""
    found = []
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise RequestError(
                "condition", text, "must be IMAGE@FRAME", "write for example end.png@24 or end.png@1.5s:0.8"
            )
        image, place, strength = match.groups()
        at: dict[str, Any] = {"time": float(place[:-1])} if place.endswith("s") else {"frame": int(place)}
        found.append(Condition(image=image, strength=1.0 if strength is None else float(strength), **at))
    return tuple(found)


def relocated(request: Request, change: Callable[[str, str], str]) -> dict[str, Any]:
    """The fields of a Request that name its input files, with each path replaced by `change(name, path)`.

    Every file has its own name: a field, condition-0 and reference-0, or shot-1-image for those of a shot.
    """
    single = {name: getattr(request, name) for name in INPUTS}
    found: dict[str, Any] = {name: change(name, path) for name, path in single.items() if path is not None}
    if request.audio is not None and request.audio != NO_AUDIO:
        found["audio"] = change("audio", request.audio)
    if request.conditions is not None:
        found["conditions"] = tuple(
            each.model_copy(update={"image": change(f"condition-{number}", each.image)})
            for number, each in enumerate(request.conditions)
        )
    if request.reference_images is not None:
        found["reference_images"] = tuple(
            change(f"reference-{number}", path) for number, path in enumerate(request.reference_images)
        )
    if request.shots is not None:
        found["shots"] = tuple(
            shot.model_copy(update={"request": moved(shot.request, partial(_of_shot, change, number))})
            for number, shot in enumerate(request.shots, 1)
        )
    return found


def moved(request: Request, change: Callable[[str, str], str]) -> Request:
    """The Request with the paths of all its files replaced, those of its LoRAs too, which are lora-0 and so on."""
    changes = relocated(request, change)
    if request.loras is not None:
        loras = enumerate(request.loras)
        changes["loras"] = tuple((change(f"lora-{number}", path), weight) for number, (path, weight) in loras)
    return request.model_copy(update=changes)


def _of_shot(change: Callable[[str, str], str], number: int, name: str, path: str) -> str:
    return change(f"shot-{number}-{name}", path)


def unread(name: str, value: str, model: Model, turbo: bool = False) -> RequestError:
    """The error for an input that a model does not read; it names those that do."""
    able = [each.name for each in list_models() if name in each.accepts]
    limit = f"{model.name} takes no {_NAMES[name]}" + (" at speed turbo" if turbo else "")
    return RequestError(name, value, limit, f"leave it out, or choose a model that does: {', '.join(able)}")


def _shown(value: Any) -> str:
    """The name of the first file of an input: a message shows no path, because the file may be one of a service."""
    first = value[0] if isinstance(value, tuple) else value
    return Path(first.image if isinstance(first, Condition) else str(first)).name


def _check_together(request: Request, model: Model, num_frames: int) -> None:
    """Refuse inputs that contradict each other. Raises RequestError."""
    placed = request.last_image is not None or bool(request.conditions)
    if placed and request.video is not None:
        name: Guide = "conditions" if request.last_image is None else "last_image"
        limit = "cannot be combined with a video that the film starts from"
        raise RequestError(name, _shown(request.last_image or request.conditions), limit, "leave one of them out")
    if placed and num_frames == 1:
        name = "conditions" if request.last_image is None else "last_image"
        raise RequestError(
            name, _shown(request.last_image or request.conditions), "an image has one frame", "ask for more frames"
        )
    if request.last_image is not None and request.image is None and "conditions" not in model.accepts:
        limit = f"{model.name} needs the first frame too"
        raise RequestError("last_image", _shown(request.last_image), limit, "add --image PATH")
    if request.control and request.control_video is None:
        raise RequestError("control", request.control, "has no effect without a control video", "add --control-video")
    if request.control_video is not None and request.video is not None:
        limit = "cannot be combined with a video that the film starts from"
        raise RequestError("control_video", _shown(request.control_video), limit, "leave one of them out")
    if request.mask is not None and request.video is None:
        raise RequestError("mask", _shown(request.mask), "has no effect without a video", "add --video PATH")
    if request.video is not None and request.mask is None and model.strength is None and "mask" in model.accepts:
        limit = f"{model.name} remakes the part of a video that a mask shows"
        raise RequestError("video", _shown(request.video), limit, "add --mask PATH, or send it with --control-video")


def _keyframes(request: Request, model: Model, num_frames: int, fps: float) -> tuple[Keyframe, ...]:
    """The conditions of a Request at their frames, in the order in which they were sent."""
    sent: Sequence[Condition] = request.conditions or ()
    if len(sent) > CONDITIONS:
        raise RequestError("conditions", len(sent), f"must be at most {CONDITIONS}", "send fewer")
    taken = {0: "image"} if request.image is not None else {}
    if request.last_image is not None:
        taken[num_frames - 1] = "last_image"
    found = []
    # LTX-2 places an image at a latent frame, which is one frame, or `every` of the later ones.
    every = model.num_frames.every if model.pipeline.startswith("LTX2") else 1
    for each in sent:
        frame = _frame(each, num_frames, fps)
        if frame in taken:
            limit = f"frame {frame} has {taken[frame]} too" if taken[frame] != "conditions" else "is sent twice"
            raise RequestError("conditions", frame, limit, "give each frame one image")
        if near := [other for other in taken if -(-other // every) == -(-frame // every)]:
            first = (-(-frame // every) - 1) * every + 1
            limit = (
                f"{model.name} makes frames {first} to {first + every - 1} together, and frame {near[0]} has an image"
            )
            raise RequestError("conditions", frame, limit, "move one of the two, or leave one out")
        if not 0 < each.strength <= 1:
            raise RequestError(
                "conditions", each.strength, "strength must be above 0 and at most 1", "write for example 0.8"
            )
        if each.strength != 1 and "condition_strength" not in model.accepts:
            raise RequestError(
                "conditions", each.strength, f"{model.name} follows conditions exactly", "leave the strength out"
            )
        taken[frame] = "conditions"
        found.append(Keyframe(image=_digest(each.image), frame=frame, strength=float(each.strength)))
    return tuple(found)


def _frame(condition: Condition, num_frames: int, fps: float) -> int:
    """The frame, from 0, of a condition. Raises RequestError."""
    if (condition.frame is None) == (condition.time is None):
        raise RequestError("conditions", _shown((condition,)), "needs a frame or a time", "set one of them")
    if condition.time is not None:
        frame, value, unit = round(condition.time * fps), condition.time, "second"
        limit = f"must be 0 to {(num_frames - 1) / fps:g} seconds"
    else:
        assert condition.frame is not None
        value, unit = condition.frame, "frame"
        frame = num_frames + condition.frame if condition.frame < 0 else condition.frame
        limit = f"must be a frame from 0 to {num_frames - 1}, or -1 for the last one"
    if not 0 <= frame < num_frames or (condition.time is not None and condition.time < 0):
        raise RequestError("conditions", value, limit, f"choose another {unit}, or ask for more frames")
    return frame


def _digest(path: str | None) -> str:
    """The SHA-256 of an input file, "" for none. Raises MediaError."""
    if path is None:
        return ""
    if formats.is_frames(path):
        formats.check_numbers(path)
    try:
        return formats.digest(path)
    except OSError as error:
        raise MediaError(path, error.strerror or "cannot be read", "check the path") from None
