"""The model family of the project's own 3D U-Net: the built-in model and models of ModelScope's architecture."""

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
from flickbook.engine.memory.components import unloaded_bytes
from flickbook.engine.memory.quantize import quantize
from flickbook.engine.unet import sliding_window
from flickbook.engine.unet.first_frame import FirstFrame
from flickbook.engine.unet.prompt_cache import PromptCache
from flickbook.errors import RequestError, WeightsError
from flickbook.hub.manifest import HashCache, fingerprint
from flickbook.media.sound.samples import Sound
from flickbook.spec import Placement, Plan, Speed
from flickbook.windows import prompt_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptEmbedding:
    """Prompt embeddings (films, tokens, width): `contexts[i]` applies from frame `frames[i]` on."""

    frames: list[int]
    contexts: list[Tensor]
    negative: Tensor


#: How far forecasts of the network's outputs are trusted; None runs it in every step. docs/speed.md has the cost.
PACES: Final[dict[Speed, Pace | None]] = {"exact": None, "balanced": Pace(error=0.1, most=4, lead=7), "turbo": None}
#: The same for a single picture, whose forecasts miss by more: docs/speed.md.
_PICTURE: Final = Pace(error=0.03, most=4, lead=7)

#: Tiny decoders, each named by the first 16 digits of the SHA-256 of the autoencoder it was trained on.
_SKETCHES: Final = Path(__file__).parent / "sketches"
BUILTIN: Final = "builtin"
#: PSNR (dB) of its reconstruction below which the built-in autoencoder cannot represent a picture. The lowest of 96
#: frames of its training world was 24.0 dB, the highest of nine photographs and logos 19.5 dB.
REPRESENTABLE: Final = 22.0
#: Per-channel standard deviation (of 255) below which a picture counts as a plain colour.
PLAIN: Final = 4.0
#: A film of strength s starts where alpha is (1 - s) to this power: the first for a video or a still, the second for a
#: film from an image. With 0.75 the built-in model blends its input and the prompt at strength 0.5: docs/generate.md. A
#: film from an image needs more noise to move.
_REMADE, _LED = 0.75, 1.5
#: The most prompt embeddings kept in memory; a prompt shared by several films is encoded once.
_TEXTS = 256


def _pace(plan: Plan) -> Pace | None:
    return _PICTURE if plan.speed == "balanced" and plan.num_frames == 1 else PACES[plan.speed]


