"""Teach the text encoder of a model new words: `python -m flickbook.learn.rephrase OUT [--steps 4000]`.

The U-Net and the autoencoder keep their weights. A prompt reaches the U-Net only through its cross-attention layers, so
two prompts ask for the same film if these layers answer the same to every query. The student reads a paraphrase, the
model's own encoder (the teacher) the caption that training used; the student learns to cause the same answers. The
queries are recorded from the U-Net on true films with noise. No step runs the U-Net, so thousands take minutes.

Shapes: n prompts, h heads, q queries, t tokens, d width of a head, c width of a layer.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from flickbook.catalogue import find
from flickbook.diffusion.attention import Attention, attend
from flickbook.diffusion.text import TextEncoder
from flickbook.diffusion.text_to_video import FILES, TextToVideo
from flickbook.diffusion.tokenizer import Tokenizer, train_tokenizer
from flickbook.diffusion.weights import save_weights
from flickbook.hub.find import directory
from flickbook.hub.manifest import write_manifest
from flickbook.learn.dataset import training_scenes
from flickbook.world import grammar, words
from flickbook.world.captions import brief_captions, captions
from flickbook.world.render import render
from flickbook.world.scenes import Scene

LAYERS: Final = 3
_VOCABULARY: Final = 2048
_BATCH, _QUERIES = 48, 32
_RATE: Final = 1.5e-3
_WARMUP: Final = 200
#: How much of the averaged weights stays at each step.
_MEMORY: Final = 0.998
#: The shares of captions that are read as they are, of short ones, and of empty ones, which guidance reads.
_SAME, _BRIEF, _EMPTY = 0.2, 0.15, 0.03
#: Where the seeds of scenes begin that are only judged by.
_UNSEEN: Final = 90_000_000
_COUNTS: Final = {"core": 24, "pair": 8, "digits": 4, "views": 14}
#: The groups whose words the tokenizer learns: also those that the teacher never saw.
_WORDS: Final = {**_COUNTS, "several": 8, "book": 24}


def crossed(unet: nn.Module) -> list[Attention]:
    """The layers by which the prompt reaches the U-Net, in their order."""
    return [layer for layer in unet.modules() if isinstance(layer, Attention) and layer.crossed]


def answers(layer: Attention, queries: Tensor, context: Tensor) -> Tensor:
    """What a layer answers to queries (h, q, d) for prompts (n, t, c): (n, q, c)."""
    keys, values = layer.keys_values(context)
    found: Tensor = layer.to_out[0](attend(queries[None], keys, values).transpose(1, 2).flatten(2))
    return found


@torch.inference_mode()
def record(networks: TextToVideo, scenes: Sequence[Scene], kept: int, seed: int = 0) -> list[Tensor]:
    """Queries (h, q, d) of each layer from true films with noise of every strength, `kept` of each film."""
    layers, source = crossed(networks.unet), torch.Generator().manual_seed(seed)
    rows: list[list[Tensor]] = [[] for _ in layers]

    def listen(number: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            hidden = inputs[0].flatten(0, 1)
            chosen = torch.randint(len(hidden), (kept,), generator=source)
            rows[number].append(hidden[chosen])

        return hook

    hooks = [layer.register_forward_pre_hook(listen(number)) for number, layer in enumerate(layers)]
    for scene in scenes:
        clean = networks.encode(torch.from_numpy(render(scene)[::5]))[None]
        noise = torch.randn(clean.shape, generator=source)
        timestep = int(torch.randint(networks.schedule.num_train_timesteps, (1,), generator=source))
        noised = networks.schedule.add_noise(clean, noise, timestep)
        networks.unet(noised, torch.tensor(timestep), networks.embed([captions(scene)[0]]))
    for hook in hooks:
        hook.remove()
    queries = (layer.to_q(torch.cat(found)) for layer, found in zip(layers, rows, strict=True))
    return [
        found.unflatten(-1, (layer.heads, layer.head_dim)).transpose(0, 1).clone()
        for layer, found in zip(layers, queries, strict=True)
    ]


class Pupil:
    """A student encoder that learns the teacher's answers; every draw follows from (seed, step)."""

    def __init__(self, networks: TextToVideo, tokenizer: Tokenizer, queries: list[Tensor], steps: int, seed: int = 0):
        torch.manual_seed(seed)
        self.networks, self.tokenizer, self.queries, self.steps, self.seed = networks, tokenizer, queries, steps, seed
        self.layers = crossed(networks.unet)
        self.encoder = student(networks, tokenizer)
        self.average = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.encoder.parameters(), _RATE, betas=(0.9, 0.98), weight_decay=1e-2)
        self._scenes = _shuffled(training_scenes({name: 400 * count for name, count in _COUNTS.items()}), seed)
        for network in (networks.unet, networks.text_encoder):
            network.requires_grad_(False)

    def texts(self, step: int) -> tuple[list[str], list[str]]:
        """The paraphrases of a step, and the captions they mean."""
        rng = np.random.default_rng([self.seed, step])
        pairs = []
        for number in rng.integers(len(self._scenes), size=_BATCH):
            pairs.append(("", "") if rng.random() < _EMPTY else both(self._scenes[number], rng))
        return [text for text, _ in pairs], [target for _, target in pairs]

    def loss(self, encoder: TextEncoder, texts: list[str], targets: list[str], step: int) -> Tensor:
        """The answers' mean squared error, as a share of what the captions of the batch make of them."""
        source = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        with torch.no_grad():
            target_context = self.networks.text_encoder(self.networks.tokenizer(targets))
        context, total = encoder(self.tokenizer(texts)), torch.zeros(())
        for layer, queries in zip(self.layers, self.queries, strict=True):
            some = queries[:, torch.randint(queries.shape[1], (_QUERIES,), generator=source)]
            with torch.no_grad():
                right = answers(layer, some, target_context)
                spread = (right - right.mean(0)).square().mean() + 1e-8
            total = total + (answers(layer, some, context) - right).square().mean() / spread
        return total / len(self.layers)

    def step(self, number: int) -> float:
        """One update; returns the loss."""
        rate = _RATE * min(1.0, (number + 1) / _WARMUP) * 0.5 * (1 + math.cos(math.pi * number / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.loss(self.encoder, *self.texts(number), number)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.step()
        weight = 1 - min(_MEMORY, (number + 1) / (number + 10))
        for name, value in self.encoder.state_dict().items():
            self.average[name].lerp_(value, weight)
        return float(loss.detach())

    def averaged(self) -> TextEncoder:
        """The encoder with its averaged weights."""
        encoder = TextEncoder(self.encoder.config)
        encoder.load_state_dict(self.average)
        return encoder.eval()


def _shuffled(scenes: Iterator[Scene], seed: int) -> list[Scene]:
    found = list(scenes)
    return [found[number] for number in np.random.default_rng(seed).permutation(len(found))]


def both(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """What a person may write for a scene, and the caption in the words of training that asks for the same film."""
    chance, short = rng.random(), brief_captions(scene)
    if chance < _BRIEF:
        target = short[int(rng.integers(len(short)))]
        return _other_words(target, rng), target
    if chance < _BRIEF + _SAME:
        known = (*captions(scene), *short)
        target = known[int(rng.integers(len(known)))]
        return target, target
    return grammar.caption(scene, rng), grammar.canonical(scene)


def _other_words(text: str, rng: np.random.Generator) -> str:
    """A short caption of objects with other names of its colours, sizes and shapes."""
    tables = {**words.COLOURS, **words.SIZES, **words.SHAPES}

    def other(found: re.Match[str]) -> str:
        names = tables[found[0]]
        return names[int(rng.integers(len(names)))]

    # A colour after "on" is a background's, which has names of its own.
    text = re.sub(r"(?<!on )(?<!on a )(?<!on an )\b(?:" + "|".join(tables) + r")\b", other, text)
    return re.sub(r"\ban? (?=(\w))", lambda found: "an " if found[1] in "aeio" else "a ", text)


@torch.no_grad()
def student(networks: TextToVideo, tokenizer: Tokenizer) -> TextEncoder:
    """An encoder of LAYERS layers that begins as the teacher: words of both vocabularies keep their vectors, a new word
    begins as the mean of the pieces that the teacher reads, and a layer more than the teacher's begins as no change."""
    teacher = networks.text_encoder
    config = replace(
        teacher.config,
        vocab_size=tokenizer.vocab_size,
        num_hidden_layers=max(LAYERS, teacher.config.num_hidden_layers),
        pad_token_id=tokenizer.pad_id,
        bos_token_id=tokenizer.vocab_size - 2,
        eos_token_id=tokenizer.vocab_size - 1,
    )
    encoder = TextEncoder(config)
    weights = teacher.state_dict()
    table = "text_model.embeddings.token_embedding.weight"
    known = weights.pop(table)
    encoder.load_state_dict({**encoder.state_dict(), **weights})
    rows = encoder.state_dict()[table]
    for token, number in tokenizer.tokens().items():
        text = token.removesuffix("</w>")
        if token in networks.tokenizer.tokens():
            rows[number] = known[networks.tokenizer.tokens()[token]]
        elif token.endswith("</w>"):
            rows[number] = known[networks.tokenizer.pieces(text)].mean(0)
    for name, weight in encoder.state_dict().items():
        if name not in weights and name.endswith(("out_proj.weight", "fc2.weight")):
            weight.zero_()
    return encoder


@torch.inference_mode()
def likeness(pupil: Pupil, encoder: TextEncoder, rounds: int = 8) -> tuple[float, float]:
    """The loss on scenes that training never saw: for paraphrases, and for the captions themselves."""
    scenes, rng = list(training_scenes(_COUNTS, _UNSEEN)), np.random.default_rng(1)
    new, old = 0.0, 0.0
    for number in range(rounds):
        pairs = [both(scene, rng) for scene in scenes]
        targets = [text for _, text in pairs]
        new += float(pupil.loss(encoder, [text for text, _ in pairs], targets, number)) / rounds
        old += float(pupil.loss(encoder, targets, targets, number)) / rounds
    return new, old


def publish(model: Path, encoder: TextEncoder, tokenizer: Path, out: Path) -> None:
    """Write the model with the new text encoder to `out`; its other parts are copied."""
    shutil.copytree(model, out, dirs_exist_ok=True)
    shutil.rmtree(out / "tokenizer")
    shutil.copytree(tokenizer, out / "tokenizer")
    config = {**encoder.config.to_dict(), "dtype": "float32"}
    (out / "text_encoder/config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_weights(encoder, out / FILES["text_encoder"])
    write_manifest(out)


def vocabulary(out: Path) -> Tokenizer:
    """A tokenizer whose words are those of captions and of their paraphrases."""
    scenes, rng = (
        list(training_scenes({name: 200 * count for name, count in _WORDS.items()})),
        np.random.default_rng(2),
    )
    texts = [text for scene in scenes for text in (*captions(scene), *both(scene, rng))]
    return train_tokenizer(texts, _VOCABULARY, out)


def main(out: Path, steps: int) -> Path:
    """Train, and write the model with its new text encoder to `out`."""
    model = directory(find("builtin"))
    networks, tokenizer = TextToVideo.load(model), vocabulary(out.with_name(out.name + "-tokenizer"))
    queries = record(networks, list(training_scenes({name: 4 * n for name, n in _COUNTS.items()})), 64)
    pupil = Pupil(networks, tokenizer, queries, steps)
    for number in range(steps):
        loss = pupil.step(number)
        if number % 500 == 499:
            new, old = likeness(pupil, pupil.averaged())
            print(f"step {number + 1}: loss {loss:.4f}; unseen scenes {new:.4f}, in known words {old:.4f}", flush=True)
    publish(model, pupil.averaged(), out.with_name(out.name + "-tokenizer"), out)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the directory of the new model")
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    print(main(options.out, options.steps))
