"""The prompt cache: prompt embeddings on disk, so that a film with known prompts does not need the text encoder.

No prompt is stored as text: a file's name is a hash of the prompt's tokens and of all else that affects its embedding.
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
    """Prompt embeddings, one file each, in a folder of at most `limit` bytes; 0 turns the cache off.

    Read and write errors only cost time. Several processes may share the folder.
    """

    def __init__(self, folder: Path, limit: int, model: Mapping[str, Any]) -> None:
        """`model` identifies the text encoder, as values for JSON."""
        self._folder, self._limit, self._model = folder, limit, model

    @classmethod
    def of(cls, setup: Setup, weights: Mapping[str, str]) -> Self:
        """The cache for a model, in this machine's cache directory; `weights` has the SHA-256 of the model's files."""
        chosen = settings.load()
        encoder = {name: digest for name, digest in weights.items() if name.startswith(_ENCODER)}
        config = sha256(setup.directory / f"{_ENCODER}config.json")
        loras = [(HashCache.usual().sha256(path), weight) for path, weight in setup.loras]
        model = {"weights": encoder, "config": config, "loras": loras}
        return cls(chosen.cache_dir / "texts", chosen.text_cache_mib << 20, model)

    def find(self, ids: Tensor, placement: Placement) -> Tensor | None:
        """The cached embedding (n, tokens, width) of token ids (n, tokens), or None."""
        if not self._limit:
            return None
        path = self._path(ids, placement)
        try:
            found = load(path.read_bytes())[_NAME]
            os.utime(path)  # the least recently used file is deleted first
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            return None
        # Cloned for torch's memory alignment: with another one, kernels add in another order.
        return found.clone() if found.ndim == 3 and found.shape[:2] == ids.shape else None

    def keep(self, ids: Tensor, placement: Placement, embedding: Tensor) -> None:
        """Store the embedding of token ids."""
        if not self._limit:
            return
        try:
            # Private: a prompt can be guessed from its embedding.
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
        """Delete the least recently used files until the folder is within the limit."""
        with os.scandir(self._folder) as entries:
            files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
        over = sum(size for _, size, _ in files) - self._limit
        for _, size, path in files:
            if over <= 0:
                return
            Path(path).unlink(missing_ok=True)
            over -= size
