"""Maps the layer names in LoRA files to the layers of a model.

Trainers use three styles, recognised by their endings: diffusers (`unet.mid_block….to_q.lora_A.weight`, older
`….to_q_lora.down.weight`), PEFT (`base_model.model.mid_block….to_q.lora_A.weight`) and kohya
(`lora_unet_mid_block_…_to_q.lora_down.weight` with `….alpha`). Kohya writes "_" for every dot, which cannot be
reversed. Therefore, for every style, the model's names are written with "_" too and looked up in that form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Style = Literal["diffusers", "peft", "kohya"]
#: For each network of a model: its layers' names with "_" for every dot -> their real names.
Layers = Mapping[str, Mapping[str, str]]

#: The denoising networks; a name without a network refers to one of these.
DENOISERS = ("unet", "transformer", "transformer_2")
_ANY = ""
_ROLES = {"A": "down", "B": "up"}
#: `lora_A.weight`, `lora_A.default.weight`, `lora_down.weight`, `lora.down.weight`, `lora_linear_layer.down.weight`.
_FACTOR = re.compile(
    r"(?P<layer>.+?)[._]lora(?:_(?P<one>A|B|down|up|mid)(?:\.(?!weight$|bias$)\w+)?"
    r"|(?:_linear_layer)?\.(?P<other>down|up))(?:\.weight)?"
)
#: Prefixes of a name -> the network they mean; several may be combined.
_PREFIXES = {
    "base_model.model.": _ANY,
    "model.diffusion_model.": _ANY,
    "diffusion_model.": _ANY,
    "lora_unet_": _ANY,
    "lora_transformer_": _ANY,
    "unet.": _ANY,
    "transformer.": _ANY,
    "transformer_2.": "transformer_2",
    "connectors.": "connectors",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
#: Replacements for names in older files and in Wan's original code (its `self_attn.q` is `attn1.to_q` in diffusers).
_OTHER_NAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"_processor_", "_"),
        (r"_to_out$", "_to_out_0"),
        (r"_self_attn_to_([qkv])$", r"_self_attn_\1_proj"),
        (r"_self_attn_to_out$", "_self_attn_out_proj"),
        (r"_self_attn_([qkv])$", r"_attn1_to_\1"),
        (r"_self_attn_o$", "_attn1_to_out_0"),
        (r"_cross_attn_([qkv])$", r"_attn2_to_\1"),
        (r"_cross_attn_o$", "_attn2_to_out_0"),
        (r"_cross_attn_([kv])_img$", r"_attn2_add_\1_proj"),
        (r"_ffn_0$", "_ffn_net_0_proj"),
        (r"_ffn_2$", "_ffn_net_2"),
        # transformers 5 removed this level.
        (r"^text_model_", ""),
        (r"^(?!text_model_)", "text_model_"),
    )
)


@dataclass(frozen=True)
class Pair:
    """The tensors that change one layer, by their keys in the file; `layer` is their common prefix."""

    layer: str
    down: str
    up: str
    mid: str = ""
    alpha: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the file has for this layer."""
        return tuple(key for key in (self.down, self.up, self.mid, self.alpha) if key)


def read_pairs(keys: Iterable[str]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The layers that a file changes, and the keys that belong to none, both in the file's order."""
    keys = list(keys)
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _FACTOR.fullmatch(key)
        if match is not None:
            word = match["one"] or match["other"]
            found.setdefault(match["layer"], {}).setdefault(_ROLES.get(word, word), key)
        elif key.endswith(".alpha"):
            found.setdefault(key.removesuffix(".alpha"), {})["alpha"] = key
    pairs = tuple(Pair(layer, **roles) for layer, roles in found.items() if {"down", "up"} <= roles.keys())
    used = {key for pair in pairs for key in pair.keys}
    return pairs, tuple(key for key in keys if key not in used)


def style_of(pairs: Sequence[Pair]) -> Style:
    """The style of most layers."""
    styles: list[Style] = [_style(pair) for pair in pairs]
    return max(set(styles), key=styles.count)


def _style(pair: Pair) -> Style:
    if ".lora_down." in pair.down:
        return "kohya"
    if ".lora_A" not in pair.down:
        return "diffusers"
    prefixes = ("base_model.", "model.", "diffusion_model.")
    return "diffusers" if not pair.layer.startswith(prefixes) and _split(pair.layer)[1] != pair.layer else "peft"


def _split(layer: str) -> tuple[str, str]:
    """Split a layer's name into its network ("" if unspecified) and the rest."""
    network, rest = _ANY, layer
    while (prefix := next((each for each in _PREFIXES if rest.startswith(each)), None)) is not None:
        network, rest = _PREFIXES[prefix] or network, rest.removeprefix(prefix)
    return network, rest


def flat(name: str) -> str:
    """A layer's name in kohya's form."""
    return name.replace(".", "_")


def _spellings(name: str) -> Iterator[str]:
    """A flat name and its alternatives."""
    known = [name]
    for pattern, other in _OTHER_NAMES:
        known += [changed for each in known if (changed := pattern.sub(other, each, count=1)) != each]
    yield from dict.fromkeys(known)


def find(layer: str, networks: Layers) -> list[tuple[str, str]]:
    """(network, layer) for each layer of the model that a file's layer belongs to; empty if there is none."""
    network, rest = _split(layer)
    spellings = list(_spellings(flat(rest)))
    candidates = [each for each in ((network,) if network else DENOISERS) if each in networks]
    # PEFT files name no network, and may be for the text encoder alone.
    for choice in (candidates, [] if network else ["text_encoder"]):
        found = [
            (each, networks[each][name])
            for each in choice
            for name in [next((one for one in spellings if one in networks.get(each, {})), None)]
            if name is not None
        ]
        if found:
            return found
    return []


def is_renamed(pair: Pair, network: str, name: str) -> bool:
    """Whether the file uses another name for this layer than diffusers does today."""
    return pair.down != f"{network}.{name}.lora_A.weight"
