"""Adds LoRAs to a loaded model: validates the files, matches them to the model's layers, and adds them all or none.

Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685). Every file is read and matched before the first network is
changed, so that an error leaves the model unchanged.
"""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.lora.file import LoraFile
from flickbook.engine.lora.find import locate as locate
from flickbook.engine.lora.layer_names import DENOISERS, Layers, Pair, Style, find, flat, is_renamed, read_pairs
from flickbook.errors import MissingExtra, WeightsError, one_line, shown

#: Tensors by their keys.
State = dict[str, Tensor]
#: Layer name of a network -> down (rank, inside, *kernel) and up (outside, rank, *ones).
Factors = dict[str, tuple[Tensor, Tensor]]
#: A pipeline's own conversion of key names.
Convert = Callable[[State], State]
_Kind = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_TEXT = ("text_encoder", "text_encoder_2")
#: Precisions in which adapters are computed.
_COMPUTE = (torch.float32, torch.bfloat16, torch.float16)
_SHOWN = 3
_OTHER_MODEL = "use a LoRA that was made for this model"


@dataclass(frozen=True)
class Match:
    """How a LoRA's keys matched a model's layers.

    `matched` keys have a layer, `renamed` of them under another name than diffusers uses today; `unmatched` keys have
    none and change nothing. `rank` is the largest of its layers; `base_model` is its trainer's note, or "".
    """

    name: str
    style: Style
    matched: int
    renamed: int
    unmatched: tuple[str, ...]
    rank: int
    base_model: str

    def __str__(self) -> str:
        total = self.matched + len(self.unmatched)
        text = f"{self.name}: {self.matched} of {total} keys matched, {self.renamed} of them renamed ({self.style})"
        text += f", rank {self.rank}" + (f", made for {self.base_model}" if self.base_model else "")
        if not self.unmatched:
            return text
        left = len(self.unmatched) - _SHOWN
        some = ", ".join(shown(key) for key in self.unmatched[:_SHOWN])
        return f"{text}; no matching layer for: {some}" + (f" and {left} more" if left > 0 else "")


@dataclass(frozen=True)
class _Fit:
    """A matched LoRA: what to add to each layer of each network."""

    path: Path
    match: Match
    networks: dict[str, Factors]


def inject(networks: TextToVideo, loras: Sequence[tuple[Path, float]]) -> list[Match]:
    """Add LoRAs (file, weight) to the project's own 3D U-Net and its text encoder. Call `pack` after this.

    PEFT creates the adapters, and each product is then merged into its layer's weight. A separate adapter would have
    no effect: packing, GEGLU and the temporal convolution read the weight itself. Merged, it also costs no time in
    generation. Raises WeightsError for a file that is damaged or was made for another model; then adds nothing.
    """
    parts: dict[str, nn.Module] = {"unet": networks.unet, "text_encoder": networks.text_encoder}
    fits = [_fit(path, parts) for path, _ in loras]
    for fit, (_, weight) in zip(fits, loras, strict=True):
        for part, factors in fit.networks.items():
            _add(parts[part], "lora", factors)
            _activate(parts[part], {"lora": weight})
            _take_out(parts[part], merge=True)
    return [fit.match for fit in fits]


def load_into(pipe: Any, loras: Sequence[tuple[Path, float]]) -> list[Match]:
    """Add LoRAs (file, weight) to a diffusers pipeline as adapters, in addition to its own. Call it before offloading.

    A pipeline with its own LoRA loader gets the layers under the names of its networks; for others (Stable Video
    Diffusion, Latte, HunyuanVideo 1.5) PEFT adds the adapters. In a model with two denoisers (Wan 2.2) both get the
    LoRA, unless the file's name contains high_noise or low_noise. Raises WeightsError for a file that is damaged or was
    made for another model; then leaves the pipeline unchanged.
    """
    if not loras:
        return []
    parts = _parts(pipe)
    taken = {name for part in parts.values() for name in getattr(part, "peft_config", {})}
    # The libraries activate only the last adapter added, so the active ones are remembered.
    on = {
        name: list(dict.fromkeys(each for _, layer in _tuned(part) for each in layer.active_adapters))
        for name, part in parts.items()
    }
    fits = [_fit(path, _stage(path, parts), _converter(pipe)) for path, _ in loras]
    _peft()
    weights: dict[str, float] = {}
    free = (name for name in map("lora_{}".format, count()) if name not in taken)
    for name, fit, (path, weight) in zip(free, fits, loras, strict=False):
        weights[name] = weight
        try:
            _give(pipe, parts, name, fit)
        except Exception as error:  # of any class: the libraries document none
            for key, part in parts.items():
                _delete(part, weights)
                _activate(part, {}, on[key])
            if isinstance(error, WeightsError):
                raise
            reason = f"cannot be added to {type(pipe).__name__} ({one_line(error)[:200]})"
            raise WeightsError(path, reason, _OTHER_MODEL) from error
    for key, part in parts.items():
        _activate(part, weights, on[key])
    return [fit.match for fit in fits]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings of the libraries in the block: their cases are checked here, or are intended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _parts(pipe: Any) -> dict[str, nn.Module]:
    """The networks of a pipeline to which LoRAs can be added."""
    loadable = {*DENOISERS, *getattr(pipe, "_lora_loadable_modules", ())}
    return {name: part for name, part in pipe.components.items() if name in loadable and isinstance(part, nn.Module)}


