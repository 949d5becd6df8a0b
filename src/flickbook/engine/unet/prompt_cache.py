"""What texts mean to a model, kept on disk: a film whose prompts were read before needs no text encoder in memory.

No text stands in it: the name of a file is a hash of the text's tokens and of all else that decides a bit of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from flickbook import settings
from flickbook.engine.family import Setup
from flickbook.engine.memory import device as place
from flickbook.files import replace_whole, sha256
from flickbook.hub.manifest import HashCache
from flickbook.spec import Placement

_ENCODER: Final = "text_encoder/"
_NAME: Final = "meaning"


class PromptCache:
    """The vectors of texts, one file for each, in a folder of at most `limit` bytes; of 0 bytes nothing is kept.

    What cannot be read or written only costs time. Several processes may share the folder.
    """

    def __init__(self, folder: Path, limit: int, model: Mapping[str, Any]) -> None:
        """`model` says which one reads the texts, for JSON."""
        self._folder, self._limit, self._model = folder, limit, model

    @classmethod
    def of(cls, setup: Setup, weights: Mapping[str, str]) -> Self:
        """Those of a model in this machine's cache directory; `weights` has the SHA-256 of its files."""
        chosen = settings.load()
        encoder = {name: digest for name, digest in weights.items() if name.startswith(_ENCODER)}
        config = sha256(setup.directory / f"{_ENCODER}config.json")
        loras = [(HashCache.usual().sha256(path), weight) for path, weight in setup.loras]
        model = {"weights": encoder, "config": config, "loras": loras}
        return cls(chosen.cache_dir / "texts", chosen.text_cache_mib << 20, model)

    def find(self, ids: Tensor, placement: Placement) -> Tensor | None:
        """The vectors (n, tokens, width) of token ids (n, tokens) as they were kept; None where they are not here."""
        if not self._limit:
            return None
        path = self._path(ids, placement)
        try:
            found = load(path.read_bytes())[_NAME]
            os.utime(path)  # what was used last is let go last
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            return None
        # Libraries add in another order where memory is not aligned as torch aligns its own.
        return found.clone() if found.ndim == 3 and found.shape[:2] == ids.shape else None

    def keep(self, ids: Tensor, placement: Placement, embedding: Tensor) -> None:
        """Keep what the encoder just made of token ids."""
        if not self._limit:
            return
        try:
            # A prompt can be guessed by who sees its vectors.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            vectors = {_NAME: embedding.detach().cpu().contiguous()}
            replace_whole(self._path(ids, placement), lambda draft: save_file(vectors, draft))
            self._tidy()
        except OSError:
            return

    def _path(self, ids: Tensor, placement: Placement) -> Path:
        device = placement.device
        where = [placement.dtype, device, place.device_name(device), place.kernels(device), place.versions()]
        decides = json.dumps([self._model, where, list(ids.shape)], sort_keys=True).encode("ascii")
        return self._folder / f"{hashlib.sha256(decides + ids.numpy().tobytes()).hexdigest()}.safetensors"

    def _tidy(self) -> None:
        """Let go of what was not used for longest, until the rest is within the limit."""
        with os.scandir(self._folder) as entries:
            files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
        over = sum(size for _, size, _ in files) - self._limit
        for _, size, path in files:
            if over <= 0:
                return
            Path(path).unlink(missing_ok=True)
            over -= size
