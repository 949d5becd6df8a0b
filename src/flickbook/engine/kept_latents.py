"""Kept latents: the last latents of a finished film, from which a later film continues without encoding pixels.

The file is safetensors with one tensor, `latents` (channels, latent frames, h, w) float16, as the model denoised them.
Its metadata is one entry of JSON, so that equal films have files that are equal byte for byte: what made the latents,
the SHA-256 of the film's frames, and that of the latents.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from flickbook.errors import MediaError
from flickbook.files import open_regular
from flickbook.spec import Plan

#: The most bytes of a file; five latent frames of a 720p film need 5 MB.
_MOST: Final = 256 << 20
_ENTRY: Final = "kept"
_REMEDY: Final = "begin from an image instead"


@dataclass(frozen=True, eq=False)
class KeptLatents:
    """The `latents` (channels, latent frames, h, w) float16 of the end of a film, what `made` them as JSON, and the
    SHA-256 of the film's frames."""

    latents: np.ndarray
    made: str
    frames_sha256: str

    @classmethod
    def of(cls, plan: Plan, latents: np.ndarray, frames_sha256: str) -> Self:
        """The last latents of a Plan's film."""
        return cls(np.ascontiguousarray(latents, np.float16), _made(plan), frames_sha256)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The latents that `to_bytes` wrote. Raises ValueError for anything else, and for damaged data."""
        try:
            latents = load(data)["latents"]
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            kept = json.loads(header["__metadata__"][_ENTRY])
            made, frames_sha256, digest = kept["made"], kept["frames_sha256"], kept["latents_sha256"]
        except (SafetensorError, LookupError, TypeError, RecursionError) as error:
            raise ValueError(f"holds no latents ({error})") from None
        if latents.ndim != 4 or latents.dtype != np.float16 or _digest(latents) != digest:
            raise ValueError("is damaged, or holds latents of another layout")
        return cls(latents, str(made), str(frames_sha256))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file. Raises MediaError."""
        try:
            with open_regular(Path(path)) as file:
                data = file.read(_MOST + 1)
            if len(data) > _MOST:
                raise ValueError(f"is larger than {_MOST >> 20} MiB")
            return cls.from_bytes(data)
        except OSError as error:
            raise MediaError(path, error.strerror or "cannot be read", _REMEDY) from None
        except ValueError as error:
            raise MediaError(path, str(error), _REMEDY) from None

    def to_bytes(self) -> bytes:
        """The content of the file; equal for equal latents."""
        kept = {"made": self.made, "frames_sha256": self.frames_sha256, "latents_sha256": _digest(self.latents)}
        return save({"latents": self.latents}, {_ENTRY: json.dumps(kept, sort_keys=True)})

    def fit(self, plan: Plan) -> bool:
        """Whether a Plan's film can continue from them: same model, revision, size and LoRAs."""
        return self.made == _made(plan)


def _made(plan: Plan) -> str:
    loras = [[lora.sha256, lora.weight] for lora in plan.loras]
    size = {"width": plan.width, "height": plan.height}
    return json.dumps({"model": plan.model, "revision": plan.revision, "loras": loras, **size}, sort_keys=True)


def _digest(latents: np.ndarray) -> str:
    return hashlib.sha256(latents.tobytes()).hexdigest()
