"""A text-to-video model as a whole: prompts to embeddings, noise to latents, latents to frames.

Needs only torch, safetensors and tokenizers. Training, evaluation and the engine are built on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from flickbook.diffusion import heap
from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig, autoencoder_keys, frames_of
from flickbook.diffusion.forecast import Model, Pace
from flickbook.diffusion.pack import pack
from flickbook.diffusion.sampler import SamplerState, sample
from flickbook.diffusion.schedule import NoiseSchedule
from flickbook.diffusion.text import TextConfig, TextEncoder, text_keys
from flickbook.diffusion.tiles import decode_in_tiles
from flickbook.diffusion.tokenizer import Tokenizer
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig
from flickbook.diffusion.weights import Difference, load_weights, present
from flickbook.hub.layout import weights_file
from flickbook.hub.manifest import read_config

#: diffusers' paths of each network's weights; published files may have a precision in their name.
FILES = {
    "text_encoder": "text_encoder/model.safetensors",
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
}

#: The file in the directory of a few-step student.
DIFFERENCE = "difference.safetensors"

#: Frames encoded at once; with two, the encoder needs no more memory than the decoder.
_ENCODED = 2


def noise(seeds: Sequence[int], shape: tuple[int, int, int, int]) -> Tensor:
    """Unit Gaussian latents (films, c, f, h, w), each film's from its own CPU generator, so that a film starts from the
    same noise in any batch and on any device."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def generators(seeds: Sequence[int], shape: tuple[int, int, int, int]) -> list[torch.Generator]:
    """Each film's CPU generator in its state after drawing `noise` of this shape."""
    found = [torch.Generator().manual_seed(seed) for seed in seeds]
    for generator in found:
        torch.randn(shape, generator=generator)
    return found


def _reader(config: TextConfig, path: Path, dtype: torch.dtype, device: str | torch.device) -> TextEncoder:
    return load_weights(lambda: TextEncoder(config), path, dtype=dtype, device=device, rename=text_keys).eval()


