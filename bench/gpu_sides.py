"""The ways to run one guided step on a GPU, each as a call that is ready to be timed.

A way that is not to be had here raises Failed, in words.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from bench.replica import drawn
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig

Call = Callable[[], object]
#: (networks, inputs) -> the call, and how many steps it makes.
Way = Callable[[dict[str, nn.Module], "Inputs"], tuple[Call, int]]

_PERIOD = 3
_DEEPCACHE = Path("build/bench/deepcache")


class Failed(Exception):
    """A way that is not to be had here."""


@dataclass(frozen=True)
class Case:
    """Latents of `batch` films."""

    frames: int
    height: int
    width: int
    batch: int
    tokens: int = 77
    channels: int = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(c, f, h, w) of one film."""
        return (self.channels, self.frames, self.height, self.width)

    def inputs(self, config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Inputs:
        """Noise, and vectors in place of words."""
        source = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, *self.shape, generator=source)
        words = torch.randn(2 * self.batch, self.tokens, config["cross_attention_dim"], generator=source)
        return Inputs(x.to(device, dtype), torch.tensor(500, device=device), words.to(device, dtype))


@dataclass(frozen=True, eq=False)
class Inputs:
    """x (b, c, f, h, w), timestep, words (2 b, tokens, width)."""

    x: Tensor
    timestep: Tensor
    words: Tensor


@torch.no_grad()
def networks_of(config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> tuple[dict[str, nn.Module], int]:
    """Ours and, where diffusers is here, stock's with the same random weights; and how many weights that are."""
    with torch.device("meta"):
        ours = UNet3D(UNet3DConfig.from_dict(config)).eval()
    source = torch.Generator().manual_seed(0)
    state = {key: drawn(key, value.shape, dtype, source).to(device) for key, value in ours.state_dict().items()}
    ours.load_state_dict(state, assign=True)
    networks: dict[str, nn.Module] = {"ours": ours}
    try:
        from diffusers import UNet3DConditionModel
    except ImportError:
        return networks, sum(value.numel() for value in state.values())
    with torch.device("meta"):
        stock = UNet3DConditionModel.from_config(config).eval()
    stock.load_state_dict(state, assign=True)  # the same tensors, so it takes no memory
    return networks | {"stock": stock}, sum(value.numel() for value in state.values())


def _plain(networks: dict[str, nn.Module], inputs: Inputs, name: str) -> Call:
    """The step as each one runs it: ours shares what guidance does not touch, and reads the words once."""
    if name not in networks:
        raise Failed("diffusers is not here")
    network, x = networks[name], inputs.x
    if name == "ours":
        with torch.inference_mode():
            words = network.prompt(inputs.words)  # type: ignore[operator]

        def call() -> Any:
            with torch.inference_mode():
                return network(x, inputs.timestep, words)

        return call

    def stock() -> Any:
        with torch.no_grad():
            return network(torch.cat([x] * 2), inputs.timestep, inputs.words, return_dict=False)[0]

    return stock


def _eager(name: str) -> Way:
    return lambda networks, inputs: (_plain(networks, inputs, name), 1)


def _graph(name: str) -> Way:
    """The same kernels, recorded once as a CUDA graph and played back."""

    def make(networks: dict[str, nn.Module], inputs: Inputs) -> tuple[Call, int]:
        if inputs.x.device.type != "cuda":
            raise Failed("CUDA graphs need a GPU")
        call, side = _plain(networks, inputs, name), torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = call()

        def replay() -> Any:
            graph.replay()
            return kept

        return replay, 1

    return make


def _compiled(name: str) -> Way:
    """torch.compile; the first call, which compiles, is not among those that are timed."""

    def make(networks: dict[str, nn.Module], inputs: Inputs) -> tuple[Call, int]:
        if name not in networks:
            raise Failed("diffusers is not here")
        compiled: Any = torch.compile(networks[name], dynamic=False)
        return _plain({name: _Like(networks[name], compiled)}, inputs, name), 1

    return make


class _Like(nn.Module):
    """A compiled network that still has the plain one's `prompt`."""

    def __init__(self, plain: nn.Module, compiled: Any) -> None:
        super().__init__()
        self.plain, self.compiled = plain, compiled

    def prompt(self, words: Tensor) -> Any:
        """As the plain network's."""
        return self.plain.prompt(words)  # type: ignore[operator]

    def forward(self, *given: Any, **named: Any) -> Any:
        """As the plain network's."""
        return self.compiled(*given, **named)


def _deepcache(networks: dict[str, nn.Module], inputs: Inputs) -> tuple[Call, int]:
    """PyPI's DeepCache around the stock network: one period of three steps."""
    if "stock" not in networks:
        raise Failed("diffusers is not here")
    if _DEEPCACHE.is_dir() and str(_DEEPCACHE) not in sys.path:
        sys.path.append(str(_DEEPCACHE))
    try:
        from DeepCache import DeepCacheSDHelper
    except ImportError:
        raise Failed("DeepCache is not here") from None
    timesteps = torch.tensor([800 - 100 * each for each in range(_PERIOD)])
    unet, x = networks["stock"], torch.cat([inputs.x] * 2)
    pipeline = SimpleNamespace(unet=unet, scheduler=SimpleNamespace(timesteps=timesteps))

    def call() -> None:
        helper = DeepCacheSDHelper(pipe=pipeline)
        helper.set_params(cache_interval=_PERIOD, cache_branch_id=0)
        helper.enable()
        try:
            with torch.no_grad():
                for timestep in timesteps:
                    unet(x, timestep, inputs.words, return_dict=False)
        finally:
            helper.disable()

    return call, _PERIOD


#: In the order in which they are wanted.
WAYS: dict[str, Way] = {
    "ours": _eager("ours"),
    "stock eager": _eager("stock"),
    "ours graph": _graph("ours"),
    "stock graph": _graph("stock"),
    "DeepCache N=3": _deepcache,
    "stock compiled": _compiled("stock"),
    "ours compiled": _compiled("ours"),
}
