"""Packs weights in the layout that this CPU's kernels read, to make films faster on a CPU.

PyTorch uses different libraries for products and convolutions, and passes the weights to both in the file's layout, so
each call reorders them. oneDNN can keep them reordered. Results are equal up to rounding. A packed network has no
gradients and no state dict and cannot move to another device, so packing is the last step of loading.

These operators are internal to PyTorch: `available` tests them once; where they are missing, nothing is packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flickbook.diffusion import heap
from flickbook.diffusion.attention import GEGLU, Attention, attend
from flickbook.diffusion.upsample import Upsample, plain, transposed

#: A hint for the layout: about as many rows as a small film has tokens.
_ROWS = 2048
#: Bytes of plain weights after whose packing freed memory is returned to the system; otherwise a fifth of it is lost.
_GIVEN_BACK = 64 << 20


class _Freed:
    """Counts the bytes of weights that were freed, and returns them to the system now and then."""

    size = 0

    def add(self, size: int) -> None:
        """Count `size` bytes more."""
        self.size += size
        if self.size >= _GIVEN_BACK:
            heap.give_back()
            self.size = 0


_FREED = _Freed()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, after: str = "none") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "none")  # type: ignore[no-any-return]


def _sorted(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)  # type: ignore[no-any-return]


def _copy(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().clone()


class PackedLinear(nn.Module):
    """nn.Linear: (..., inside) -> (..., out)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = _sorted(linear.weight), _copy(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return _linear(x, self.weight, self.bias)


class PackedGEGLU(nn.Module):
    """GEGLU with the activation fused into the gate's product."""

    def __init__(self, gated: GEGLU) -> None:
        super().__init__()
        (value, gate), (value_bias, gate_bias) = gated.proj.weight.chunk(2), gated.proj.bias.chunk(2)
        self.value, self.gate = _sorted(value), _sorted(gate)
        self.value_bias, self.gate_bias = _copy(value_bias), _copy(gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = _linear(x, self.gate, self.gate_bias, "gelu")
        return _linear(x, self.value, self.value_bias).mul_(gate)


class PackedSelfAttention(nn.Module):
    """Self-attention with queries, keys and values from one product."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.head_dim = attention.heads, attention.head_dim
        q, k, v = (layer.weight for layer in (attention.to_q, attention.to_k, attention.to_v))
        self.together = _sorted(torch.cat([q * attention.head_dim**-0.5, k, v]))
        self.out = PackedLinear(attention.to_out[0])  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.unflatten(_linear(x, self.together, None), -1, (3, self.heads, self.head_dim))
        q, k, v = (part.transpose(-3, -2) for part in parts.unbind(-3))
        return self.out(attend(q, k, v, scale=1.0).transpose(-3, -2).flatten(-2))  # type: ignore[no-any-return]


class PackedConv(nn.Module):
    """nn.Conv2d on (n, c, h, w), or the 3D U-Net's Conv3d(3, 1, 1) on (films, c, frames, pixels).

    The layout depends on the size of the input, so the weights are packed for the first input, and again when its size
    changes. In a layout for another size, each call reorders them: 14.5 ms instead of 0.5 for 128 channels at 4 x 4 on
    a core with AVX2.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        if isinstance(conv, nn.Conv3d):
            weight = weight.squeeze(-1)
        self.padding, self.stride, self.dilation = (list(each[:2]) for each in _geometry(conv))
        self.groups, self.bias = conv.groups, _copy(conv.bias)
        self.weight, self._packed_for = weight.contiguous().to_mkldnn(), torch.Size()

    def forward(self, x: Tensor) -> Tensor:
        places = (self.padding, self.stride, self.dilation, self.groups)
        if x.shape[2:] != self._packed_for:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            self.weight, self._packed_for = reorder(self.weight, *places, list(x.shape)), x.shape[2:]
            _FREED.add(self.weight.numel() * x.element_size())
        packed: Any = torch.ops.mkldnn._convolution_pointwise
        return packed(x, self.weight, self.bias, *places, "none", [], "")  # type: ignore[no-any-return]


class PackedUpsample(nn.Module):
    """Upsample with four products per pixel instead of nine."""

    def __init__(self, upsample: Upsample) -> None:
        super().__init__()
        self.weight = transposed(upsample.conv.weight.detach()).contiguous(memory_format=torch.channels_last)
        self.bias = _copy(upsample.conv.bias)

    @cached_property
    def _plain(self) -> PackedConv:
        """For output sizes other than twice the input's, which are rare."""
        kernel = plain(self.weight)
        # On the meta device: initialising weights would advance the process's random generator.
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False, device="meta")
        conv.weight = nn.Parameter(kernel, requires_grad=False)
        packed = PackedConv(conv)
        packed.bias = self.bias
        return packed

    def forward(self, x: Tensor, size: torch.Size | None = None) -> Tensor:
        if size is not None and size != (2 * x.shape[-2], 2 * x.shape[-1]):
            return self._plain(F.interpolate(x, size=size, mode="nearest"))  # type: ignore[no-any-return]
        return F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)