class UNetFamily:
    """A loaded text-to-video model. Films of one shape run as one batch."""

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
        self._timesteps: tuple[int, ...] = ()

    @classmethod
    def load(cls, setup: Setup, packed: bool = True) -> UNetFamily:
        """Verify the files against manifest.json, or hash them if there is none; then load them.

        Without `packed` every layer stays a plain module on a CPU too, so that hooks can read it; films are then equal
        up to rounding. Raises WeightsError with the file and its hash.
        """
        files, student = fingerprint(setup.directory, HashCache.usual()), setup.model.student
        weights = {name: digest for name, digest in files.items() if student or not name.startswith("turbo/")}
        placement = setup.placement
        # Offloaded networks are loaded into the machine's memory.
        home = placement.device if placement.offload == "none" else "cpu"
        networks = TextToVideo.load(setup.directory, getattr(torch, placement.dtype), home, student)
        notes = []
        if setup.loras:
            from flickbook.engine.lora.apply import inject  # imported late: peft takes a second

            notes = [str(match) for match in inject(networks, setup.loras)]
        if placement.quantize:
            quantize(networks.unet, placement.quantize)
        elif placement.device == "cpu" and packed:
            networks.pack()
        family = cls(networks, weights, placement, PromptCache.of(setup, weights), setup)
        family.notes += notes
        family.lower(placement)
        return family

    def lower(self, placement: Placement) -> None:
        """Switch to a placement that is further down the fallbacks."""
        networks, before = self.networks, self.placement
        self._read.clear()
        vars(self).pop("_tiny", None)
        self.placement, networks.device = placement, torch.device(placement.device)
        # A text encoder that is reloaded later goes to the new place.
        networks.reader = partial(networks.reader, device=placement.device if placement.offload == "none" else "cpu")
        for network in networks.in_memory():
            if placement.dtype != before.dtype:
                network.to(dtype=getattr(torch, placement.dtype))
            if placement.offload == "none":
                network.to(placement.device)

    def _bring_to_device(self, working: torch.nn.Module) -> None:
        """Move the network that works next to the device; with offloading, move the others off it."""
        if self.placement.offload == "none":
            return
        networks = self.networks
        for network in networks.in_memory():
            if network is not working:
                network.to("cpu")
        working.to(networks.device)

    def unread(self, prompt: str) -> str:
        """The end of a prompt that is too long and is cut off."""
        return self.networks.tokenizer.unread(prompt)

    def encode(self, plans: Sequence[Plan]) -> PromptEmbedding:
        """The prompt embeddings of the films, by first frame, and those of their negative prompts."""
        count = len(plans)
        turns = [(0, [p.prompt for p in plans])]
        turns += [(frame, [p.prompt_at[i][1] for p in plans]) for i, (frame, _) in enumerate(plans[0].prompt_at)]
        texts = [text for _, prompts in turns for text in prompts] + [p.negative_prompt for p in plans]
        *contexts, negative = torch.split(torch.cat([self.embedded(text) for text in texts]), count)
        return PromptEmbedding([frame for frame, _ in turns], contexts, negative)

    def embedded(self, text: str) -> Tensor:
        """The embedding (1, tokens, width) of one text. Encoded alone, so that no bit depends on a batch."""
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
            if self.placement is placement:  # unchanged: not lowered by the film that runs at the same time
                self._read[text] = found
        return found

    def can_prefetch_prompts(self) -> bool:
        """True if encoding neither moves networks nor reloads the text encoder."""
        return self.placement.offload == "none" and not self._passing()

    def _passing(self) -> bool:
        """Whether the text encoder is unloaded after encoding."""
        setup = self._setup
        return setup is not None and unloaded_bytes(setup.model, setup.directory, self.placement, bool(setup.loras)) > 0

    def _encoded(self, text: str) -> Tensor:
        """Run the text encoder on a text, reloading it if needed."""
        encoder = self.networks.text_encoder
        # A reloaded encoder does not have the precision that `lower` set for the others.
        encoder.to(dtype=getattr(torch, self.placement.dtype))
        if self.placement.offload == "none":
            encoder.to(self.networks.device)
        self._bring_to_device(encoder)
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
        """Yield one state after each step, starting from each film's noise and input, or resuming from `start`."""
        plan, networks = plans[0], self.networks
        window = plan.window or plan.num_frames
        if self._passing():
            networks.unload_text_encoder()
        state, first = self._begin(plans, sources or {}, window)
        state = state if start is None else start.to(networks.device)
        self._timesteps = state.timesteps if plan.strength else ()
        self._bring_to_device(networks.unet)  # `guided` uses the U-Net immediately
        scales, rates = [p.guidance_scale for p in plans], [p.condition_fps or p.fps for p in plans]
        device, negative = networks.device, embedding.negative.to(networks.device)
        halves = self.placement.slicing
        models = [networks.guided(words.to(device), negative, scales, rates, halves) for words in embedding.contexts]

        def model(x: Tensor, timestep: Tensor, begins: int) -> Tensor:
            self._bring_to_device(networks.unet)  # a preview may have moved the autoencoder to the device since
            return models[prompt_of(begins, window, embedding.frames)](x, timestep)

        whole = sliding_window.blended(model, plan.num_frames, window, state.timesteps, plan.stride)
        known = None if first is None else first.held

        def led(x: Tensor, timestep: Tensor) -> Tensor:
            return whole(x if first is None else first.shown(x), timestep)

        yield from sample(led, state, networks.schedule, plan.scheduler, known, _pace(plan))

    def _begin(self, plans: Sequence[Plan], sources: Sources, window: int) -> tuple[SamplerState, FirstFrame | None]:
        """The state before the first step, and the first frames of films from an image or kept latents.

        With a `strength` below 1 a film starts from its image or video with the noise that `_outline` chooses (SDEdit,
        Meng et al. 2021, arXiv 2108.01073). Raises RequestError for an input that the autoencoder cannot represent.
        """
        plan, networks = plans[0], self.networks
        shape, left = self._outline(plan)
        seeds = [p.seed for p in plans]
        noise = sliding_window.noise(seeds, shape, window, plan.stride).to(networks.device)
        drawing = sliding_window.generators(seeds, shape, window) if plan.scheduler in STOCHASTIC else []
        if plan.strength is None:
            return SamplerState.begin(noise, left, drawing), None
        if plan.overlap:
            kept = torch.stack([torch.from_numpy(sources[f"latents:{p.latents}"]).float() for p in plans])
            kept = kept.to(networks.device)
            # The last of the kept frames is the guess for all that follow.
            later = kept[:, :, -1:].expand(-1, -1, shape[1] - kept.shape[2], -1, -1)
            source = torch.cat([kept, later], dim=2)
            start = noise if plan.strength == 1 else networks.schedule.add_noise(source, noise, left[0])
            return SamplerState.begin(start, left, drawing), FirstFrame(kept, networks.schedule.num_train_timesteps)
        self._bring_to_device(networks.autoencoder)
        encoded = [networks.encode(torch.from_numpy(sources[p.image or p.video])) for p in plans]
        if plan.model == BUILTIN and plan.num_frames > 1:
            for each, latents in zip(plans, encoded, strict=True):
                self._check_representable(each, sources[each.image or each.video][0], latents[:, :1])
        source = torch.stack([each.expand(shape) for each in encoded])
        start = noise if plan.strength == 1 else networks.schedule.add_noise(source, noise, left[0])
        leads = bool(plan.image) and plan.num_frames > 1
        first = FirstFrame(source[:, :, :1], networks.schedule.num_train_timesteps) if leads else None
        return SamplerState.begin(start, left, drawing), first

    def _outline(self, plan: Plan) -> tuple[tuple[int, int, int, int], Sequence[int]]:
        """The shape (c, f, h, w) of a film's latents, and its time steps."""
        shape = self.networks.latent_shape(plan.num_frames, plan.height, plan.width)
        schedule, steps = self.networks.schedule, plan.num_inference_steps
        if plan.strength is None or plan.strength == 1:
            return shape, schedule.timesteps(steps)
        fall = _LED if (plan.image and plan.num_frames > 1) or plan.overlap else _REMADE
        return shape, schedule.timesteps_from((1 - plan.strength) ** fall, int(steps * plan.strength))

    def _check_representable(self, plan: Plan, picture: np.ndarray, latents: Tensor) -> None:
        """Raise RequestError for a picture (h, w, 3) uint8 that its `latents` (c, 1, h, w) do not reconstruct.

        A plain colour always passes: it has no detail to lose. The error's value is the SHA-256 of the picture.
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
            limit = (
                f"{plan.model} represents only images like its training films; the PSNR of this one is {found:.0f} dB"
            )
            remedy = f"choose a model that can start from it: {', '.join(able)}"
            raise RequestError(kind, plan.image or plan.video, limit, remedy)

    def pack(self, state: SamplerState) -> dict[str, Tensor]:
        """A state as tensors, without those that `unpack` can derive from the others."""
        if state.done:
            state = replace(
                state, history=(), answers=tuple(Answers(evaluations=each.evaluations) for each in state.answers)
            )
        tensors = state.to_tensors()
        if state.done or (state.history and state.history[-1].x0 is state.x0):
            tensors.pop("x0", None)
        return tensors

    def unpack(self, plans: Sequence[Plan], tensors: Mapping[str, Tensor]) -> SamplerState:
        """The state that `pack` wrote, on the CPU. Raises WeightsError if it does not match these films."""
        state, (shape, timesteps) = SamplerState.from_tensors(tensors), self._outline(plans[0])
        if tuple(state.latents.shape) != (len(plans), *shape) or state.timesteps != tuple(timesteps):
            raise WeightsError("checkpoint", "belongs to films of another shape", "start the run again")
        if state.x0 is None:
            # The last estimate equals the result.
            state = replace(state, x0=state.latents if state.done else state.history[-1].x0)
        return state

    def ends(self, plans: Sequence[Plan], state: SamplerState) -> list[np.ndarray | None]:
        """The last latents (c, k, h, w) of each film, one for each frame of the model's overlap."""
        overlap = 0 if self._setup is None else self._setup.model.overlap
        if not overlap or plans[0].num_frames == 1:
            return [None] * len(plans)
        return [one[:, -overlap:].float().cpu().numpy() for one in state.latents]

    def applied(self, plans: Sequence[Plan], state: SamplerState) -> list[str]:
        """For each film of speed balanced, how many steps were forecast; "" for the others."""
        counts = [state.total - each.evaluations for each in state.answers]
        text = f"of {state.total} steps were forecast"
        return [f"speed {plans[0].speed}: {count} {text}" for count in counts] or [""] * len(plans)

    def sounds(self, plans: Sequence[Plan], state: SamplerState) -> list[Sound | None]:
        """None for each film: this family makes no sound."""
        return [None] * len(plans)

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """sigma after each step of the last run; 0 after the last step."""
        schedule = self.networks.schedule
        return [
            schedule.level(t).sigma for t in (*(self._timesteps or schedule.timesteps(num_inference_steps))[1:], END)
        ]

    def show(self, preview: Tensor) -> np.ndarray:
        """Decode one film's x0 (channels, frames, h, w) to frames."""
        return np.concatenate([frames for _, _, frames in self.decode(preview[None])])

    @cached_property
    def _tiny(self) -> Sketch | None:
        """The tiny decoder trained on this very autoencoder, or None; loaded for the first preview."""
        taught = next((digest for name, digest in self.weights.items() if name.startswith("vae/")), "")
        path = _SKETCHES / f"{taught[:16]}.safetensors"
        if not path.exists():
            return None
        try:
            return load_sketch(path, getattr(torch, self.placement.dtype), self.networks.device)
        except WeightsError as error:  # only previews depend on it
            logger.warning("previews use the full autoencoder: %s", error)
            return None

    def sketch(self, preview: Tensor) -> np.ndarray:
        """Decode a preview like `show`, with the tiny decoder if there is one."""
        return self.show(preview) if self._tiny is None else self._tiny.draw(preview).numpy()

    def decode(self, latents: Tensor) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (film, first frame, frames) in order."""
        self._bring_to_device(self.networks.autoencoder)
        for film, one in enumerate(latents):
            start = 0
            for frames in self.networks.decode(one, self.placement.decode_frames, self.placement.tiling):
                yield film, start, frames.numpy()
                start += len(frames)
