"""A Request for a variation of a film: what its recipe says, with some of it changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flickbook import catalogue
from flickbook.engine.evidence import gather
from flickbook.engine.polish import Networks
from flickbook.errors import MediaError, RequestError
from flickbook.media.carried import carried
from flickbook.spec import Plan, Request


def varied(
    path: Path, changes: Mapping[str, Any], given: Iterable[Path] = (), keep_format: bool = True
) -> tuple[Request, Networks]:
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
    own = dict(_asked(plan, keep_format))
    if changes.get("model", plan.model) != plan.model:
        kept = ("prompt", "seed", "prompt_at", "image", "video", "polish", "container", "codec", "quality")
        own = {name: value for name, value in own.items() if name in (*kept, "pixel_format")}
        own |= {"loras": None}
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


def _asked(plan: Plan, keep_format: bool) -> Iterable[tuple[str, Any]]:
    """The fields of the Request that gives this Plan; inputs by their hash."""
    model = catalogue.find(plan.model)
    for name in Request.model_fields:
        if name == "loras":
            yield name, plan.loras or None
        elif name in ("container", "codec", "quality", "pixel_format"):
            value = getattr(plan, name)
            yield name, value if keep_format and value != "" else None
        elif name == "prompt_at":
            yield name, plan.prompt_at or None
        elif name == "negative_prompt" and plan.negative_prompt == model.negative_prompt:
            yield name, None
        else:
            value = getattr(plan, name)
            yield name, None if value == "" and name != "prompt" else value
