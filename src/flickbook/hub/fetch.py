"""All that a model of the catalogue needs to run here: pulled, and made safetensors where it is published otherwise."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.errors import RequestError, WeightsError
from flickbook.hub import videocrafter
from flickbook.hub.checkpoint import Checkpoint, convert
from flickbook.hub.find import converted
from flickbook.hub.pull import OnBytes, pull

#: What diffusers calls the weights of a part, by what old files are called.
_NAMES = {"diffusion_pytorch_model.bin": "diffusion_pytorch_model", "pytorch_model.bin": "model"}
#: Its tokenizer is open_clip's, which this repository holds in transformers' layout.
_CLIP = "text-to-video-ms-1.7b"


def fetch(model: Model, on_bytes: OnBytes | None = None) -> Path:
    """Pull a model's files, convert them where needed, and return its directory.

    Raises RequestError for a model that lies in a directory, HubError and WeightsError for what can go wrong.
    """
    if not model.repo:
        raise RequestError("model", model.name, "has its files already", "pull models that name a repository")
    revision = "main" if model.commit == "unpinned" else model.commit
    found = pull(model.repo, revision, model.variant, model.files, on_bytes)
    if model.convert == "videocrafter2":
        clip = catalogue.find(_CLIP)
        words = pull(clip.repo, clip.commit, only=["tokenizer/*"], on_bytes=on_bytes, weights=False)
        return convert_videocrafter(found.directory / model.files[0], converted(model.name), words.directory)
    if model.convert == "parts":
        return convert_parts(found.directory, converted(model.name))
    return found.directory


def convert_parts(source: Path, out: Path) -> Path:
    """A directory in diffusers' layout whose parts are checkpoints -> the same in safetensors; whole or not at all."""
    if not (source / "model_index.json").is_file():
        raise WeightsError(source, "holds no model_index.json", "name a directory in diffusers' layout")
    draft = _draft(out)
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        place = draft / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.name in _NAMES:
            if not path.with_name(f"{_NAMES[path.name]}.safetensors").exists():
                with Checkpoint(path) as checkpoint:
                    convert(checkpoint, place.with_name(f"{_NAMES[path.name]}.safetensors"))
        else:
            shutil.copyfile(path, place)
    return _finish(draft, out)


def convert_videocrafter(checkpoint: Path, out: Path, words: Path) -> Path:
    """VideoCrafter2's `model.ckpt`, and a directory with its `tokenizer` -> a directory in diffusers' layout."""
    draft = _draft(out)
    videocrafter.convert_directory(checkpoint, draft)
    shutil.copytree(words / "tokenizer", draft / "tokenizer")
    return _finish(draft, out)


def _draft(out: Path) -> Path:
    """An empty directory beside `out`."""
    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def _finish(draft: Path, out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    os.replace(draft, out)
    return out
