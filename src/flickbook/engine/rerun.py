"""A Request for a variation of a film: what its recipe says, with some of it changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from flickbook import catalogue
from flickbook.engine.evidence import gather
from flickbook.engine.polish import Networks, size_after
from flickbook.engine.sequence import plan_of
from flickbook.errors import MediaError, RequestError
from flickbook.media.carried import carried
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request


def varied(path: Path, changes: Mapping[str, Any], given: Iterable[Path] = ()) -> tuple[Request, Networks]:
    """The Request of a film like that at `path`, each of `changes` that is not None instead of its own, and the files
    of the networks that polished it.

    With another model, what the old one was asked of size, steps and scheduler is left to the new one's choice. Raises
    MediaError for a file without a recipe and for an input that is not found, RequestError for a film that no model
    made.
    """
    recipe, run = carried(path)
    plan = recipe.plan
    if not isinstance(plan, Plan):
        remedy = "run `flickbook polish` again, or rerun its source"
        raise RequestError("file", path.name, "was polished from a file, not made by a model", remedy)
    if plan.task == "sequence":
        remedy = "run `flickbook sequence` with the prompts that `flickbook inspect` shows"
        raise RequestError("file", path.name, "is a sequence, which has several prompts", remedy)
    changes = {name: value for name, value in changes.items() if value is not None}
    other_model = changes.get("model", plan.model) != plan.model
    own = asked_of(plan, other_model)
    if changes.get("container", plan.container) != plan.container or "codec" in changes:
        own |= {"codec": None, "quality": None, "pixel_format": None}
    if "quality" in changes:
        own["pixel_format"] = None
    replaced = {name for name in ("image", "video") if name in changes}
    if replaced:
        # A film begins from one thing.
        own |= {"image": None, "video": None, "strength": None}
    used = plan.model_copy(update={name: "" for name in ("image", "video") if own.get(name) is None})
    used = used.model_copy(update={} if own.get("loras") else {"loras": ()})
    evidence = gather(used, path, given, None if run is None else run.inputs)
    if evidence.missing:
        raise MediaError(path, evidence.missing[0], "or leave it out with a change of your own")
    found = evidence.found
    if own.get("loras"):
        own["loras"] = tuple((str(found[lora.sha256]), lora.weight) for lora in plan.loras)
    own |= {name: str(found[own[name]]) for name in ("image", "video") if own.get(name)}
    return Request.of(**{**own, **changes}), found


def sound(plan: Plan, found: Networks, model_dir: Path | None = None) -> None:
    """Whether a Plan is one that its model would be given, before it is run: a recipe is a stranger's text.

    `found` are its inputs. Raises RequestError for the first field that is not what `resolve` makes of it.
    """
    asked = asked_of(plan)
    asked |= {name: str(found[asked[name]]) for name in ("image", "video") if asked[name]}
    asked["loras"] = tuple((str(found[lora.sha256]), lora.weight) for lora in plan.loras) or None
    # What a file is written as was checked when it was read.
    asked |= {"container": None, "codec": None, "quality": None, "pixel_format": None}
    if plan.task == "sequence":
        prompts = [plan.prompt, *(text for _, text in plan.prompt_at)]
        each, left = divmod(plan.num_frames, len(prompts))
        if left:
            raise RequestError("num_frames", plan.num_frames, f"is no multiple of {len(prompts)} prompts", _NOT_OURS)
        drift, feedback = plan.drift or 0.0, plan.feedback or 0.0
        request = Request.of(**asked)
        made = plan_of(prompts, request, frames_per=each, drift=drift, feedback=feedback, model_dir=model_dir)
    else:
        made = resolve(Request.of(**asked), model_dir)
    for name in set(Plan.model_fields) - {*_FORMAT, "schema_version", "revision"}:
        if getattr(made, name) != getattr(plan, name):
            limit = f"{plan.model} would be given {getattr(made, name)}"
            raise RequestError(name, getattr(plan, name), limit, _NOT_OURS)
    size_after(plan.polish, plan.num_frames, plan.height, plan.width, plan.fps)


_NOT_OURS: Final = "its recipe is not one that Flickbook wrote"
#: What another model can be asked for as well.
_ANY_MODEL: Final = ("prompt", "seed", "prompt_at", "image", "video", "polish")
_FORMAT: Final = ("container", "codec", "quality", "pixel_format")


def asked_of(plan: Plan, other_model: bool = False) -> dict[str, Any]:
    """The fields of the Request that gives this Plan, inputs by their hash; for another model those that it shares.

    Raises ModelNotFound for a model that is not in the catalogue, unless it is another that is asked for.
    """
    named = {name: getattr(plan, name) for name in Request.model_fields}
    named |= {"loras": plan.loras or None, "prompt_at": plan.prompt_at or None}
    named |= {name: None for name in named if named[name] == "" and name not in ("prompt", "negative_prompt")}
    if other_model:
        return {name: value for name, value in named.items() if name in (*_ANY_MODEL, *_FORMAT)}
    if plan.negative_prompt == catalogue.find(plan.model).negative_prompt:
        named["negative_prompt"] = None
    return named
