"""All that a model of the catalogue needs to run here: pulled, and made safetensors where it is published otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.errors import OutputError, RequestError, WeightsError
from flickbook.hub import videocrafter
from flickbook.hub.checkpoint import Checkpoint, convert
from flickbook.hub.find import converted
from flickbook.hub.manifest import write_manifest
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
    if model.base:
        fetch(catalogue.find(model.base), on_bytes)
    revision = "main" if model.commit == "unpinned" else model.commit
    if model.convert and (converted(model) / "model_index.json").is_file():
        return converted(model)
    found = pull(model.repo, revision, model.variant, model.files, on_bytes)
    if model.convert in videocrafter.VERSIONS:
        clip = catalogue.find(_CLIP)
        words = pull(clip.repo, clip.commit, only=["tokenizer/*"], on_bytes=on_bytes, weights=False)
        checkpoint = found.directory / model.files[0]
        return convert_videocrafter(checkpoint, converted(model), words.directory, model.convert)
    if model.convert == "parts":
        return convert_parts(found.directory, converted(model))
    return found.directory


def convert_parts(source: Path, out: Path) -> Path:
    """A directory in diffusers' layout whose parts are checkpoints -> the same in safetensors; whole or not at all.

    An `out` that is a model is replaced. Raises WeightsError for a `source` that is none or a checkpoint that is
    refused, OutputError for an `out` that is anything else, and for a disk without room.
    """
    if not (source / "model_index.json").is_file():
        raise WeightsError(source, "holds no model_index.json", "name a directory in diffusers' layout")
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise OutputError(out, "holds what is to be converted", "name another directory")
    with _whole(out, source) as draft:
        for path in sorted(each for each in source.rglob("*") if each.is_file()):
            place = draft / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.name in _NAMES:
                if not path.with_name(f"{_NAMES[path.name]}.safetensors").exists():
                    with Checkpoint(path) as checkpoint:
                        convert(checkpoint, place.with_name(f"{_NAMES[path.name]}.safetensors"))
            else:
                shutil.copyfile(path, place)
    return out


def convert_videocrafter(checkpoint: Path, out: Path, words: Path, version: str) -> Path:
    """VideoCrafter's `model.ckpt`, and a directory with its `tokenizer` -> a directory in diffusers' layout.

    `version` is one of `videocrafter.VERSIONS`.
    """
    with _whole(out, checkpoint) as draft:
        videocrafter.convert_directory(checkpoint, draft, version)
        shutil.copytree(words / "tokenizer", draft / "tokenizer")
    return out


@contextmanager
def _whole(out: Path, source: Path) -> Iterator[Path]:
    """An empty directory that becomes `out`, with its manifest, when the block ends well, and is deleted when not."""
    if out.exists() and not (out / "model_index.json").is_file():
        raise OutputError(out, "exists and is no model", "name another directory")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        size = sum(
            each.stat().st_size for each in (source.rglob("*") if source.is_dir() else [source]) if each.is_file()
        )
        free = shutil.disk_usage(out.parent).free
        if size > free:
            reason = f"needs {size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
            raise OutputError(out, reason, "free some space, or set FLICKBOOK_DATA_DIR to a larger disk")
        draft = Path(mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            yield draft
            write_manifest(draft)
            draft.chmod(0o755)
            if out.exists():
                shutil.rmtree(out)
            os.replace(draft, out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or "cannot be written"
        raise OutputError(out, reason, "free some space, or name another directory") from error
