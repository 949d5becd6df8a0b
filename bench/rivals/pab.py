"""diffusers' hook for Pyramid Attention Broadcast (Zhao et al. 2024, arXiv 2408.12588) on the stock pipeline.

It keeps the outputs of attention for some steps: 2 steps those within a frame, 3 those across frames, 4 those to the
words, between timesteps 800 and 100, as the paper sorts them. The library's own names for the three kinds are those of
transformers and would count this network's temporal attention as spatial, so the names are given. Feed-forward layers
and convolutions, most of this network, always run.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from bench.rivals import stock
from bench.subject import Side, Subject, at, name_of

NOTE = (
    "it keeps attention only, and most of this network is convolution and feed-forward; between timesteps 800 and 100"
)
_HOOK = "pyramid_attention_broadcast"
_RANGES = {"spatial": 2, "temporal": 3, "cross": 4}
_NAMES = {
    "spatial": (r"(^|\.)attentions\.",),
    "temporal": (r"temp_attentions\.", "transformer_in"),
    "cross": (r"(^|\.)attentions\.",),
}


def film(pipeline: Any, subject: Subject) -> Any:
    """A film with the hook on."""
    from diffusers import PyramidAttentionBroadcastConfig
    from diffusers.hooks import HookRegistry, apply_pyramid_attention_broadcast

    unet, now = pipeline.unet, [0]

    def notice(_: torch.nn.Module, given: tuple[Any, ...]) -> None:
        now[0] = int(given[1])

    ranges: dict[str, Any] = {f"{kind}_attention_block_skip_range": steps for kind, steps in _RANGES.items()}
    names: dict[str, Any] = {f"{kind}_attention_block_identifiers": each for kind, each in _NAMES.items()}
    config = PyramidAttentionBroadcastConfig(**ranges, **names, current_timestep_callback=lambda: now[0])
    watcher = unet.register_forward_pre_hook(notice)
    apply_pyramid_attention_broadcast(unet, config)
    try:
        return stock.film(pipeline, subject)
    finally:
        watcher.remove()
        for module in unet.modules():
            if hasattr(module, "_diffusers_hook"):
                HookRegistry.check_if_exists_or_initialize(module).remove_hook(_HOOK, recurse=False)


def side(subject: Subject, pipeline: Any) -> Side:
    """With the ranges above."""
    kind = name_of(pipeline.unet.dtype)
    call = at(subject.threads, partial(film, pipeline, subject))
    return Side(f"PAB 2/3/4, {kind}", call, kind, lossy=True, notes=[NOTE])
