"""The CLIP text encoder (Radford et al. 2021, arXiv 2103.00020).

Keys, configuration and mathematics are those of transformers' `CLIPTextModel`.
Shapes in this file: n prompts, t tokens, c channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flickbook.diffusion.attention import attend
from flickbook.errors import WeightsError


@dataclass(frozen=True)
class TextConfig:
    """The fields of `text_encoder/config.json` that determine the network; the defaults are those of transformers."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    pad_token_id: int = 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: object = "text_encoder/config.json") -> TextConfig:
        """Read a parsed `config.json`; `path` is only for messages. Fields of training and pooling are ignored.

        Raises WeightsError for another kind of network, another activation, or a width that the heads do not divide.
        """
        reason = None
        # Published files are from CLIPTextModel or CLIPTextModelWithProjection; the oldest have no type.
        if values.get("model_type", "clip_text_model") != "clip_text_model":
            reason = f"model_type={values['model_type']!r} where this network is a clip_text_model"
        known = {field.name for field in fields(cls)}
        config = cls(**{k: v for k, v in values.items() if k in known and v is not None})
        if config.hidden_act not in ("gelu", "quick_gelu"):
            reason = f"hidden_act={config.hidden_act!r} where this network has gelu and quick_gelu"
        if config.hidden_size % config.num_attention_heads:
            reason = f"hidden_size={config.hidden_size} is not a multiple of {config.num_attention_heads} heads"
        if reason:
            raise WeightsError(path, reason, "use a model whose text encoder is a CLIPTextModel")
        return config

    def to_dict(self) -> dict[str, Any]:
        """The contents of `text_encoder/config.json`."""
        return {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **asdict(self)}


def _table(count: int, width: int) -> nn.Embedding:
    """An embedding without initial weights: initialising on the meta device would load torch's compiler, a second."""
    return nn.Embedding(count, width, _weight=torch.empty(count, width))


class Embeddings(nn.Module):
    """Token plus position: ids (n, t) -> (n, t, c)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = _table(config.vocab_size, config.hidden_size)
        self.position_embedding = _table(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        tokens: Tensor = self.token_embedding(ids)
        return tokens + self.position_embedding.weight[: ids.shape[1]]


class SelfAttention(nn.Module):
    """Causal multi-head attention: (n, t, c) -> (n, t, c). A token attends to itself and to earlier ones."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        prompts, tokens, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(prompts, tokens, self.heads, width // self.heads).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        attended = attend(q, k, v, causal=True)
        out: Tensor = self.out_proj(attended.transpose(1, 2).reshape(x.shape))
        return out


class FeedForward(nn.Module):
    """Two linear layers around the activation: (n, t, c) -> (n, t, c)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.quick = config.hidden_act == "quick_gelu"

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.fc1(x)
        # quick_gelu is OpenAI's x * sigmoid(1.702 x); its weights need it to the bit.
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick else F.gelu(hidden)
        out: Tensor = self.fc2(hidden)
        return out


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each with a norm before it and a shortcut: (n, t, c) -> (n, t, c)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.hidden_size, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = FeedForward(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class _Encoder(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(config) for _ in range(config.num_hidden_layers)])


class _TextModel(nn.Module):
    """Holds the parts under the published keys."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = _Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class TextEncoder(nn.Module):
    """Token ids to one vector per token. Padding is not masked, as in the training of the published models."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = _TextModel(config)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """CLIP's initial weights (section 2.4 of the paper, after GPT-2): smaller for deeper networks."""
        if self.text_model.final_layer_norm.weight.is_meta:  # weights will be loaded from a file
            return
        width = self.config.hidden_size
        branch = width**-0.5 * (2 * max(1, self.config.num_hidden_layers)) ** -0.5
        spreads = {"token_embedding": 0.02, "position_embedding": 0.02, "out_proj": width**-0.5}
        spreads |= {"fc1": (2 * width) ** -0.5, **dict.fromkeys(("q_proj", "k_proj", "v_proj", "fc2"), branch)}
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=spreads[name.rpartition(".")[2]])
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (n, t) int64 with t <= max_position_embeddings -> the last hidden state after its norm, (n, t, c)."""
        x = self.text_model.embeddings(ids)
        for layer in self.text_model.encoder.layers:
            x = layer(x)
        out: Tensor = self.text_model.final_layer_norm(x)
        return out


def text_keys(keys: Iterable[str]) -> dict[str, str]:
    """Keys of a published file -> keys here. Old files have a buffer of positions, new ones omit `text_model.`"""
    kept = (key for key in keys if not key.endswith("embeddings.position_ids"))
    return {key: key if key.startswith("text_model.") else f"text_model.{key}" for key in kept}
