"""Builds a Request for a variation of a film: the fields of its Recipe, some of them changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from flickbook import catalogue
from flickbook.conditioning import FILES, INPUTS
from flickbook.engine.polish import Networks, finished
from flickbook.engine.reproduction.file_search import gather
from flickbook.engine.rows import at
from flickbook.engine.sequences.sequence import plan_of, prompts_of
from flickbook.engine.shots.plan import plan_of as shots_plan_of
from flickbook.errors import MediaError, RequestError
from flickbook.keyframes import Condition
from flickbook.media.embedded import carried
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request, RequestedShot

#: Fields that latents have in common with the film that continues them.
_OF_LATENTS: Final = {"width", "height", "loras"}


def varied(path: Path, changes: Mapping[str, Any], files: Iterable[Path] = ()) -> tuple[Request, Networks]:
    """The Request of a film like that at `path`, with each of `changes` that is not None, and the files of the networks
    that polished it.

    With another model, size, steps and scheduler are left to that model's defaults; to turbo or back, steps, guidance
    and scheduler are. Raises MediaError for a file
    without a Recipe and for an input that is not found, RequestError for a film that was not made by a model.
    """
    recipe, run = carried(path)
    plan = recipe.plan
    if not isinstance(plan, Plan):
        remedy = "run `flickbook polish` again, or rerun its source"
        raise RequestError("file", path.name, "was polished from a file, not made by a model", remedy)
    if plan.task == "sequence":
        remedy = "run `flickbook sequence` with the prompts that `flickbook inspect` shows"
        raise RequestError("file", path.name, "is a sequence, which has several prompts", remedy)
    if plan.task == "shots":
        remedy = "run `flickbook generate` with its shot list"
        raise RequestError("file", path.name, "is a film of several shots", remedy)
    changes = {name: value for name, value in changes.items() if value is not None}
    other_model = changes.get("model", plan.model) != plan.model
    # Inputs that are replaced need not be found. A film starts from an image or a video, never both.
    dropped: dict[str, Any] = {"loras": ()} if other_model or "loras" in changes else {}
    if {"image", "video"} & set(changes) or (plan.latents and (other_model or _OF_LATENTS & set(changes))):
        dropped |= {"image": "", "video": "", "latents": "", "overlap": 0, "strength": None, "mask": ""}
    empty = {
        "last_image": "",
        "conditions": (),
        "reference_images": (),
        "control_video": "",
        "face_video": "",
        "mask": "",
    }
    dropped |= {name: value for name, value in empty.items() if name in changes}
    if "audio" in changes:
        dropped |= {"audio": "", "audio_fit": "pad", "audio_fade": 0.0}
    plan = plan.model_copy(update=dropped)
    evidence = gather(plan, path, files, None if run is None else run.inputs)
    if evidence.missing:
        raise MediaError(path, evidence.missing[0], "or pass your own value instead")
    fields = request_fields(plan, evidence.found, other_model)
    if changes.get("container", plan.container) != plan.container or "codec" in changes:
        fields |= {"codec": None, "quality": None, "pixel_format": None}
    if changes.get("preset") is not None:
        fields |= dict.fromkeys(catalogue.Recommended.model_fields)
    if (changes.get("speed", plan.speed) == "turbo") != (plan.speed == "turbo"):
        # Few-step weights have steps and guidance of their own.
        fields |= dict.fromkeys(("num_inference_steps", "guidance_scale", "scheduler", "negative_prompt"))
    if "quality" in changes:
        fields["pixel_format"] = None
    return Request.of(**{**fields, **changes}), evidence.found


def checked_request(
    plan: Plan, found: Networks, model_dir: Path | None = None, *, image_follows: bool = False
) -> Request:
    """The Request that resolves to a Plan. A Recipe is untrusted, so it is checked before it is run.

    `found` are its inputs; `image_follows` is that of `resolve`. Raises RequestError for the first field that `resolve`
    would set otherwise.
    """
    # The encoding was checked when the Recipe was read.
    fields = request_fields(plan, found) | dict.fromkeys(_FORMAT)
    if plan.task == "sequence":
        prompts = prompts_of(plan)
        each, left = divmod(plan.num_frames, len(prompts))
        if left:
            raise RequestError(
                "num_frames", plan.num_frames, f"is not a multiple of the {len(prompts)} prompts", _NOT_OURS
            )
        request, moves = Request.of(**fields), {"drift": plan.drift or 0.0, "feedback": plan.feedback or 0.0}
        made = plan_of(prompts, request, frames_per=each, **moves, model_dir=model_dir)
    elif plan.task == "shots":
        request = _request_of_shots(plan, found, model_dir)
        made = shots_plan_of(request, model_dir).model_copy(update={"shots": plan.shots})
    else:
        request = Request.of(**fields)
        made = resolve(request, model_dir, image_follows=image_follows)
    # A negative prompt may have words that earlier versions did not remove.
    free = (*_FORMAT, "schema_version", "revision", "negative_prompt")
    for name in Plan.model_fields:
        if name not in free and getattr(made, name) != getattr(plan, name):
            limit = f"{plan.model} would be given {getattr(made, name)}"
            raise RequestError(name, getattr(plan, name), limit, _NOT_OURS)
    finished(plan)
    return request


def _request_of_shots(plan: Plan, found: Networks, model_dir: Path | None) -> Request:
    """The Request of a Plan with shots, each of which is checked."""
    shots = []
    for number, shot in enumerate(plan.shots, 1):
        with at(f"shot {number}"):
            request = checked_request(shot.plan, found, model_dir, image_follows=bool(shot.begins))
            shots.append(RequestedShot(request=request, begins=shot.begins))
    first = plan.shots[0].plan
    named = {"prompt": first.prompt, "model": first.model, "polish": plan.polish, "fade": plan.fade}
    return Request.of(**named, **_sound(plan, found), shots=tuple(shots))


def _sound(plan: Plan, found: Networks) -> dict[str, Any]:
    """The fields of a Request for the sound of a Plan. Without a track, the last two must not be named."""
    if not plan.track():
        return {"audio": plan.audio or None, "audio_fit": None, "audio_fade": None}
    return {"audio": str(found[plan.track()]), "audio_fit": plan.audio_fit, "audio_fade": plan.audio_fade}


_NOT_OURS: Final = "its recipe was not written by Flickbook"
#: Fields that also apply to another model.
_ANY_MODEL: Final = (
    *("prompt", "seed", "prompt_at", "speed", "polish", "conditions", "reference_images", "control"),
    *("audio", "audio_fit", "audio_fade"),
)
_FORMAT: Final = ("container", "codec", "quality", "pixel_format")


def request_fields(plan: Plan, found: Networks, other_model: bool = False) -> dict[str, Any]:
    """The fields of the Request that resolves to this Plan, with inputs from `found`; for another model only the shared
    ones.

    Raises ModelNotFound for a model that is not in the catalogue, unless another one is requested.
    """
    named = {name: getattr(plan, name) for name in Request.model_fields if name not in ("preset", "shots", "fade")}
    named |= {name: None for name in named if named[name] == "" and name not in ("prompt", "negative_prompt")}
    named |= {name: str(found[named[name]]) for name in INPUTS if named[name]}
    named["overlap"] = plan.overlap or None
    named["conditions"] = tuple(
        Condition(image=str(found[each.image]), frame=each.frame, strength=each.strength) for each in plan.conditions
    )
    named["reference_images"] = tuple(str(found[digest]) for digest in plan.reference_images)
    named |= {name: named[name] or None for name in ("conditions", "reference_images")}
    named |= _sound(plan, found)
    named["loras"] = tuple((str(found[lora.sha256]), lora.weight) for lora in plan.loras) or None
    named["prompt_at"] = plan.prompt_at or None
    if other_model:
        return {name: value for name, value in named.items() if name in (*_ANY_MODEL, *FILES, *_FORMAT)}
    if plan.negative_prompt == catalogue.find(plan.model).negative_prompt:
        named["negative_prompt"] = None
    return named
