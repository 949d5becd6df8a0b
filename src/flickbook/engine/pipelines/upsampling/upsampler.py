"""The network that doubles the width and height of latents: those of LTX-Video and of LTX-2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from flickbook.catalogue import LatentUpsampler
from flickbook.engine.family import Setup
from flickbook.engine.pipelines.directory import checked
from flickbook.errors import WeightsError
from flickbook.hub.fetch import available_upsampler
from flickbook.hub.find import UPSAMPLER
from flickbook.hub.manifest import HashCache, fingerprint, read_config
from flickbook.spec import Placement

#: The networks -> the pipelines that run them.
_PIPELINES: Final = {
    "LTXLatentUpsamplerModel": "LTXLatentUpsamplePipeline",
    "LTX2LatentUpsamplerModel": "LTX2LatentUpsamplePipeline",
}
#: What the calls of both pipelines have in common with those of the model's own, for decoding.
_DECODING: Final = ("generator", "decode_timestep", "decode_noise_scale")


class Upsampler:
    """A loaded upsampler. The latents it takes and returns are those of its model's pipeline with `output_type`
    "latent": (films, channels, frames, height, width), normalised in LTX-Video, and not in LTX-2."""

    def __init__(self, network: Any, settings: LatentUpsampler, placement: Placement) -> None:
        self.settings, self._network = settings, network
        self.place(placement)

    def place(self, placement: Placement) -> None:
        """Follow a placement: with offloading, the network is in the memory of the host while it does not run."""
        self._waits = placement.offload != "none"
        self._network.to("cpu", getattr(torch, placement.dtype))

    def doubled(self, pipe: Any, latents: Tensor) -> Tensor:
        """The latents in float32 with twice the height and width. Raises WeightsError if they have another size."""
        found: Tensor = self._run(pipe, latents, output_type="latent")
        frames, height, width = latents.shape[2:]
        if found.shape[2:] != (frames, 2 * height, 2 * width):
            made, limit = "x".join(map(str, found.shape[2:])), f"{frames}x{2 * height}x{2 * width}"
            raise WeightsError(UPSAMPLER, f"made {made} latents instead of {limit}", "pull the model again")
        return found.float()

    def decoded(self, pipe: Any, latents: Tensor, arguments: Mapping[str, Any]) -> Any:
        """The frames (films, n, height, width, 3) of the doubled latents, float32 in 0 to 1; `arguments` are those of
        the pipeline's call."""
        how = {name: arguments[name] for name in _DECODING if name in arguments}
        return self._run(pipe, latents, output_type="np", **how)

    def _run(self, pipe: Any, latents: Tensor, **arguments: Any) -> Any:
        import diffusers

        device = pipe._execution_device
        kind = getattr(diffusers, _PIPELINES[type(self._network).__name__])
        self._network.to(device)
        try:
            run = kind(vae=pipe.vae, latent_upsampler=self._network)
            return run(latents=latents, **self.settings.call, **arguments).frames
        finally:
            if self._waits:
                self._network.to("cpu")


def load_upsampler(setup: Setup, kind: str, weights: Mapping[str, str]) -> tuple[Upsampler | None, dict[str, str]]:
    """The upsampler of a model whose pipeline has the class `kind`, if `setup` has it loaded, and the hashes `weights`
    of the model with those of its files.

    Raises HubError if it is not on this machine, WeightsError for another network and for a damaged one.
    """
    settings = setup.model.latent_upsampler
    if settings is None:
        return None, dict(weights)
    # Pulled into the same directory: a film that is made without it has the recipe that it had before.
    own = {name: digest for name, digest in weights.items() if not name.startswith(f"{settings.folder}/")}
    if not setup.latent_upsample:
        return None, own
    place = available_upsampler(setup.model)
    path, config = place / "config.json", read_config(place / "config.json")
    name = str(config.get("_class_name"))
    if name != _network_for(kind):
        raise WeightsError(path, f"names the network {name}", f"it must double latents of {kind}")
    if config.get("temporal_upsample") or not config.get("spatial_upsample", True):
        raise WeightsError(path, "is a network for more frames", "only the ones for width and height are run")
    from diffusers.pipelines.ltx import modeling_latent_upsampler
    from diffusers.pipelines.ltx2 import latent_upsampler as second

    network = getattr(second if name.startswith("LTX2") else modeling_latent_upsampler, name)
    how = {"torch_dtype": getattr(torch, setup.placement.dtype), "local_files_only": True, "use_safetensors": True}
    loaded = checked(lambda: network.from_pretrained(str(place), **how), place)
    hashes = fingerprint(place, HashCache.usual())
    found = Upsampler(loaded.eval(), settings, setup.placement)
    return found, own | {f"{UPSAMPLER}/{name}": digest for name, digest in hashes.items()}


def _network_for(name: str) -> str:
    """The class of the network that doubles the latents of a pipeline; "" if there is none."""
    if name.startswith("LTX2"):
        return "LTX2LatentUpsamplerModel"
    return "LTXLatentUpsamplerModel" if name.startswith("LTX") else ""
