"""Forward hooks on the 3D U-Net: what it read and returned in a step, and how its attention was distributed.

The network computes attention with fused kernels, which return no weights. The hooks keep queries and keys, and compute
softmax(q k^T / sqrt(d)) again beside the network, so the network itself runs unchanged.
Shapes: f frames, h height, w width, n = h * w, t tokens, g groups of tokens, d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flickbook.diffusion.attention import RelativeAttention
from flickbook.diffusion.unet3d import SpatialTransformer, TemporalTransformer, UNet3D

#: Height and width in latent pixels.
Size = tuple[int, int]
#: Queries whose weights are computed at once.
_AT_ONCE = 4096


@dataclass
class Seen:
    """What the hooks saw in one step. Attention is that of the last film of the batch: the conditional one.

    `inputs` are the latents (c, f, h, w) of each call, `outputs` the network's answers (1 or 2, c, f, h, w): without
    and with the prompt, or only with it. `crossed` holds, for each attention layer, its size and its weights (g, f, h,
    w), which sum to 1 over g. `temporal` holds size and weights (f, f): row i is frame i as the query.
    """

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    crossed: list[tuple[Size, Tensor]] = field(default_factory=list)
    temporal: list[tuple[Size, Tensor]] = field(default_factory=list)

    @property
    def answers(self) -> Tensor | None:
        """The network's answers (1 or 2, c, f, h, w); None if it ran on parts of the film, or not at all."""
        found = torch.cat(self.outputs) if self.outputs else None
        whole = found is not None and len(found) <= 2 and len({x.shape for x in self.inputs}) == 1
        return found if whole else None


class Hooks:
    """Records the steps of one U-Net. `groups` (t, g) is 1 where a token belongs to a group."""

    def __init__(self, unet: UNet3D, groups: Tensor) -> None:
        self.unet, self.groups = unet, groups
        self._seen = Seen()
        self._prompt: Any = None

    def take(self) -> Seen:
        """What was seen since the last call."""
        found, self._seen = self._seen, Seen()
        return found

    @contextmanager
    def attached(self) -> Iterator[Hooks]:
        """Attach the hooks in the block, and remove them after it."""
        with ExitStack() as stack:

            def keep(handle: Any) -> None:
                stack.callback(handle.remove)

            keep(self.unet.register_forward_pre_hook(self._enter))
            keep(self.unet.register_forward_hook(self._leave))
            for module in self.unet.modules():
                if isinstance(module, SpatialTransformer):
                    for handle in _cross(self, module):
                        keep(handle)
                elif isinstance(module, TemporalTransformer):
                    for handle in _along(self, module):
                        keep(handle)
            yield self

    def _enter(self, unet: nn.Module, arguments: tuple[Any, ...]) -> None:
        # If a step calls the network twice, the second call is the conditional one.
        self._prompt = arguments[2]
        self._seen.inputs.append(arguments[0][-1].float().cpu())
        self._seen.crossed.clear()
        self._seen.temporal.clear()

    def _leave(self, unet: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        self._seen.outputs.append(output.float().cpu())

    def add_cross(self, layer: SpatialTransformer, q: Tensor, frames: int, size: Size) -> None:
        """Add the attention of queries (b, f*n, heads*d) to the prompt's tokens."""
        k = self._prompt[layer][0][-1].float()  # (heads, t, d)
        heads, _, width = k.shape
        queries = torch.unflatten(q[-1].float(), -1, (heads, width)).transpose(0, 1)  # (heads, f*n, d)
        groups = self.groups.to(k)
        parts = [
            (part * width**-0.5 @ k.mT).softmax(-1).mean(0) @ groups for part in torch.split(queries, _AT_ONCE, dim=1)
        ]
        weights = torch.unflatten(torch.cat(parts), 0, (frames, *size)).permute(3, 0, 1, 2)
        self._seen.crossed.append((size, weights.cpu()))

    def add_temporal(self, attention: Any, q: Tensor, k: Tensor, size: Size) -> None:
        """Add the attention of each pixel's frames to one another, averaged over pixels: q, k (b, n, f, heads*d)."""
        heads, width = attention.heads, attention.head_dim
        query, key = (
            torch.unflatten(x[-1].float(), -1, (heads, width)).transpose(1, 2) for x in (q, k)
        )  # (n, heads, f, d)
        scores = query @ key.mT
        if isinstance(attention, RelativeAttention):
            near = attention.relative_position_k(query.shape[-2]).float()
            scores = scores + torch.einsum("...id,ijd->...ij", query, near)
        self._seen.temporal.append((size, (scores * width**-0.5).softmax(-1).mean((0, 1)).cpu()))


def _cross(hooks: Hooks, layer: SpatialTransformer) -> Iterator[Any]:
    """Hooks on one spatial transformer: its size when it is entered, its queries of the prompt."""
    entered: dict[str, Any] = {}

    def enter(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        entered["size"], entered["frames"] = tuple(arguments[0].shape[-2:]), arguments[2]

    def asked(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        hooks.add_cross(layer, output, entered["frames"], entered["size"])

    yield layer.register_forward_pre_hook(enter)
    yield layer.transformer_blocks[0].attn2.to_q.register_forward_hook(asked)


def _along(hooks: Hooks, layer: TemporalTransformer) -> Iterator[Any]:
    """Hooks on one temporal transformer: its size, and queries and keys of both of its attention layers."""
    entered: dict[str, Any] = {}

    def enter(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        entered["size"] = tuple(arguments[0].shape[-2:])

    yield layer.register_forward_pre_hook(enter)
    block = layer.transformer_blocks[0]
    for attention in (block.attn1, block.attn2):
        # The query is projected before the key.
        def asked(module: nn.Module, arguments: tuple[Any, ...], output: Tensor, place: str = "q") -> None:
            entered[place] = output

        def keyed(module: nn.Module, arguments: tuple[Any, ...], output: Tensor, attention: Any = attention) -> None:
            hooks.add_temporal(attention, entered["q"], output, entered["size"])

        yield attention.to_q.register_forward_hook(asked)
        yield attention.to_k.register_forward_hook(keyed)


def groups_of(words: Sequence[tuple[str, Sequence[int]]], tokens: int) -> Tensor:
    """Groups of tokens as a matrix (tokens, words + 2): each word, then the start token, then the end and padding."""
    matrix = torch.zeros(tokens, len(words) + 2)
    for number, (_, places) in enumerate(words):
        matrix[list(places), number] = 1
    matrix[0, -2] = 1
    matrix[:, -1] = (matrix.sum(1) == 0).float()
    return matrix


def blended(layers: Sequence[tuple[Size, Tensor]], size: Size) -> Tensor | None:
    """Mean over attention layers of their weights (g, f, h, w), each scaled to `size`; None for no layers."""
    if not layers:
        return None
    scaled = [
        F.interpolate(each.transpose(0, 1), size=size, mode="bilinear", antialias=True).transpose(0, 1)
        for _, each in layers
    ]
    return torch.stack(scaled).mean(0)