class PackedNorm(nn.Module):
    """nn.GroupNorm in bfloat16: (n, c, h, w) -> the same shape.

    In channels-last memory, PyTorch's kernel takes up to four times as long in bfloat16 as in float32 if an image has
    fewer than 1024 pixels and a group few channels; those are computed in float32.
    """

    _PIXELS, _CHANNELS = 1024, 32

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.plain = norm
        self.weight, self.bias = norm.weight.detach().float(), norm.bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        groups = self.plain.num_groups
        if x.shape[-2] * x.shape[-1] >= self._PIXELS or x.shape[1] > self._CHANNELS * groups:
            return self.plain(x)  # type: ignore[no-any-return]
        return F.group_norm(x.float(), groups, self.weight, self.bias, self.plain.eps).to(x.dtype)


def _geometry(conv: nn.Conv2d | nn.Conv3d) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    assert isinstance(conv.padding, tuple)
    return conv.padding, conv.stride, conv.dilation


#: The precisions that can be packed -> the tolerance between a packed and a plain layer, both of order 1.
_PRECISIONS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@cache
def available(dtype: torch.dtype = torch.float32) -> bool:
    """Whether this PyTorch has the operators in a precision, and they compute correct results."""
    x, linear, conv = torch.ones(2, 4, 4, 4), nn.Linear(4, 4), nn.Conv2d(4, 4, 3, padding=1)
    gated = GEGLU(4, 4)
    pairs: tuple[tuple[Any, nn.Module], ...] = ((PackedLinear, linear), (PackedConv, conv), (PackedGEGLU, gated))
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        with torch.inference_mode():
            x = x.to(dtype)
            pairs = tuple((packed, plain.to(dtype)) for packed, plain in pairs)
            return all(torch.allclose(packed(plain)(x), plain(x), atol=_PRECISIONS[dtype]) for packed, plain in pairs)
    except (RuntimeError, AttributeError, TypeError):  # an operator is missing, or has other arguments
        return False


def pack(network: nn.Module) -> None:
    """Replace the layers of a network on the CPU by packed ones, in place, and free each layer's plain weights.

    Does nothing on another device, in precisions other than float32 and bfloat16, or if the operators are missing.
    """
    weight = next(network.parameters())
    if weight.device.type != "cpu" or weight.dtype not in _PRECISIONS or not available(weight.dtype):
        return
    with torch.inference_mode():
        for size in _replaced(network):
            _FREED.add(size)


def _replaced(parent: nn.Module) -> Iterator[int]:
    """Pack the layers below `parent` one by one; yields the bytes of each layer's plain weights once freed."""
    for name in [name for name, _ in parent.named_children()]:  # names only: the iterator would keep the layers alive
        child = parent.get_submodule(name)
        packed = next((packing for kind, packing in _PACKINGS if isinstance(child, kind) and _packs(child)), None)
        if packed is None:
            yield from _replaced(child)
            continue
        size = sum(weight.nbytes for weight in child.parameters())
        setattr(parent, name, packed(child))
        del child
        yield size


def _packs(layer: nn.Module) -> bool:
    if isinstance(layer, Attention):
        return not layer.crossed
    return not isinstance(layer, nn.GroupNorm) or layer.weight.dtype == torch.bfloat16


#: Classes of layers -> their packed replacements.
_PACKINGS: tuple[tuple[type[nn.Module], Callable[[Any], nn.Module]], ...] = (
    (Attention, PackedSelfAttention),
    (GEGLU, PackedGEGLU),
    (Upsample, PackedUpsample),
    (nn.Linear, PackedLinear),
    (nn.Conv2d, PackedConv),
    (nn.Conv3d, PackedConv),
    (nn.GroupNorm, PackedNorm),
)
