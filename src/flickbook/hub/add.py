"""Adds a user's own model to the catalogue, based on the most similar known model."""

from __future__ import annotations

import re
from pathlib import Path

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.errors import RequestError, WeightsError
from flickbook.hub.layout import index_file
from flickbook.hub.manifest import read_config
from flickbook.hub.videocrafter import VERSIONS

#: Pipeline class of a directory -> the known model with matching limits, unless the user names another.
_LIKE = {"TextToVideoSDPipeline": "text-to-video-ms-1.7b", "VideoToVideoSDPipeline": "zeroscope-v2-xl"}


def describe(name: str, source: str, like: str = "") -> Model:
    """The catalogue entry of a repository (owner/name) or of a directory in the diffusers layout.

    Raises RequestError for a source that is neither, WeightsError for a directory without model_index.json or with
    an unsupported pipeline, ModelNotFound for `like`.
    """
    place = Path(source).expanduser()
    if place.is_dir():
        kind = str(read_config(index_file(place)).get("_class_name"))
        near = next((m.name for m in catalogue.list_models() if kind and m.pipeline == kind), _LIKE.get(kind, ""))
        if not like and not near:
            remedy = f"add it with --like and one of {', '.join(m.name for m in catalogue.list_models())}"
            raise WeightsError(index_file(place), f"names the pipeline {kind}", remedy)
        changes: dict[str, object] = {"directory": str(place.resolve()), "repo": "", "convert": "", "files": ()}
        changes |= {"base": "", "lora": (), "transformer": "", "beside": {}}
    elif re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source):
        changes = {"directory": "", "repo": source}
        near = "text-to-video-ms-1.7b"
    else:
        raise RequestError("source", source, "is neither a directory nor owner/name", "correct it")
    base = catalogue.find(like or near)
    version = next((name for name, each in VERSIONS.items() if each.repo == source), "")
    if changes["repo"] and version:
        changes |= {"convert": version, "files": ("model.ckpt",)}
    elif not changes["repo"] or base.convert in VERSIONS:
        changes |= {"convert": "", "files": ()}
    facts = {"title": name, "summary": f"added here, like {base.name}", "licence": "unknown", "commercial": "unclear"}
    unknown = {"commit": "unpinned", "seen": {}, "gated": False, "download_gb": 0.0}
    # A repository without safetensors is converted when it is pulled, as its base is.
    return base.model_copy(update={"name": name, **facts, **unknown, **changes})