def _stage(path: Path, parts: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The denoiser in a file's name, if there are two: the first removes the high noise, the second the low noise."""
    noise = re.search(r"(high|low)[-_ ]?noise", path.stem.lower())
    if noise is None or "transformer_2" not in parts:
        return parts
    other = "transformer_2" if noise[1] == "high" else "transformer"
    return {name: part for name, part in parts.items() if name != other}


def _converter(pipe: Any) -> Convert | None:
    """The pipeline's own conversion of the names in its model's original code, or None."""
    if not hasattr(pipe, "lora_state_dict"):
        return None
    options = {"unet_config": pipe.unet.config} if "text_encoder_2" in pipe.components and hasattr(pipe, "unet") else {}

    def convert(state: State) -> State:
        found = pipe.lora_state_dict(dict(state), **options)
        return dict(found[0] if isinstance(found, tuple) else found)

    return convert


def _layers(network: nn.Module) -> dict[str, _Kind]:
    """The layers of a network that a LoRA can change, by name; a layer that has an adapter keeps its name."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return {
        name.removesuffix(".base_layer"): module
        for name, module in network.named_modules()
        if isinstance(module, kinds) and ".lora_" not in name and getattr(module, "groups", 1) == 1
    }


def _fit(path: Path, parts: Mapping[str, nn.Module], convert: Convert | None = None) -> _Fit:
    """Read a LoRA and match its layers. Raises WeightsError if no layer matches, or one has another shape."""
    file = LoraFile.open(path)
    modules = {part: _layers(network) for part, network in parts.items()}
    layers: Layers = {part: {flat(name): name for name in found} for part, found in modules.items()}
    places, shapes = _places(file.pairs, layers), file.shapes
    used, renamed = list(places), [pair for pair, to in places.items() if is_renamed(pair, *to[0])]
    if convert is not None and len(used) < len(file.pairs):
        converted = _converted(file, layers, convert)
        if converted is not None and len(converted[1]) > len(used):
            places, used, shapes = converted
            renamed = used
    if not places:
        base = f" ({file.base_model})" if file.base_model else ""
        reason = f"none of its {len(file.pairs)} layers exists in this model, such as {shown(file.pairs[0].layer)}"
        raise WeightsError(path, f"made for another model{base}: {reason}", _OTHER_MODEL)
    goals = [(pair, part, name) for pair, to in places.items() for part, name in to]
    for pair, part, name in goals:
        _check_shape(path, name, modules[part][name], pair, shapes)
    state = file.read(used if shapes is file.shapes else file.pairs)
    if convert is not None and shapes is not file.shapes:
        state = convert(state | {pair.alpha: torch.tensor(file.rank_of(pair)) for pair in file.pairs if pair.alpha})
    networks: dict[str, Factors] = {}
    for pair, part, name in goals:
        networks.setdefault(part, {})[name] = _shaped(modules[part][name], state[pair.down], state[pair.up])
    keys = {key for pair in used for key in pair.keys}
    match = Match(
        name=path.name,
        style=file.style,
        matched=len(keys),
        renamed=sum(len(pair.keys) for pair in renamed),
        unmatched=tuple(key for key in file.shapes if key not in keys),
        rank=max(file.rank_of(pair) for pair in used),
        base_model=file.base_model,
    )
    return _Fit(path, match, networks)


def _places(pairs: Sequence[Pair], layers: Layers) -> dict[Pair, list[tuple[str, str]]]:
    """(network, layer) for each pair that matches; if two pairs match the same layer, the first one gets it."""
    places: dict[Pair, list[tuple[str, str]]] = {}
    taken: set[tuple[str, str]] = set()
    for pair in pairs:
        found = [each for each in find(pair.layer, layers) if each not in taken]
        if found:
            places[pair] = found
            taken.update(found)
    return places


def _converted(
    file: LoraFile, layers: Layers, convert: Convert
) -> tuple[dict[Pair, list[tuple[str, str]]], list[Pair], dict[str, tuple[int, ...]]] | None:
    """Match a file through the pipeline's own conversion: places, the file's pairs that arrived there, and shapes.

    A converter splits, joins, renames and drops keys silently. Therefore it first converts matrices of rank 1 filled
    with the number of their pair: the output shows where each pair went. None if it does not know the names.
    """
    marks: State = {}
    for number, pair in enumerate(file.pairs, start=1):
        down, up, mid = (file.shapes.get(key, ()) for key in (pair.down, pair.up, pair.mid))
        marks[pair.down] = torch.full((1, down[1], *(mid[2:] if mid else down[2:])), float(number))
        marks[pair.up] = torch.full((up[0], 1, *up[2:]), float(number))
        if pair.alpha:
            marks[pair.alpha] = torch.tensor(1.0)
    try:
        answer = convert(marks)
    except Exception:  # of any class: converters fail in many ways on unexpected names
        return None
    places = _places(read_pairs(answer)[0], layers)
    converted = {
        value for pair in places for key in (pair.down, pair.up) for value in torch.unique(answer[key]).tolist()
    }
    used = [pair for number, pair in enumerate(file.pairs, start=1) if number in converted]
    return places, used, {key: tuple(value.shape) for key, value in answer.items()}


def _check_shape(path: Path, name: str, layer: _Kind, pair: Pair, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check the shape of a layer with the right name. Raises WeightsError."""
    down, up = shapes[pair.down], shapes[pair.up]
    found = (up[0], down[1], *(shapes[pair.mid] if pair.mid else down)[2:])
    expected = (
        tuple(layer.weight.shape) if not isinstance(layer, nn.Linear) else (layer.out_features, layer.in_features)
    )
    # A 1x1 convolution and a linear layer are the same operation in two shapes.
    if found != expected and not (found[:2] == expected[:2] and math.prod(found[2:]) == math.prod(expected[2:]) == 1):
        reason = f"made for another model: {name} is {list(expected)} in this model and {list(found)} in the file"
        raise WeightsError(path, reason, _OTHER_MODEL)


def _shaped(layer: _Kind, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """down and up in the shape for the layer's class, in its precision if computation supports that."""
    kernel = () if isinstance(layer, nn.Linear) else layer.kernel_size
    rank, dtype = down.shape[0], layer.weight.dtype if layer.weight.dtype in _COMPUTE else torch.float32
    down = down.reshape(rank, down.shape[1], *kernel)
    return down.to(dtype).contiguous(), up.reshape(up.shape[0], rank, *(1 for _ in kernel)).to(dtype).contiguous()


@_quiet()
def _give(pipe: Any, parts: Mapping[str, nn.Module], name: str, fit: _Fit) -> None:
    """Add a LoRA to a pipeline as the adapter `name`, and check that every layer was added: the libraries only warn."""
    left = dict(fit.networks)
    denoisers = [part for key, part in parts.items() if key in DENOISERS]
    if hasattr(pipe, "load_lora_weights") and all(hasattr(part, "load_lora_adapter") for part in denoisers):
        state: State = {}
        for part in [part for part in left if part != "transformer_2"]:
            # The text encoders' loaders support diffusers' older endings for all layers, and PEFT's for some.
            ends = ("lora_linear_layer.down", "lora_linear_layer.up") if part in _TEXT else ("lora_A", "lora_B")
            for layer, factors in left.pop(part).items():
                state |= {f"{part}.{layer}.{end}.weight": factor for end, factor in zip(ends, factors, strict=True)}
        if state:
            pipe.load_lora_weights(state, adapter_name=name)
    for part, added in left.items():
        _add(parts[part], name, added)
    for part, added in fit.networks.items():
        there = {each for each, module in _tuned(parts[part]) if name in module.lora_A}
        if not added.keys() <= there:
            reason = f"{len(added.keys() - there)} of its {len(added)} layers were not accepted by {part}"
            raise WeightsError(fit.path, reason, _OTHER_MODEL)


@_quiet()
def _add(network: nn.Module, name: str, factors: Factors) -> None:
    """Let PEFT add the adapter `name` to these layers of a network."""
    peft = _peft()
    ranks = {layer: down.shape[0] for layer, (down, _) in factors.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {f"^{re.escape(layer)}": each for layer, each in ranks.items() if each != rank}
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,
        rank_pattern=others,
        alpha_pattern=others,
        target_modules="|".join(re.escape(layer) for layer in factors),
    )
    state = {f"{layer}.lora_A.weight": down for layer, (down, _) in factors.items()}
    state |= {f"{layer}.lora_B.weight": up for layer, (_, up) in factors.items()}
    peft.inject_adapter_in_model(config, network, name, low_cpu_mem_usage=True, state_dict=state)
    peft.set_peft_model_state_dict(network, state, name, low_cpu_mem_usage=True)


def _tuned(network: nn.Module) -> list[tuple[str, Any]]:
    """The layers of a network that PEFT wrapped in adapters."""
    if "peft" not in sys.modules:
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)]


def _activate(network: nn.Module, weights: Mapping[str, float], others: Collection[str] = ()) -> None:
    """Activate adapters with their weights, and `others` with their present weights."""
    for _, module in _tuned(network):
        module.set_adapter([*others, *weights])
        for name, weight in weights.items():
            module.set_scale(name, weight)


@torch.no_grad()
def _take_out(network: nn.Module, merge: bool) -> None:
    """Unwrap PEFT's layers, with the adapters merged into the weights or dropped."""
    for name, module in _tuned(network):
        if merge:
            module.merge()
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, module.get_base_layer())
    if hasattr(network, "peft_config"):
        del network.peft_config


@_quiet()
def _delete(network: nn.Module, names: Collection[str]) -> None:
    """Remove adapters from a network; without any left, unwrap its layers."""
    known = getattr(network, "peft_config", {})
    for name in names:
        known.pop(name, None)
        for _, module in _tuned(network):
            if name in module.lora_A:
                module.delete_adapter(name)
    if not known:
        _take_out(network, merge=False)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("peft", "gen") from error
    return peft
