"""What diffusers has to make a transformer's steps cheaper, put on for the time of one film.

A first-block cache runs the first block of every step; where what that changes is nearly what it changed the last time,
the rest of the step is taken from then (ParaAttention's first block cache, https://github.com/chengzeyi/ParaAttention).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from flickbook.spec import Plan

#: Pipelines whose call tells a cache which half of the guidance it is in, and whose blocks diffusers knows.
CACHED: Final = frozenset(
    {
        "CogVideoXImageToVideoPipeline",
        "CogVideoXPipeline",
        "CogVideoXVideoToVideoPipeline",
        "FluxPipeline",
        "HunyuanVideoPipeline",
        "LTXConditionPipeline",
        "LTXImageToVideoPipeline",
        "LTXPipeline",
        "MochiPipeline",
        "WanImageToVideoPipeline",
        "WanPipeline",
    }
)
#: How much the first block's change may differ from the last one's, relative to its size.
THRESHOLD: Final = 0.05
_NETWORKS: Final = ("transformer", "transformer_2")


@contextmanager
def hastened(pipe: Any, plan: Plan) -> Iterator[str]:
    """A pipeline at the speed of a Plan, and in words what is done for that; "" for nothing at speed exact."""
    if plan.speed == "exact":
        yield ""
        return
    networks = [network for name in _NETWORKS if (network := getattr(pipe, name, None)) is not None]
    if type(pipe).__name__ not in CACHED or not all(_deep(network) for network in networks):
        yield f"speed {plan.speed}: nothing is known that makes {type(pipe).__name__} faster; it was made exactly"
        return
    import diffusers

    config: Any = diffusers.FirstBlockCacheConfig

    with ExitStack() as stack:
        for network in networks:
            network.enable_cache(config(threshold=THRESHOLD))
            stack.callback(network.disable_cache)
        yield f"speed {plan.speed}: a first-block cache, threshold {THRESHOLD:g}"


def _deep(network: Any) -> bool:
    """Whether a transformer has blocks that could be left out: a cache needs the first one, and another."""
    lists = ("transformer_blocks", "single_transformer_blocks", "blocks", "layers")
    return sum(len(getattr(network, name, ())) for name in lists) > 1