@dataclass(eq=False)
class TextToVideo:
    """A loaded model in diffusers' layout. `reader` loads the text encoder when it is first needed.

    For a model from files, `reader` also accepts `dtype` and `device`.
    """

    tokenizer: Tokenizer
    reader: Callable[..., TextEncoder]
    unet: UNet3D
    autoencoder: Autoencoder
    schedule: NoiseSchedule
    device: torch.device

    @classmethod
    def load(
        cls,
        directory: Path,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        student: str = "",
    ) -> TextToVideo:
        """Load a model directory; with `student`, the name of its directory, the few-step student, which has the
        schedule of students.

        Raises WeightsError with the file that is missing, damaged or of another kind; for a damaged text encoder only
        when it is first used.
        """
        places = {part: directory / part for part in FILES}
        configs = {part: read_config(place / "config.json") for part, place in places.items()}
        text = TextConfig.from_dict(configs["text_encoder"], directory / "text_encoder/config.json")
        unet = UNet3DConfig.from_dict(configs["unet"], places["unet"] / "config.json")
        vae = AutoencoderConfig.from_dict(configs["vae"], directory / "vae/config.json")
        scheduler = directory / "scheduler/scheduler_config.json"
        file = {part: weights_file(places[part], Path(name).stem) for part, name in FILES.items()}
        schedule = NoiseSchedule.from_config(read_config(scheduler), scheduler)
        difference = Difference(directory / student / DIFFERENCE) if student else None
        return cls(
            Tokenizer(directory / "tokenizer"),
            partial(_reader, text, present(file["text_encoder"]), dtype=dtype, device=device),
            load_weights(lambda: UNet3D(unet), file["unet"], dtype=dtype, device=device, difference=difference).eval(),
            load_weights(lambda: Autoencoder(vae), file["vae"], dtype=dtype, device=device, rename=autoencoder_keys)
            .to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            .eval(),
            schedule.of_students() if student else schedule,
            torch.device(device),
        )

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The text encoder, loaded on first use."""
        return self.reader()

    def unload_text_encoder(self) -> None:
        """Unload the text encoder to free memory; it is reloaded when it is next used."""
        if vars(self).pop("text_encoder", None) is not None:
            heap.give_back()

    def in_memory(self) -> list[nn.Module]:
        """The networks that are loaded now."""
        return [self.unet, self.autoencoder, *([self.text_encoder] if "text_encoder" in vars(self) else [])]

    def pack(self) -> TextToVideo:
        """Optimise the U-Net and the autoencoder for this CPU (see `pack`); they cannot be trained afterwards."""
        for network in (self.unet, self.autoencoder):
            pack(network)
        return self

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """n prompts -> embeddings (n, tokens, width)."""
        embedded: Tensor = self.text_encoder(self.tokenizer(prompts).to(self.device))
        return embedded

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """The shape (c, f, h, w) of a film's latents; `height` and `width` are in pixels."""
        factor = self.autoencoder.config.factor
        return (self.unet.config.in_channels, frames, height // factor, width // factor)

    @torch.inference_mode()
    def encode(self, frames: Tensor, at_once: int = _ENCODED) -> Tensor:
        """Frames (n, h, w, 3) uint8 -> latents (c, n, h, w), float32: the mean of the autoencoder's distribution."""
        weight = next(self.autoencoder.parameters())
        pixels = frames.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = [self.autoencoder.encode(part.to(weight.dtype)).mode() for part in torch.split(pixels, at_once)]
        return torch.cat(latents).transpose(0, 1).float() * self.autoencoder.config.scaling_factor

    @torch.inference_mode()
    def denoise(
        self,
        state: SamplerState,
        context: Tensor,
        negative: Tensor,
        guidance: Sequence[float],
        solver: str,
        fps: Sequence[float] | None = None,
        pace: Pace | None = None,
    ) -> Iterator[SamplerState]:
        """Run the remaining steps of `state` and yield the state after each; arguments as in `guided` and `sample`."""
        yield from sample(self.guided(context, negative, guidance, fps), state, self.schedule, solver, pace=pace)

    @torch.inference_mode()
    def guided(
        self,
        context: Tensor,
        negative: Tensor,
        guidance: Sequence[float],
        fps: Sequence[float] | None = None,
        halves: bool = False,
    ) -> Model:
        """The network as a function of (x, timestep), with prompts and guidance applied.

        `context` and `negative` are (films, tokens, width); `guidance` is one scale per film. If all scales are 1, the
        network runs once per step instead of twice (classifier-free guidance, Ho & Salimans 2022, arXiv 2207.12598).
        `fps`, one per film, is for networks trained with it. With `halves` the network runs without and with prompts
        one after the other, which is slower and needs less memory.
        """
        guided = any(scale != 1 for scale in guidance)
        scale = torch.tensor(guidance, dtype=context.dtype, device=self.device).view(-1, 1, 1, 1, 1)
        rate = None if fps is None else torch.tensor(fps, device=self.device)
        if guided and halves:
            ones = [1.0] * len(guidance)
            lone = [self.guided(words, words, ones, fps) for words in (negative, context)]

            def parted(x: Tensor, timestep: Tensor) -> Tensor:
                without, with_words = lone[0](x, timestep), lone[1](x, timestep)
                return without + scale * (with_words - without)

            return parted
        answers = self.unet.prompt(torch.cat([negative, context]) if guided else context)

        def model(x: Tensor, timestep: Tensor) -> Tensor:
            x = x.to(context.dtype)
            if not guided:
                return self.unet(x, timestep, answers, rate)  # type: ignore[no-any-return]
            without, with_words = self.unet(x, timestep, answers, rate).chunk(2)
            return without + scale * (with_words - without)  # type: ignore[no-any-return]

        return model

    @torch.inference_mode()
    def decode(self, latents: Tensor, at_once: int = 2, tiled: bool = False) -> Iterator[Tensor]:
        """Latents (c, f, h, w) of one film -> frames (n, height, width, 3) uint8 on the CPU, `at_once` at a time."""
        pictures = latents.transpose(0, 1) / self.autoencoder.config.scaling_factor
        weight = next(self.autoencoder.parameters())
        with heap.reused():
            for part in torch.split(pictures.to(weight.dtype), at_once):
                part = part.to(weight.device).contiguous(memory_format=torch.channels_last)
                if tiled:
                    yield frames_of(decode_in_tiles(self.autoencoder.decode, part, self.autoencoder.config.factor))
                else:
                    yield frames_of(self.autoencoder.decode(part))
