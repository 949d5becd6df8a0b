"""The family of our own 3D U-Net: the built-in model, and every model of ModelScope's shape."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from flickbook.catalogue import list_models
from flickbook.diffusion.forecast import Answers, Pace
from flickbook.diffusion.sampler import STOCHASTIC, SamplerState, sample
from flickbook.diffusion.schedule import END
from flickbook.diffusion.sketch import Sketch, load_sketch
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.family import Setup, Sources
from flickbook.engine.memory.components import passing
from flickbook.engine.memory.quantize import quantize
from flickbook.engine.unet import sliding_window
from flickbook.engine.unet.first_frame import FirstFrame
from flickbook.engine.unet.prompt_cache import PromptCache
from flickbook.errors import RequestError, WeightsError
from flickbook.hub.manifest import HashCache, fingerprint
from flickbook.spec import Placement, Plan, Speed
from flickbook.windows import prompt_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptEmbedding:
    """Prompts as vectors (films, tokens, width): `contexts[i]` is shown from frame `frames[i]` on."""

    frames: list[int]
    contexts: list[Tensor]
    negative: Tensor


#: How far forecasts of the network's answers are trusted; None asks it at every step. docs/speed.md has what it costs.
PACES: Final[dict[Speed, Pace | None]] = {"exact": None, "balanced": Pace(error=0.1, most=4, lead=7)}

#: Tiny decoders, each under the first 16 digits of the SHA-256 of the autoencoder that taught it.
_SKETCHES: Final = Path(__file__).parent / "sketches"
BUILTIN: Final = "builtin"
#: PSNR (dB) below which the built-in autoencoder is taken not to know a picture. Of 96 frames of its world the lowest
#: was 24.0 dB; of nine photographs and logos the highest was 19.5.
REPRESENTABLE: Final = 22.0
#: Standard deviation over the pixels of a channel, of 255, below which a picture is a plain colour.
PLAIN: Final = 4.0
#: A film of strength s starts where alpha is (1 - s) to this power. What is remade has s as its share of noise in the
#: variance, so 0.5 has as much noise as signal. A still picture must give way sooner, or nothing would move.
_REMADE, _LED = 0.5, 1.5
#: Texts whose meaning is kept: films of one prompt, and every film's negative one, are read once.
_TEXTS = 256


class UNetFamily:
    """A loaded text-to-video model; films of one shape run as one batch."""

    def __init__(
        self,
        networks: TextToVideo,
        weights: dict[str, str],
        placement: Placement,
        kept: PromptCache | None = None,
        setup: Setup | None = None,
    ) -> None:
        self.networks, self.weights, self.placement, self._kept, self._setup = networks, weights, placement, kept, setup
        self.notes: list[str] = []
        self._read: dict[str, Tensor] = {}
        self._taken: tuple[int, ...] = ()

    @classmethod
    def load(cls, setup: Setup) -> UNetFamily:
        """Verify the files against manifest.json, or hash them where there is none, then load them.

        Raises WeightsError naming the file and its hash.
        """
        weights = fingerprint(setup.directory, HashCache.usual())
        placement = setup.placement
        # Networks that wait in the machine's memory are loaded there.
        home = placement.device if placement.offload == "none" else "cpu"
        networks = TextToVideo.load(setup.directory, getattr(torch, placement.dtype), home)
        notes = []
        if setup.loras:
            from flickbook.engine.lora.apply import inject  # peft takes a second to load

            notes = [str(match) for match in inject(networks, setup.loras)]
        if placement.quantize:
            quantize(networks.unet, placement.quantize)
        elif placement.device == "cpu":
            networks.pack()
        family = cls(networks, weights, placement, PromptCache.of(setup, weights), setup)
        family.notes += notes
        family.lower(placement)
        return family

    def lower(self, placement: Placement) -> None:
        """Take a placement further down the ladder."""
        networks, before = self.networks, self.placement
        self._read.clear()
        vars(self).pop("_tiny", None)
        self.placement, networks.device = placement, torch.device(placement.device)
        # Loaded again it goes where there is room now.
        networks.reader = partial(networks.reader, device=placement.device if placement.offload == "none" else "cpu")
        for network in networks.in_memory():
            if placement.dtype != before.dtype:
                network.to(dtype=getattr(torch, placement.dtype))
            if placement.offload == "none":
                network.to(placement.device)

    def _awake(self, working: torch.nn.Module) -> None:
        """Bring the network that works next to the device; where networks wait in memory, send the others there."""
        if self.placement.offload == "none":
            return
        networks = self.networks
        for network in networks.in_memory():
            if network is not working:
                network.to("cpu")
        working.to(networks.device)

    def unread(self, prompt: str) -> str:
        """The end of a prompt that is cut off."""
        return self.networks.tokenizer.unread(prompt)

    def encode(self, plans: Sequence[Plan]) -> PromptEmbedding:
        """What each film shows from which frame on, and what it should not show."""
        count = len(plans)
        turns = [(0, [p.prompt for p in plans])]
        turns += [(frame, [p.prompt_at[i][1] for p in plans]) for i, (frame, _) in enumerate(plans[0].prompt_at)]
        texts = [text for _, prompts in turns for text in prompts] + [p.negative_prompt for p in plans]
        *contexts, negative = torch.split(torch.cat([self.embedded(text) for text in texts]), count)
        return PromptEmbedding([frame for frame, _ in turns], contexts, negative)

    def embedded(self, text: str) -> Tensor:
        """What a text means (1, tokens, width). Each is read by itself: no bit may depend on its company."""
        found, placement = self._read.get(text), self.placement
        if found is None:
            ids = self.networks.tokenizer([text])
            found = None if self._kept is None else self._kept.find(ids, placement)
            if found is None:
                found = self._encoded(text)
                if self._kept is not None:
                    self._kept.keep(ids, placement, found)
            found = found.to(self.networks.device)
            if len(self._read) >= _TEXTS:
                self._read.clear()
            if self.placement is placement:  # and not lowered by the film beside which this is read
                self._read[text] = found
        return found

    def reads_aside(self) -> bool:
        """Where nothing is moved for it, and no text encoder loaded again."""
        return self.placement.offload == "none" and not self._passing()

    def _passing(self) -> bool:
        """Whether the text encoder is let go of once it has read."""
        setup = self._setup
        return setup is not None and passing(setup.model, setup.directory, self.placement, bool(setup.loras)) > 0

    def _encoded(self, text: str) -> Tensor:
        """What the text encoder makes of a text; it may be loaded for that."""
        encoder = self.networks.text_encoder
        # It was not there when the others were lowered.
        encoder.to(dtype=getattr(torch, self.placement.dtype))
        if self.placement.offload == "none":
            encoder.to(self.networks.device)
        self._awake(encoder)
        return self.networks.embed([text])

    @torch.inference_mode()
    def denoise(
        self,
        plans: Sequence[Plan],
        embedding: PromptEmbedding,
        sources: Sources | None = None,
        previews: bool = False,
        start: SamplerState | None = None,
    ) -> Generator[SamplerState, None, None]:
        """One state after each step, from each film's own noise, from what it begins with, or going on from `start`."""
        plan, networks = plans[0], self.networks
        window = plan.window or plan.num_frames
        if self._passing():
            networks.let_go_of_reader()
        state, first = self._begin(plans, sources or {}, window)
        state = state if start is None else start.to(networks.device)
        self._taken = state.timesteps if plan.strength else ()
        self._awake(networks.unet)  # `guided` shows it the prompts at once
        scales, rates = [p.guidance_scale for p in plans], [p.condition_fps or p.fps for p in plans]
        device, negative = networks.device, embedding.negative.to(networks.device)
        halves = self.placement.slicing
        models = [networks.guided(words.to(device), negative, scales, rates, halves) for words in embedding.contexts]

        def model(x: Tensor, timestep: Tensor, begins: int) -> Tensor:
            self._awake(networks.unet)  # a preview may have woken the autoencoder since
            return models[prompt_of(begins, window, embedding.frames)](x, timestep)

        whole = sliding_window.blended(model, plan.num_frames, window, state.timesteps, plan.stride)
        known = None if first is None else first.held

        def led(x: Tensor, timestep: Tensor) -> Tensor:
            return whole(x if first is None else first.shown(x), timestep)

        yield from sample(led, state, networks.schedule, plan.scheduler, known, PACES[plan.speed])

    def _begin(self, plans: Sequence[Plan], sources: Sources, window: int) -> tuple[SamplerState, FirstFrame | None]:
        """The state before the first step, and the frame that a film of several frames begins with.

        A film of a `strength` below 1 starts from the image or the video under the noise that `_outline` chooses
        (SDEdit, Meng et al. 2021, arXiv 2108.01073). Raises RequestError for what the autoencoder cannot represent.
        """
        plan, networks = plans[0], self.networks
        shape, left = self._outline(plan)
        seeds = [p.seed for p in plans]
        noise = sliding_window.noise(seeds, shape, window, plan.stride).to(networks.device)
        drawing = sliding_window.generators(seeds, shape, window) if plan.scheduler in STOCHASTIC else []
        if plan.strength is None:
            return SamplerState.begin(noise, left, drawing), None
        self._awake(networks.autoencoder)
        given = [networks.encode(torch.from_numpy(sources[p.image or p.video])) for p in plans]
        if plan.model == BUILTIN and plan.num_frames > 1:
            for each, latents in zip(plans, given, strict=True):
                self._check_representable(each, sources[each.image or each.video][0], latents[:, :1])
        source = torch.stack([each.expand(shape) for each in given])
        start = noise if plan.strength == 1 else networks.schedule.add_noise(source, noise, left[0])
        leads = bool(plan.image) and plan.num_frames > 1
        first = FirstFrame(source[:, :, :1], networks.schedule.num_train_timesteps) if leads else None
        return SamplerState.begin(start, left, drawing), first

    def _outline(self, plan: Plan) -> tuple[tuple[int, int, int, int], Sequence[int]]:
        """The shape (c, f, h, w) of a film's latents, and the time steps that are taken."""
        shape = self.networks.latent_shape(plan.num_frames, plan.height, plan.width)
        schedule, steps = self.networks.schedule, plan.num_inference_steps
        if plan.strength is None or plan.strength == 1:
            return shape, schedule.timesteps(steps)
        fall = _LED if plan.image and plan.num_frames > 1 else _REMADE
        return shape, schedule.timesteps_from((1 - plan.strength) ** fall, int(steps * plan.strength))

    def _check_representable(self, plan: Plan, picture: np.ndarray, latents: Tensor) -> None:
        """Refuse a picture (h, w, 3) uint8 that its `latents` (c, 1, h, w) do not give back.

        A plain colour is taken as it is: there is nothing in it that a film could lose.
        """
        if picture.std(axis=(0, 1)).max() < PLAIN:
            return
        (made,) = self.networks.decode(latents)
        error = (made[0].float() - torch.from_numpy(picture).float()).square().mean().clamp(min=1e-6)
        found = float(10 * torch.log10(255**2 / error))
        if found < REPRESENTABLE:
            kind = "image" if plan.image else "video"
            able = [
                m.name for m in list_models() if m.family != "unet" and kind in m.inputs and m.num_frames.range[1] > 1
            ]
            limit = f"{plan.model} only knows pictures of its own world, and gives this one back at {found:.0f} dB"
            remedy = f"choose a model that can begin from it: {', '.join(able)}"
            raise RequestError(kind, (plan.image or plan.video)[:12], limit, remedy)

    def pack(self, state: SamplerState) -> dict[str, Tensor]:
        """A state as tensors, without what can be told from the rest."""
        if state.done:
            state = replace(state, history=(), answers=tuple(Answers(asked=each.asked) for each in state.answers))
        tensors = state.to_tensors()
        if state.done or (state.history and state.history[-1].x0 is state.x0):
            tensors.pop("x0", None)
        return tensors

    def unpack(self, plans: Sequence[Plan], tensors: Mapping[str, Tensor]) -> SamplerState:
        """The state that `pack` wrote, on the CPU. Raises WeightsError where it is not one of these films."""
        state, (shape, timesteps) = SamplerState.from_tensors(tensors), self._outline(plans[0])
        if tuple(state.latents.shape) != (len(plans), *shape) or state.timesteps != tuple(timesteps):
            raise WeightsError("checkpoint", "is of films of another shape", "start the run again")
        if state.x0 is None:
            # The last estimate is the result itself.
            state = replace(state, x0=state.latents if state.done else state.history[-1].x0)
        return state

    def applied(self, plans: Sequence[Plan], state: SamplerState) -> list[str]:
        """How often the network was asked, of each film that was not made at speed exact; "" for the others."""
        counts = [state.total - each.asked for each in state.answers]
        said = f"of {state.total} steps were foretold"
        return [f"speed {plans[0].speed}: {count} {said}" for count in counts] or [""] * len(plans)

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """sigma after each step of the last run, 0 after the last."""
        schedule = self.networks.schedule
        return [schedule.level(t).sigma for t in (*(self._taken or schedule.timesteps(num_inference_steps))[1:], END)]

    def show(self, preview: Tensor) -> np.ndarray:
        """The frames of one film's x0 (channels, frames, h, w)."""
        return np.concatenate([frames for _, _, frames in self.decode(preview[None])])

    @cached_property
    def _tiny(self) -> Sketch | None:
        """The tiny decoder that was taught by this very autoencoder, if there is one; loaded with the first preview."""
        taught = next((digest for name, digest in self.weights.items() if name.startswith("vae/")), "")
        path = _SKETCHES / f"{taught[:16]}.safetensors"
        if not path.exists():
            return None
        try:
            return load_sketch(path, getattr(torch, self.placement.dtype), self.networks.device)
        except WeightsError as error:  # nothing that is kept depends on it
            logger.warning("previews are decoded by the autoencoder itself: %s", error)
            return None

    def sketch(self, preview: Tensor) -> np.ndarray:
        """As `show`, by the tiny decoder where there is one."""
        return self.show(preview) if self._tiny is None else self._tiny.draw(preview).numpy()

    def decode(self, latents: Tensor) -> Iterator[tuple[int, int, np.ndarray]]:
        """(film, first frame, frames), in order."""
        self._awake(self.networks.autoencoder)
        for film, one in enumerate(latents):
            start = 0
            for frames in self.networks.decode(one, self.placement.decode_frames, self.placement.tiling):
                yield film, start, frames.numpy()
                start += len(frames)
