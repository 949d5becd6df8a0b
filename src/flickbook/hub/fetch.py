"""Downloads all files that a model of the catalogue needs, and converts them to safetensors if necessary."""

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
from flickbook.catalogue import LatentUpsampler, Model
from flickbook.errors import HubError, ModelNotPulled, OutputError, RequestError, WeightsError
from flickbook.files import existing
from flickbook.hub import videocrafter
from flickbook.hub.checkpoint import Checkpoint, convert
from flickbook.hub.find import VISION, cache_folder, converted, directory, latent_upsampler, terms
from flickbook.hub.manifest import write_manifest
from flickbook.hub.pull import OnBytes, Pulled, check_room, pull
from flickbook.hub.pull import remaining as remaining_of

logger = logging.getLogger(__name__)
#: Names of weight files in old repositories -> names in diffusers.
_NAMES = {"diffusion_pytorch_model.bin": "diffusion_pytorch_model", "pytorch_model.bin": "model"}
#: VideoCrafter uses open_clip's tokenizer, which this repository has in the transformers layout.
_CLIP = "text-to-video-ms-1.7b"


@dataclass(frozen=True)
class _Source:
    """The files that a model needs from one repository."""

    repo: str
    revision: str
    variant: str = ""
    only: tuple[str, ...] = ()
    weights: bool = True
    optional: bool = False  # the model makes films without it

    def pull(self, on_bytes: OnBytes | None) -> Pulled | None:
        try:
            return pull(self.repo, self.revision, self.variant, self.only, on_bytes, self.weights)
        except HubError as error:
            if not self.optional:
                raise
            logger.warning("pulled without %s: %s", ", ".join(self.only), error)
            return None

    def remaining(self) -> int:
        try:
            return remaining_of(self.repo, self.revision, self.variant, self.only, self.weights)
        except HubError:
            if not self.optional:
                raise
            return 0


def _sources(model: Model) -> list[_Source]:
    """The repositories of a model's own files, without those of its base."""
    revision = "main" if model.commit == "unpinned" else model.commit
    found = [_Source(model.repo, revision, model.variant, model.files)]
    only = tuple(f"{folder}/*" for folder in VISION)
    found += [_Source(repo, commit, only=only) for repo, commit in model.beside.items()]
    if (upsampler := model.latent_upsampler) is not None:
        found.append(_upsampler_source(model, upsampler))
    if model.convert in videocrafter.VERSIONS:
        clip = catalogue.find(_CLIP)
        found.append(_Source(clip.repo, clip.commit, only=("tokenizer/*",), weights=False))
    return found


def _upsampler_source(model: Model, upsampler: LatentUpsampler) -> _Source:
    repo, commit = (upsampler.repo, upsampler.commit) if upsampler.repo else (model.repo, model.commit)
    commit = "main" if commit == "unpinned" else commit
    return _Source(repo, commit, only=(f"{upsampler.folder}/*",), optional=True)


def available_upsampler(model: Model) -> Path:
    """The directory of a model's latent upsampler, which is downloaded if missing and the setting `pull` is auto.

    Raises HubError if it is not there.
    """
    place = latent_upsampler(model)
    if place is None and model.repo and model.latent_upsampler is not None and settings.load().pull == "auto":
        _upsampler_source(model, model.latent_upsampler).pull(None)
        place = latent_upsampler(model)
    if place is None:
        remedy = f"run `flickbook models pull {model.name}`, or leave out the latent upsampling"
        raise HubError(model.name, "its latent upsampler is not on this machine", remedy)
    return place


def _is_converted(model: Model) -> bool:
    return bool(model.convert) and (converted(model) / "model_index.json").is_file()


def remaining(model: Model) -> int:
    """Bytes that `fetch` still has to download for a model, including its base.

    Raises the errors that `fetch` raises before the first byte: RequestError for a model without a repository;
    HubError if the hub is unreachable, or if the disk has no room for the download and, if files are converted,
    their copy.
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
    """The file system's device of a directory, which may not exist yet."""
    return existing(place).stat().st_dev


def available(model: Model) -> Path:
    """The directory of a model's files, which are downloaded if missing and the setting `pull` is auto.

    Raises ModelNotPulled if the setting differs, and the errors of `fetch`.
    """
    try:
        return directory(model)
    except ModelNotPulled:
        if settings.load().pull != "auto":
            raise
    logger.info("%s is not on this machine and is downloaded: %s", model.name, terms(model))
    return fetch(model)


def fetch(model: Model, on_bytes: OnBytes | None = None) -> Path:
    """Downloads a model's files, converts them if needed, and returns its directory.

    Raises RequestError for a model from a local directory, HubError and WeightsError for other failures.
    """
    if not model.repo or model.base or model.convert:
        remaining(model)  # `pull` checks the room for one repository, but not for the conversion
    if model.base:
        fetch(catalogue.find(model.base), on_bytes)
    if _is_converted(model):
        return converted(model)
    found, *others = [pulled for source in _sources(model) if (pulled := source.pull(on_bytes)) is not None]
    if model.convert in videocrafter.VERSIONS:
        checkpoint = found.directory / model.files[0]
        return convert_videocrafter(checkpoint, converted(model), others[0].directory, model.convert)
    if model.convert == "parts":
        return convert_parts(found.directory, converted(model))
    return found.directory


def convert_parts(source: Path, out: Path) -> Path:
    """Converts a diffusers directory with PyTorch checkpoints to safetensors. The result appears atomically.

    An existing model at `out` is replaced. Raises WeightsError for an invalid `source` or a refused checkpoint,
    OutputError if `out` is not a model or the disk is full.
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
    """Converts VideoCrafter's `model.ckpt` and a directory with its `tokenizer` to a diffusers directory.

    `version` is one of `videocrafter.VERSIONS`.
    """
    with _whole(out, checkpoint) as draft:
        videocrafter.convert_directory(checkpoint, draft, version)
        shutil.copytree(words / "tokenizer", draft / "tokenizer")
    return out


@contextmanager
def _whole(out: Path, source: Path) -> Iterator[Path]:
    """An empty directory that replaces `out`, with a manifest, if the block succeeds, and is deleted if not."""
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
