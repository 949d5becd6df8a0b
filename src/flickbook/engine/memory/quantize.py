"""Eight-bit weights for linear layers, through torchao: half the memory of bfloat16, with slightly lower fidelity."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from flickbook.errors import RequestError


def quantize(network: nn.Module, how: Literal["fp8", "int8"]) -> None:
    """Quantize the weights of a network's linear layers in place; activations keep their precision.

    Raises RequestError without torchao.
    """
    try:
        from torchao import quantization
    except ImportError:
        remedy = "ask for bf16, or run `pip install torchao`"
        raise RequestError("precision", how, "needs the package torchao", remedy) from None
    library: Any = quantization
    config = library.Float8WeightOnlyConfig() if how == "fp8" else library.Int8WeightOnlyConfig()
    library.quantize_(network, config)
