"""The transformer block of latent diffusion: attention over any axis, followed by a gated feed-forward.

Keys and mathematics are those of diffusers' `BasicTransformerBlock`. Shapes in this file: b batch, d width of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Largest batch of one call of a fused kernel.
_MOST = 32_768


def repeated(x: Tensor, count: int) -> Tensor:
    """Repeat x (b, ...) to `count` = k * b items, in the memory format of x."""
    return x if len(x) == count else torch.cat([x] * (count // len(x)))


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a linear layer or convolution, with the LoRAs that PEFT added to it: W + scale * up @ down."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    if not hasattr(layer, "base_layer") or layer.disable_adapters:
        return weight
    for name in layer.active_adapters:  # type: ignore[union-attr]
        down, up = (part[name].weight for part in (layer.lora_A, layer.lora_B))  # type: ignore[index,union-attr]
        product = (up.flatten(1) @ down.flatten(1)).view(weight.shape)
        weight = (weight + layer.scaling[name] * product).to(weight.dtype)  # type: ignore[index]
    return weight


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, scale: float | None = None) -> Tensor:
    """softmax(scale q k^T) v over (..., tokens, d); with `causal` no token attends to later ones.

    `scale` defaults to 1 / sqrt(d).

    With gradients on a CPU, up to 64 keys take two matrix products instead of the fused kernel, whose backward pass is
    several times slower.
    """
    few = k.shape[-2] <= 64 and torch.is_grad_enabled()
    if not few or q.device.type != "cpu":
        if q.ndim > 4 and q.shape == k.shape and q.device.type != "mps":
            return _flat(q, k, v, causal, scale)
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores: Tensor = (q if scale == 1 else q * scale) @ k.mT
    if causal:
        scores = scores + torch.full(scores.shape[-2:], -math.inf, dtype=scores.dtype, device=scores.device).triu(1)
    # Softmax in at least float32: on a CPU more than twice as fast as in bfloat16, and more accurate.
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return weights.to(v.dtype) @ v


def _flat(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float | None) -> Tensor:
    """Attention by the fused kernels, which take four dimensions and on a GPU at most `_MOST` batches."""
    if q.shape[-2] == 1 and not torch.is_grad_enabled():  # a token alone attends to itself
        return v
    parts = zip(*(torch.split(x.flatten(0, -4), _MOST) for x in (q, k, v)), strict=True)
    found = [F.scaled_dot_product_attention(*each, is_causal=causal, scale=scale) for each in parts]  # type: ignore[misc]
    return (found[0] if len(found) == 1 else torch.cat(found)).view(q.shape)


class _Heads(nn.Module):
    """The four projections of multi-head attention over (..., tokens, channels)."""

    def __init__(self, width: int, source: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads, self.head_dim = heads, head_dim
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(source, inner, bias=False)
        self.to_v = nn.Linear(source, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, self.head_dim)).transpose(-3, -2)

    def _join(self, x: Tensor) -> Tensor:
        return self.to_out[0](x.transpose(-3, -2).flatten(-2))  # type: ignore[no-any-return]

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """(b, tokens, context_width) -> keys and values (b, heads, tokens, head_dim), which all steps share."""
        return self._split(self.to_k(context)), self._split(self.to_v(context))


class Attention(_Heads):
    """Multi-head attention over (..., tokens, channels); keys and values come from `context` if there is one.

    With k * b contexts for b sets of tokens, each set attends to k of them.
    """

    def __init__(self, width: int, heads: int, head_dim: int, context_width: int | None = None) -> None:
        super().__init__(width, context_width or width, heads, head_dim)
        self.crossed = context_width is not None

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor] | None = None) -> Tensor:
        q = self._split(self.to_q(x))
        k, v = keys_values if keys_values is not None else self.keys_values(x)
        return self._join(attend(repeated(q, len(k)), k, v))


class RelativePosition(nn.Module):
    """One vector for each distance j - i from token i to token j, with distances clipped to `reach`."""

    def __init__(self, reach: int, head_dim: int) -> None:
        super().__init__()
        self.reach = reach
        self.embeddings_table = nn.Parameter(torch.empty(2 * reach + 1, head_dim))
        nn.init.xavier_uniform_(self.embeddings_table)

    def forward(self, tokens: int) -> Tensor:
        """(tokens, tokens, head_dim): row i, column j holds the vector of clip(j - i, -reach, reach)."""
        place = torch.arange(tokens, device=self.embeddings_table.device)
        distance = (place[None] - place[:, None]).clamp(-self.reach, self.reach)
        return self.embeddings_table[distance + self.reach]


# Not a subclass of Attention: packing replaces those, and would drop the tables.
class RelativeAttention(_Heads):
    """Self-attention with relative positions (Shaw et al. 2018, arXiv 1803.02155).

    With vectors a^K and a^V of the clipped distance, the same for all heads:
    e_ij = q_i (k_j + a^K_ij)^T / sqrt(d), w = softmax_j(e), z_i = sum_j w_ij (v_j + a^V_ij).
    """

    def __init__(self, width: int, heads: int, head_dim: int, reach: int) -> None:
        super().__init__(width, width, heads, head_dim)
        self.relative_position_k = RelativePosition(reach, head_dim)
        self.relative_position_v = RelativePosition(reach, head_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., tokens, channels) -> the same shape."""
        q = self._split(self.to_q(x)) * self.head_dim**-0.5
        k, v = self.keys_values(x)
        near_k, near_v = self.relative_position_k(x.shape[-2]), self.relative_position_v(x.shape[-2])
        scores = q @ k.mT + torch.einsum("...id,ijd->...ij", q, near_k)
        weights = scores.softmax(dim=-1)
        return self._join(weights @ v + torch.einsum("...ij,ijd->...id", weights, near_v))


class GEGLU(nn.Module):
    """Gated GELU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        if type(self.proj.weight) not in (nn.Parameter, Tensor):  # quantized to eight bits, which cannot be split
            whole, gates = self.proj(x).chunk(2, dim=-1)
            return whole * F.gelu(gates)  # type: ignore[no-any-return]
        # Two products instead of one that is split: the backward pass would have to join the halves.
        (value, gate), (value_bias, gate_bias) = weight_of(self.proj).chunk(2), self.proj.bias.chunk(2)
        return F.linear(x, value, value_bias) * F.gelu(F.linear(x, gate, gate_bias))


class FeedForward(nn.Module):
    """GEGLU to four times the width, then back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The Identity stands for the published checkpoint's dropout, because keys are numbered.
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Self-attention, a second attention (over the prompt, or self-attention again), feed-forward; all pre-normed.

    With `reach` both are self-attention with relative positions up to that distance.
    """

    def __init__(self, width: int, heads: int, head_dim: int, context_width: int | None, reach: int = 0) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1: Attention | RelativeAttention
        self.attn2: Attention | RelativeAttention
        if reach:
            self.attn1, self.attn2 = (RelativeAttention(width, heads, head_dim, reach) for _ in range(2))
        else:
            self.attn1 = Attention(width, heads, head_dim)
            self.attn2 = Attention(width, heads, head_dim, context_width)
        self.ff = FeedForward(width)
