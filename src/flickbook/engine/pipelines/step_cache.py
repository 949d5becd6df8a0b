"""Enables diffusers' caches that make a transformer's steps cheaper, for the duration of one film.

A first-block cache runs the first block in every step. If its residual is close to that of the last step, the other
blocks are skipped and their cached residual is used (ParaAttention's first block cache,
https://github.com/chengzeyi/ParaAttention).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from flickbook.spec import Plan

#: Pipelines that tell a cache which half of guidance runs, and whose blocks diffusers knows.
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
#: The most that the first block's residual may differ from the cached one, relative to its size.
THRESHOLD: Final = 0.05
_NETWORKS: Final = ("transformer", "transformer_2")


@contextmanager
def with_step_cache(pipe: Any, plan: Plan) -> Iterator[str]:
    """Apply a Plan's speed to a pipeline in the block; yields a note on what was enabled, "" at speed exact."""
    if plan.speed == "exact":
        yield ""
        return
    networks = [network for name in _NETWORKS if (network := getattr(pipe, name, None)) is not None]
    if type(pipe).__name__ not in CACHED or not all(_deep(network) for network in networks):
        yield f"speed {plan.speed}: no faster method is known for {type(pipe).__name__}; made with speed exact"
        return
    import diffusers

    config: Any = diffusers.FirstBlockCacheConfig

    with ExitStack() as stack:
        for network in networks:
            network.enable_cache(config(threshold=THRESHOLD))
            stack.callback(network.disable_cache)
        yield f"speed {plan.speed}: a first-block cache, threshold {THRESHOLD:g}"


def _deep(network: Any) -> bool:
    """Whether a transformer has at least two blocks: the cache needs the first one, and another to skip."""
    lists = ("transformer_blocks", "single_transformer_blocks", "blocks", "layers")
    return sum(len(getattr(network, name, ())) for name in lists) > 1
