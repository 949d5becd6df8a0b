"""File names in the diffusers layout."""

from __future__ import annotations

from pathlib import Path

from flickbook.errors import WeightsError

#: Precisions that publishers provide beside or instead of the plain file, best first.
_VARIANTS = ("", ".fp16", ".bf16", ".fp32")


def weights_file(folder: Path, stem: str) -> Path:
    """The safetensors file of a network: `<stem>.safetensors`, or an existing variant.

    Without one the plain name is returned, so that the error on opening names it. Raises WeightsError for a folder
    that contains only a PyTorch checkpoint.
    """
    for variant in _VARIANTS:
        path = folder / f"{stem}{variant}.safetensors"
        if path.is_file():
            return path
    old = sorted(path.name for kind in ("*.bin", "*.ckpt", "*.pt", "*.pth") for path in folder.glob(kind))
    if old:
        reason = f"holds {old[0]} and no safetensors, and no other format is loaded"
        raise WeightsError(folder, reason, f"run `flickbook models convert {folder.parent} --output DIR`")
    return folder / f"{stem}.safetensors"


def index_file(directory: Path) -> Path:
    """The index of a pipeline's directory: model_index.json, or that of a modular pipeline if there is only this."""
    usual, modular = directory / "model_index.json", directory / "modular_model_index.json"
    return modular if modular.is_file() and not usual.is_file() else usual
