"""All that a model of the catalogue needs to run here: pulled, and made safetensors where it is published otherwise."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from flickbook import catalogue, settings
from flickbook.catalogue import Model
from flickbook.errors import ModelNotPulled, OutputError, RequestError, WeightsError
from flickbook.hub import videocrafter
from flickbook.hub.checkpoint import Checkpoint, convert
from flickbook.hub.find import cache_folder, converted, directory, terms
from flickbook.hub.manifest import write_manifest
from flickbook.hub.pull import OnBytes, Pulled, check_room, pull
from flickbook.hub.pull import remaining as remaining_of

logger = logging.getLogger(__name__)
#: What diffusers calls the weights of a part, by what old files are called.
_NAMES = {"diffusion_pytorch_model.bin": "diffusion_pytorch_model", "pytorch_model.bin": "model"}
#: Its tokenizer is open_clip's, which this repository holds in transformers' layout.
_CLIP = "text-to-video-ms-1.7b"


@dataclass(frozen=True)
class _Source:
    """What a model takes of one repository."""

    repo: str
    revision: str
    variant: str = ""
    only: tuple[str, ...] = ()
    weights: bool = True

    def pull(self, on_bytes: OnBytes | None) -> Pulled:
        return pull(self.repo, self.revision, self.variant, self.only, on_bytes, self.weights)

    def remaining(self) -> int:
        return remaining_of(self.repo, self.revision, self.variant, self.only, self.weights)


def _sources(model: Model) -> list[_Source]:
    """The repositories that a model's own files come from, its base aside."""
    revision = "main" if model.commit == "unpinned" else model.commit
    found = [_Source(model.repo, revision, model.variant, model.files)]
    if model.convert in videocrafter.VERSIONS:
        clip = catalogue.find(_CLIP)
        found.append(_Source(clip.repo, clip.commit, only=("tokenizer/*",), weights=False))
    return found


def _is_converted(model: Model) -> bool:
    return bool(model.convert) and (converted(model) / "model_index.json").is_file()


def remaining(model: Model) -> int:
    """Bytes that `fetch` still has to download for a model, its base included.

    Raises what `fetch` raises before the first byte: RequestError for a model without a repository, HubError for a hub
    that cannot be reached and for a disk without room for the download and, where files are converted, their copy.
    """
    if not model.repo:
        raise RequestError("model", model.name, "has its files already", "pull models that name a repository")
    left = remaining(catalogue.find(model.base)) if model.base else 0
    if _is_converted(model):
        return left
    left += sum(source.remaining() for source in _sources(model))
    cache, copies = cache_folder(model.repo), converted(model)
    copied = max(left, int(model.download_gb * 1e9)) if model.convert else 0
    if copied and _disk(cache) != _disk(copies):
        check_room(model.name, copies, copied)
        copied = 0
    check_room(model.name, cache, left + copied)
    return left


def _disk(place: Path) -> int:
    """The device of the file system that a directory is on, or would be."""
    return next(folder for folder in (place, *place.parents) if folder.exists()).stat().st_dev


def available(model: Model) -> Path:
    """The directory of a model's files, which are downloaded now where the setting `pull` is auto.

    Raises ModelNotPulled where it is not, and what `fetch` raises.
    """
    try:
        return directory(model)
    except ModelNotPulled:
        if settings.load().pull != "auto":
            raise
    logger.info("%s is not on this machine and is downloaded: %s", model.name, terms(model))
    return fetch(model)


def fetch(model: Model, on_bytes: OnBytes | None = None) -> Path:
    """Pull a model's files, convert them where needed, and return its directory.

    Raises RequestError for a model that lies in a directory, HubError and WeightsError for what can go wrong.
    """
    if not model.repo or model.base or model.convert:
        remaining(model)  # `pull` sees the room for one repository, and none for the conversion
    if model.base:
        fetch(catalogue.find(model.base), on_bytes)
    if _is_converted(model):
        return converted(model)
    found, *others = [source.pull(on_bytes) for source in _sources(model)]
    if model.convert in videocrafter.VERSIONS:
        checkpoint = found.directory / model.files[0]
        return convert_videocrafter(checkpoint, converted(model), others[0].directory, model.convert)
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
