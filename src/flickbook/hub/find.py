"""Finds the files of models on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flickbook import catalogue, settings
from flickbook.catalogue import Model
from flickbook.errors import HubError, ModelNotFound, ModelNotPulled, WeightsError
from flickbook.hub.layout import index_file

#: The folders of a repository beside a model's own: the image encoder and what prepares its images.
VISION: Final = ("image_encoder", "feature_extractor")
#: The prefix of a latent upsampler's files in a recipe, whatever its folder is called.
UPSAMPLER: Final = "latent_upsampler"


def directory(model: Model) -> Path:
    """The directory of a model's files.

    Raises ModelNotPulled with the command that downloads them, WeightsError for a directory that is not a model.
    """
    if model.base and found(catalogue.find(model.base)) is None:
        raise _absent(model)
    beside(model)
    # An adapter or a LoRA alone is not a pipeline and has no model_index.json.
    added = (*model.files, "config.json")[0]
    if model.directory:
        place = model.path()
        # The package's own models have a manifest; other directories have the index.
        path = place / "manifest.json"
        if Path(model.directory).is_absolute():
            path = place / added if model.base else index_file(place)
        if not path.is_file():
            raise WeightsError(path, "no such file", "install the package again, or correct the directory")
        return place
    here = converted(model) if model.convert else cached(model.repo, model.commit)
    if here is not None and (here / added if model.base else index_file(here)).is_file():
        return here
    raise _absent(model)


def beside(model: Model) -> dict[str, Path]:
    """The directories of the repositories beside a model's own, by their names. Raises ModelNotPulled."""
    places = {repo: cached(repo, commit) for repo, commit in model.beside.items()}
    found = {repo: place for repo, place in places.items() if place is not None and (place / VISION[0]).is_dir()}
    if len(found) < len(places):
        raise _absent(model)
    return found


def latent_upsampler(model: Model) -> Path | None:
    """The directory of a model's latent upsampler; None if it is not on this machine, or if there is none."""
    upsampler = model.latent_upsampler
    if upsampler is None:
        return None
    if not upsampler.repo and model.directory:
        place: Path | None = model.path()
    else:
        place = cached(upsampler.repo or model.repo, upsampler.commit if upsampler.repo else model.commit)
    folder = None if place is None else place / upsampler.folder
    return folder if folder is not None and (folder / "config.json").is_file() else None


def _absent(model: Model) -> ModelNotPulled:
    return ModelNotPulled(model.name, terms(model), f"run `flickbook models pull {model.name}`")


def terms(model: Model) -> str:
    """The download size of a model, including its base if that is missing, and its licence.

    For example "3.67 GB, CC BY-NC 4.0".
    """
    sizes = [model.download_gb]
    sizes += [base.download_gb for base in catalogue.bases(model) if found(base) is None]
    size = f"{sum(sizes):g} GB" if all(sizes) else "size unknown"
    return f"{size}, {'licence unknown' if model.licence in ('', 'unknown') else model.licence}"


def found(model: Model) -> Path | None:
    """The directory of a model's files; None if they are missing or incomplete."""
    try:
        return directory(model)
    except (HubError, ModelNotFound, WeightsError):
        return None


def preview_file(model: Model) -> Path | None:
    """The file of a model's preview decoder, in `previews` of the data directory; None if it is not there."""
    path = settings.load().data_dir / "previews" / model.preview
    return path if model.preview and path.is_file() else None


def to_pull(name: str) -> bool:
    """Whether a model of the catalogue must be downloaded and can be."""
    try:
        model = catalogue.find(name)
    except ModelNotFound:
        return False
    return bool(model.repo) and found(model) is None


def converted(model: Model) -> Path:
    """The directory for converted safetensors of a model that is published as PyTorch checkpoints."""
    return settings.load().data_dir / "models" / model.repo.replace("/", "--") / model.commit


def cache_folder(repo: str) -> Path:
    """A repository's folder in the Hugging Face cache. Raises ImportError without huggingface_hub."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def cached(repo: str, commit: str) -> Path | None:
    """A repository's snapshot in the Hugging Face cache, or None; "unpinned" is the last pulled commit."""
    try:
        folder = cache_folder(repo)
    except ImportError:
        return None
    if commit == "unpinned":
        try:
            commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
        except OSError:
            return None
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None
