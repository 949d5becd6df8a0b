"""A whole training, from nothing to a model directory: `flickbook train CONFIG --out DIR`.

Five parts, each of which detects its finished files, so that the same command resumes after a kill: tokenizer,
autoencoder, films as latents, the diffusion model, the published directory. From `--init` a directory's
autoencoder, tokenizer and weights are taken over, and training starts from them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig, autoencoder_keys
from flickbook.diffusion.schedule import NoiseSchedule
from flickbook.diffusion.text import TextConfig
from flickbook.diffusion.text_to_video import FILES, TextToVideo
from flickbook.diffusion.tokenizer import Tokenizer, train_tokenizer
from flickbook.diffusion.weights import load_weights
from flickbook.errors import MissingExtra, RequestError, WeightsError
from flickbook.files import replace_whole
from flickbook.hub.layout import weights_file
from flickbook.hub.manifest import read_config
from flickbook.learn import checkpoint
from flickbook.learn.autoencode import AutoencoderTrainer, frame_bank, latent_statistics, normalise
from flickbook.learn.check import check
from flickbook.learn.compute.precision import autocast
from flickbook.learn.config import TrainConfig, read
from flickbook.learn.dataset import GROUPS, Films, pixels, sentences, training_scenes, workers_of, write_shards
from flickbook.learn.progress import Adherence
from flickbook.learn.publish import publish
from flickbook.learn.train import Model, Trainer, warm_start
from flickbook.world.grammar import vocabulary

_SHARD = 250
#: Frames that the autoencoder encodes at once.
_ENCODED = 160
#: Films whose captions the tokenizer learns from, and films that tell the spread of the latents; seeds of their own.
_TOKENIZER_FILMS, _TOKENIZER_SEED = 4000, 50_000_000
_STATISTICS_FILMS, _STATISTICS_SEED = 120, 70_000_000


class Session:
    """The parts of one training in one directory."""

    def __init__(self, config: TrainConfig, out: Path, init: Path | None = None, accelerator: Any = None) -> None:
        self.config, self.out, self.init, self.accelerator = config, out, init, accelerator
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def tokenizer(self) -> Tokenizer:
        """Merges learned from the captions of the world's films."""
        directory = self.out / "tokenizer"
        if not (directory / "words.txt").exists():
            if self.init is not None:
                Tokenizer(self.init / "tokenizer")  # refuses another directory
                copy = self.out / "tokenizer.tmp"
                shutil.copytree(self.init / "tokenizer", copy, dirs_exist_ok=True)
                shutil.rmtree(directory, ignore_errors=True)
                os.replace(copy, directory)
            else:
                share = {group: round(_TOKENIZER_FILMS / len(self.config.world)) for group in self.config.world}
                scenes = training_scenes(share, first=_TOKENIZER_SEED)
                # The captions of these films miss rare words of the grammar, which training meets all the same.
                rare = vocabulary() if {*GROUPS} <= {*self.config.world} else frozenset[str]()
                texts, size = sentences(list(scenes)), self.config.vocab_size
                train_tokenizer(texts, size, directory, self.config.max_length, rare)
        tokenizer = Tokenizer(directory)
        room = TextConfig.from_dict(self.config.text_encoder).vocab_size
        if tokenizer.vocab_size > room:
            limit = f"must hold the tokenizer's {tokenizer.vocab_size} tokens"
            raise RequestError("text_encoder.vocab_size", room, limit, f"write {tokenizer.vocab_size}")
        return tokenizer

    def autoencoder(self) -> Autoencoder:
        """Trained on single frames, its latents of unit size; or taken over."""
        path, init = self.out / "autoencoder.safetensors", self.init
        config = AutoencoderConfig.from_dict(self.config.autoencoder.network)
        if init is not None:
            config = AutoencoderConfig.from_dict(read_config(init / "vae/config.json"), init / "vae/config.json")
        if not path.exists():
            start = None
            if init is not None:
                file = weights_file(init / "vae", Path(FILES["vae"]).stem)
                start = load_weights(lambda: Autoencoder(config), file, rename=autoencoder_keys).state_dict()
            kept = start if self.config.autoencoder.refine == "none" else None
            state = kept or self._train_autoencoder(config, start)
            temporary = path.with_suffix(".tmp")
            save_file({name: value.float().contiguous() for name, value in state.items()}, temporary)
            os.replace(temporary, path)
        network = Autoencoder(config)
        network.load_state_dict(load_file(path))
        return network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]

    def _train_autoencoder(self, config: AutoencoderConfig, start: dict[str, Tensor] | None) -> dict[str, Tensor]:
        work = self.out / "autoencoder"
        bank = frame_bank(self.config.autoencoder, workers_of(self.device))
        trainer = AutoencoderTrainer(self.config.autoencoder, bank, work, start)
        newest = checkpoint.latest(work)
        if newest is not None:
            trainer.restore(newest)
        for row in trainer.run():
            say("autoencoder", row)
        network = Autoencoder(config).to(self.device)
        network.load_state_dict(trainer.average)
        if start is not None and self.config.autoencoder.refine == "decoder":
            return network.state_dict()
        share = {group: max(1, _STATISTICS_FILMS // len(self.config.world)) for group in self.config.world}
        normalise(network, *latent_statistics(network, list(training_scenes(share, first=_STATISTICS_SEED))))
        return network.state_dict()

    def films(self, autoencoder: Autoencoder) -> Films:
        """The training films as latents, rendered and encoded where they are missing."""

        @torch.inference_mode()
        def encode(frames: Tensor) -> Tensor:
            found = []
            for part in torch.split(frames.to(self.device), _ENCODED):
                with autocast(self.device):
                    images = pixels(part).contiguous(memory_format=torch.channels_last)
                    found.append(autoencoder.encode(images).mean.float())
            return torch.cat(found).cpu()

        directory = self.out / "films"
        self._same_world(directory)
        scenes = training_scenes(self.config.world, self.config.first_film, self.config.coverage)
        write_shards(directory, list(scenes), encode, _SHARD, workers_of(self.device))
        return Films.load(directory, self.config.emphasis)

    def _same_world(self, directory: Path) -> None:
        """Refuse to mix the films of one world with those of another."""
        record = directory / "world.json"
        if not record.exists() and not any(directory.glob("films-*")):
            directory.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._world())
            replace_whole(record, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            return
        known = read_config(record) if record.exists() else {}
        if known != self._world():
            limit = f"must be that of the films in {directory}, {known or 'which is not known'}"
            remedy = "delete that folder, and they are rendered anew, or train into another one"
            raise RequestError("world", self._world(), limit, remedy)

    def _world(self) -> dict[str, Any]:
        """What decides the films, as `world.json` records it: only what is not the default."""
        coverage = {"coverage": self.config.coverage} if self.config.coverage < 1 else {}
        first = {"first_film": self.config.first_film} if self.config.first_film else {}
        return self.config.world | coverage | first

    def diffusion(self, films: Films, tokenizer: Tokenizer, autoencoder: Autoencoder) -> Trainer:
        """Train text encoder and U-Net to the end of the last stage."""
        trainer = Trainer(self.config, films, tokenizer, self.out / "diffusion", self.accelerator)
        newest = checkpoint.latest(trainer.out)
        if newest is not None:
            trainer.restore(newest)
        elif self.init is not None:
            warm_start(trainer, self.init)
        watch = Adherence(trainer, self.networks(trainer.model, tokenizer, autoencoder), self.config.adherence_every)
        for row in trainer.run():
            if trainer.rank == 0:
                say("diffusion", row)
            watch(row)
        return trainer

    def networks(self, model: Model, tokenizer: Tokenizer, autoencoder: Autoencoder) -> TextToVideo:
        """A model under training as one that makes films."""
        schedule = NoiseSchedule.from_config(self.config.scheduler)
        return TextToVideo(tokenizer, lambda: model.text_encoder, model.unet, autoencoder, schedule, self.device)

    def materials(self) -> tuple[Tokenizer, Autoencoder, Films]:
        """What the diffusion model is trained with. Of several processes the first makes the files."""
        with self.accelerator.main_process_first() if self.accelerator else nullcontext():
            tokenizer, autoencoder = self.tokenizer(), self.autoencoder()
            return tokenizer, autoencoder, self.films(autoencoder)

    def run(self) -> Path | None:
        """All parts. Returns the model's directory; None in every process but the first."""
        check(self.config, self.out, self.init, self.accelerator)
        self.out.mkdir(parents=True, exist_ok=True)
        tokenizer, autoencoder, films = self.materials()
        trainer = self.diffusion(films, tokenizer, autoencoder)
        if trainer.rank != 0:
            return None
        model = trainer.averaged(self.config.publish_decay)
        publish(model, autoencoder, self.out / "tokenizer", self.config, self.out / "model")
        return self.out / "model"


def say(part: str, row: dict[str, Any]) -> None:
    """One line of progress on stderr."""
    words = (f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in row.items())
    print(f"{part}: {' '.join(words)}", file=sys.stderr, flush=True)


@contextmanager
def accelerated(use: bool) -> Iterator[Any]:
    """An `accelerate.Accelerator` where several devices share the work, else None."""
    if not use:
        yield None
        return
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
    except ImportError as error:
        raise MissingExtra("accelerate", "train") from error
    # The others wait while the first trains the autoencoder, and the usual limit is minutes.
    patient = InitProcessGroupKwargs(timeout=timedelta(days=7))
    yield Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patient])


def newest_checkpoint(out: Path) -> Path | None:
    """Where a training in `out` would go on; None where there is nothing yet."""
    return checkpoint.latest(out / "diffusion") or checkpoint.latest(out / "autoencoder")


def main(config: Path, out: Path, init: Path | None = None, accelerate: bool = False) -> Path | None:
    """Run a training to its end; started again with the same `out`, it goes on where it was. Returns the model's path
    (of several processes only in the first).

    Raises RequestError naming the field for a config that cannot be read, WeightsError for an `init` that is no model.
    """
    if init is not None and not (init / "model_index.json").is_file():
        raise WeightsError(init, "holds no model_index.json", "name a model's directory in diffusers' layout")
    with accelerated(accelerate) as accelerator:
        return Session(read(config), out, init, accelerator).run()
