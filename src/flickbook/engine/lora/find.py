"""Locates LoRAs: turns "PATH_OR_REPO[:weight]" into a file on this machine and a weight. Needs no torch."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from flickbook.errors import HubError, RequestError, WeightsError
from flickbook.hub.find import cached
from flickbook.hub.pull import listing, pull

_SUFFIX = ".safetensors"
#: The usual file names of diffusers and PEFT.
_USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
#: PEFT's settings file, with the scale of a LoRA.
_SETTINGS = "adapter_config.json"
_LARGEST = 10.0
_LISTED = 8
_NUMBER = re.compile(r"(?P<place>.+):(?P<weight>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)", re.DOTALL)
_NO_NUMBER = re.compile(r".+\.safetensors:(?P<weight>[^/\\]*)", re.DOTALL)
_OWNER = re.compile(r"[A-Za-z0-9][\w.-]*")


def locate(text: str) -> tuple[Path, float]:
    """The file and the weight (-10 to 10, default 1) of "PATH_OR_REPO[:weight]".

    A directory must contain one LoRA; owner/name or owner/name/file.safetensors is downloaded from the hub. Only a
    number after the last colon is a weight. Raises RequestError for a weight out of range and for a place with no LoRA
    or several, WeightsError for a file that is missing or not safetensors, HubError for a repository.
    """
    place, weight = _parted(text)
    path = os.path.expanduser(place)
    if os.path.isdir(path):
        return Path(path) / _one_of(text, [each.name for each in Path(path).iterdir() if each.is_file()]), weight
    if not os.path.lexists(path) and _is_repository(place):
        return _pulled(text, place), weight
    if not path.endswith(_SUFFIX):
        known = os.path.lexists(path)
        reason = "not a .safetensors file" if known else "no such file, and no repository (owner/name)"
        raise WeightsError(path, reason, "convert it to safetensors" if known else "check the name of the LoRA")
    if not os.path.isfile(path):
        raise WeightsError(path, "no such file", "check the path of the LoRA")
    return Path(path), weight


def _parted(text: str) -> tuple[str, float]:
    """Split the text into place and weight."""
    if not text.strip() or "\0" in text:
        raise RequestError("lora", text, "is not a path", "write PATH, owner/name or PATH:0.8")
    match = _NUMBER.fullmatch(text)
    if match is not None and (os.path.lexists(os.path.expanduser(match["place"])) or not os.path.lexists(text)):
        weight = float(match["weight"])
        if not -_LARGEST <= weight <= _LARGEST:
            limit = f"its weight must be {-_LARGEST:g} to {_LARGEST:g}"
            raise RequestError("lora", match["weight"], limit, "1 is the weight it was trained for")
        return match["place"], weight
    if (wrong := _NO_NUMBER.fullmatch(text)) is not None and not os.path.lexists(text):
        raise RequestError("lora", wrong["weight"], "is not a number", "write the weight as in PATH:0.8")
    return text, 1.0


def _is_repository(place: str) -> bool:
    """Whether a place that is not on this machine has the form owner/name or owner/name/file."""
    parts = place.split("/")
    if len(parts) < 2 or any(part in ("", ".", "..") for part in parts) or os.path.isdir(parts[0]):
        return False
    named = all(_OWNER.fullmatch(part) for part in parts[:2])
    return named and not (len(parts) == 2 and place.endswith(_SUFFIX))


def _one_of(text: str, names: Sequence[str], inside: str = "") -> str:
    """The only LoRA among these files; with `inside`, that file or the only one in that folder."""
    safe = sorted(name for name in names if name.endswith(_SUFFIX) and not PurePosixPath(name).name.startswith("."))
    if inside in safe:
        return inside
    if inside:
        safe = [name for name in safe if name.startswith(f"{inside}/")]
    depth = min((name.count("/") for name in safe), default=0)
    # Intermediate checkpoints of a training are in subfolders of the published LoRA.
    near = [name for name in safe if name.count("/") == depth]
    for usual in _USUAL:
        near = [name for name in near if PurePosixPath(name).name == usual] or near
    if len(near) == 1:
        return near[0]
    if not near:
        raise RequestError(
            "lora",
            text,
            "holds no .safetensors file",
            "no other format is loaded; choose another repository or directory",
        )
    shown = ", ".join(near[:_LISTED]) + (f" and {len(near) - _LISTED} more" if len(near) > _LISTED else "")
    raise RequestError("lora", text, f"holds {len(near)} LoRAs: {shown}", "name one of these files")


def _pulled(text: str, place: str) -> Path:
    """Download a LoRA from a repository into the hub's cache; without network access, use the cached one."""
    owner, name, *rest = place.split("/")
    repo, inside = f"{owner}/{name}", "/".join(rest)
    here = cached(repo, "unpinned")
    if here is not None and inside and (here / inside).is_file():
        return here / inside
    try:
        _, files = listing(repo, "main")
    except HubError:
        if here is None:
            raise
        return here / _one_of(text, [each.relative_to(here).as_posix() for each in here.rglob("*")], inside)
    chosen = _one_of(text, [file.name for file in files], inside)
    beside = PurePosixPath(chosen).with_name(_SETTINGS)
    return pull(repo, only=[glob.escape(chosen), glob.escape(str(beside))]).directory / chosen
