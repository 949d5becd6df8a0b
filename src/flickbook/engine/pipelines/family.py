"""The model family of diffusers pipelines: an adapter for every supported model except the project's own 3D U-Net.

A pipeline's call runs from prompts to pixels without interruption. Here it runs in a thread that waits after each step
until the engine requests the next, so that progress, previews and cancelling work as in the other family.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flickbook import catalogue
from flickbook.engine.family import Setup, Sources
from flickbook.engine.memory.quantize import quantize
from flickbook.engine.pipelines.call import Call
from flickbook.engine.pipelines.directory import (
    added_part,
    checked,
    class_of,
    index_of,
    replaced_parts,
    variant_of,
    vision_parts,
)
from flickbook.engine.pipelines.inputs import Inputs
from flickbook.engine.pipelines.modular.blocks import BLOCKS
from flickbook.engine.pipelines.modular.pipeline import load_modular
from flickbook.engine.pipelines.overlap import Overlap, last_latents
from flickbook.engine.pipelines.preview import film_latents, noise_of, of_whole_size, pictures
from flickbook.engine.pipelines.preview_decoder import PreviewDecoder, load_preview_decoder
from flickbook.engine.pipelines.registry import SCHEDULERS, arguments, begins_from, class_for, guide, guiders
from flickbook.engine.pipelines.result import Film, film_of
from flickbook.engine.pipelines.single_file import transformer
from flickbook.engine.pipelines.state import CallState, Stage
from flickbook.engine.pipelines.step_cache import with_step_cache
from flickbook.engine.pipelines.upsampling.stages import UpsampledCall
from flickbook.engine.pipelines.upsampling.upsampler import Upsampler, load_upsampler
from flickbook.errors import MissingExtra, RequestError, WeightsError
from flickbook.hub.find import beside, directory, preview_file
from flickbook.hub.manifest import HashCache, fingerprint
from flickbook.media.sound.samples import Sound
from flickbook.spec import Placement, Plan

logger = logging.getLogger(__name__)
#: Networks that stay in float32 when the rest uses half precision, as their publishers recommend.
_FULL = {"AutoencoderKLWan"}
#: Classes that need a scheduler other than the one published with their components.
_SCHEDULER_OF = {"SanaImageToVideoPipeline": "FlowMatchEulerDiscreteScheduler"}


class PipelineFamily:
    """A loaded pipeline and the pipelines that share its components. Films run one after the other."""

    def __init__(self, pipe: Any, weights: dict[str, str], setup: Setup, upsampler: Upsampler | None = None) -> None:
        self.placement, self.model = setup.placement, setup.model
        self._upsampler, self.weights = upsampler, weights
        self.notes: list[str] = []
        self._root = type(pipe).__name__
        self._pipes = {self._root: _placed(pipe, setup.placement)}
        self._native, self._guiders = pipe.scheduler, guiders(pipe)
        self._last: tuple[Any, Plan] | None = None
        self._call: Call | UpsampledCall | None = None
        self._hastes: list[str] = []
        self._decoder: PreviewDecoder | None = None
        self._looked = False  # whether the preview decoder was looked for

    @classmethod
    def load(cls, setup: Setup) -> PipelineFamily:
        """Check that the directory names supported classes only, hash its files, and load them.

        Raises WeightsError for a directory that is damaged or contains code, MissingExtra without diffusers.
        """
        try:
            import diffusers
        except ImportError:
            raise MissingExtra("diffusers", "gen") from None
        _quiet(diffusers)
        place, cache = setup.directory, HashCache.usual()
        how = {"torch_dtype": getattr(torch, setup.placement.dtype), "local_files_only": True, "use_safetensors": True}
        extra, weights = dict[str, Any](), fingerprint(place, cache)
        root, named = setup.model, place
        while root.base:
            extra |= added_part(named, how)
            root = catalogue.find(root.base)
            named = directory(root)
            weights |= {f"{root.name}/{name}": digest for name, digest in fingerprint(named, cache).items()}
        for repo, each in beside(setup.model).items():
            extra |= vision_parts(each, how)
            weights |= {f"{repo}/{name}": digest for name, digest in fingerprint(each, cache).items()}
        if setup.model.transformer:
            extra["transformer"] = transformer(place / setup.model.transformer, named, how)
        # The class in an index may be the one the weights were converted with; the catalogue's class takes precedence.
        name = setup.model.pipeline if class_of(named) and setup.model.pipeline else class_of(named)
        if "safety_checker" in index_of(named) and not (named / "safety_checker").is_dir():
            extra |= {"safety_checker": None, "requires_safety_checker": False}
        upsampler, weights = load_upsampler(setup, name, weights)
        pipe = _built(name, named, variant_of(named, root.variant), how, extra)
        loras = list(setup.loras)
        loras = [*((place / file, weight) for file, weight in setup.model.lora), *loras]
        notes = []
        if loras:
            from flickbook.engine.lora.apply import load_into  # imported late: peft takes a second

            notes = [str(match) for match in load_into(pipe, loras)]
        if setup.placement.quantize:
            for denoiser in ("transformer", "transformer_2", "unet"):
                if getattr(pipe, denoiser, None) is not None:
                    quantize(getattr(pipe, denoiser), setup.placement.quantize)
        family = cls(pipe, weights, setup, upsampler)
        family.notes += notes
        if setup.placement.ulysses_degree > 1:
            from flickbook.engine.pipelines.ranks import split  # imported late: it imports this module

            if split(pipe, setup) is None:
                family.placement = setup.placement.model_copy(update={"ulysses_degree": 1})
                family.notes.append(f"{setup.model.name} runs on one device: its networks cannot be split here")
        return family

    @property
    def pipe(self) -> Any:
        """The pipeline of the class that was loaded."""
        return self._pipes[self._root]

    def unread(self, prompt: str) -> str:
        """Always "" (unknown): each pipeline cuts off prompts by its own rules."""
        return ""

    def encode(self, plans: Sequence[Plan]) -> None:
        """Does nothing: a pipeline encodes prompts in its call."""

    def can_prefetch_prompts(self) -> bool:
        """Always False: prompts are not encoded separately."""
        return False

    def denoise(
        self,
        plans: Sequence[Plan],
        embedding: None,
        sources: Sources | None = None,
        previews: bool = False,
        start: Stage | None = None,
    ) -> Generator[Stage, None, None]:
        """Yield a stage after each step of each film. All stages share one list, `latents`, of the finished films.

        With `start` the run continues after that stage's step; films finished before are not made again.
        """
        films: list[Film] = [] if start is None else start.latents
        ends: list[np.ndarray | None] = [] if start is None else start.ends
        hastes = self._hastes = []
        for number, plan in enumerate(plans):
            pipe = self.pipe_of(plan)
            self._last = pipe, plan
            call_arguments = {**arguments(pipe, plan, Inputs.of(plan, sources or {})), **self.fixed_arguments(pipe)}
            call_arguments |= {"generator": torch.Generator().manual_seed(plan.seed), "output_type": "np"}
            with with_step_cache(pipe, plan) as how, explained(plan):
                hastes.append(how)
                if number < len(films):
                    continue
                call = self._call = self._called(pipe, call_arguments, plan, sources, self._continued(start, number))
                with closing(call.stages(previews)) as stages:
                    for stage in stages:
                        done, total = number * stage.total + stage.index, len(plans) * stage.total
                        stage = replace(stage, latents=films, ends=ends, film=number, dtype=self.placement.dtype)
                        yield replace(stage, index=done, total=total)
            films.append(film_of(pipe, call.result, plan))
            ends.append(self._end(pipe, call.latents, plan))
            self.note_tiling(call)

    def _called(
        self, pipe: Any, arguments: dict[str, Any], plan: Plan, sources: Sources | None, start: CallState | None
    ) -> Call | UpsampledCall:
        """The call, or the calls, of a pipeline that make a film."""
        if plan.latent_upsample:
            assert self._upsampler is not None, "loaded with the model"
            return UpsampledCall(pipe, arguments, plan, self._upsampler, start)
        kept = Overlap(pipe, plan, (sources or {})[f"latents:{plan.latents}"]) if plan.overlap else None
        return Call(pipe, arguments, plan.seed, start, kept)

    def _end(self, pipe: Any, latents: Any, plan: Plan) -> np.ndarray | None:
        """The last latents of a film, those of the model's overlap; None if no film continues from them."""
        overlap, every = self.model.overlap, self.model.num_frames.every
        if not overlap or plan.num_frames == 1:
            return None
        return last_latents(pipe, latents, plan, (overlap - 1) // every + 1)

    def ends(self, plans: Sequence[Plan], state: Stage) -> list[np.ndarray | None]:
        """The last latents (c, k, h, w) of each film."""
        return list(state.ends)

    def note_tiling(self, call: Call | UpsampledCall) -> None:
        """Add the fallback to tiles to the placement if a call took it."""
        if call.tiled:
            rungs = (*self.placement.rungs, "decode: tiling")
            self.placement = self.placement.model_copy(update={"tiling": True, "rungs": rungs})

    def _continued(self, start: Stage | None, film: int) -> CallState | None:
        """The state from which a film's call resumes; None to start from its beginning."""
        if start is None or start.film != film or start.dtype != self.placement.dtype:
            return None
        return start.call if isinstance(start.call, CallState) else None

    def pack(self, state: Stage) -> dict[str, torch.Tensor]:
        """A stage as tensors on the CPU. Raises ValueError if its call cannot be resumed."""
        return state.to_tensors()

    def unpack(self, plans: Sequence[Plan], tensors: Mapping[str, torch.Tensor]) -> Stage:
        """The stage that `pack` wrote. Raises WeightsError for another shape or another version of diffusers."""
        stage = Stage.from_tensors(tensors)
        shape = (plans[0].num_frames, plans[0].height, plans[0].width, 3)
        if stage.film >= len(plans) or any(film.frames.shape != shape for film in stage.latents):
            raise WeightsError("checkpoint", "belongs to films of another shape", "start the run again")
        self._last = self.pipe_of(plans[stage.film]), plans[stage.film]
        return stage

    def fixed_arguments(self, pipe: Any) -> dict[str, Any]:
        """The catalogue's fixed arguments for this model's call, limited to those that the class knows."""
        known = inspect.signature(type(pipe).__call__).parameters
        fixed = {name: value for name, value in self.model.call.items() if name in known}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fixed.items()}

    def pipe_of(self, plan: Plan) -> Any:
        """The pipeline for a Plan's kind of input, with the scheduler it asks for."""
        begins = begins_from(plan)
        import diffusers

        name = class_for(self._root, plan)
        root = self._pipes[self._root]
        # Wan's text-to-video models accept an image only if they have time steps per frame.
        if name == "WanImageToVideoPipeline" != self._root and not root.config.get("expand_timesteps"):
            name = None
        # The video-to-video class uses only one of the two denoisers.
        if name == "WanVideoToVideoPipeline" and getattr(root, "transformer_2", None) is not None:
            name = None
        if name is None:
            raise RequestError(begins, getattr(plan, begins, ""), f"{plan.model} takes none", "leave it out")
        if name not in self._pipes:
            self._pipes[name] = _placed(_sibling(root, name), self.placement)
        pipe = self._pipes[name]
        kind, settings = SCHEDULERS.get(plan.scheduler) or _scheduler_of(name, self._native)
        guide(pipe, self._guiders, plan)
        pipe.scheduler = getattr(diffusers, kind).from_config(self._native.config, **settings, **self.model.scheduling)
        return pipe

    def applied(self, plans: Sequence[Plan], state: Stage) -> list[str]:
        """For each film of the last run, a note on the speed optimisations used; "" for none."""
        return self._hastes

    def sounds(self, plans: Sequence[Plan], state: Stage) -> list[Sound | None]:
        """The sound that was made with each film of the run that ended in `state`; None if the model makes none."""
        return [film.sound for film in state.latents]

    def lower(self, placement: Placement) -> None:
        """Switch to a placement that is further down the fallbacks."""
        self.placement = placement
        for pipe in self._pipes.values():
            pipe.remove_all_hooks()
            if placement.device == "cpu":
                for part in pipe.components.values():
                    if isinstance(part, torch.nn.Module) and part.dtype == torch.float16:
                        part.to(getattr(torch, placement.dtype))
            _placed(pipe, placement)
        if self._upsampler is not None:
            self._upsampler.place(placement)

    def noise_left(self, num_inference_steps: int) -> list[float]:
        """sigma after each step of the last run, with signal and noise normalised to 1; 0 at the end."""
        if isinstance(self._call, UpsampledCall):
            return self._call.noise
        return noise_of(self._native if self._last is None else self._last[0].scheduler, num_inference_steps)

    def show(self, preview: Any) -> np.ndarray:
        """Decode one film's clean latents, in the pipeline's own layout, to a preview (n, h, w, 3) uint8."""
        assert self._last is not None, "a preview comes from a run"
        pipe, plan = self._last
        return pictures(pipe, preview, plan)

    def sketch(self, preview: Any) -> np.ndarray:
        """The same as `show`, by the model's preview decoder if its file is on this machine and fits."""
        assert self._last is not None, "a preview comes from a run"
        decoder = self._preview_decoder()
        if decoder is None:
            return self.show(preview)
        pipe, plan = self._last
        return of_whole_size(decoder.draw(film_latents(pipe, preview, plan)[0]), plan)

    def _preview_decoder(self) -> PreviewDecoder | None:
        """The preview decoder on the placement's device, loaded once; None without one that fits the autoencoder."""
        if not self._looked:
            self._looked, path = True, preview_file(self.model)
            if path is not None:
                try:
                    found = load_preview_decoder(path, getattr(torch, self.placement.dtype), self.placement.device)
                except WeightsError as error:
                    logger.warning("previews are made by the model's own autoencoder: %s", error)
                else:
                    self._decoder = found if found.fits(self.pipe) else None
        return self._decoder

    def decode(self, latents: Any) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (film, first frame, frames); the pipeline has decoded them already."""
        for number, film in enumerate(latents):
            yield number, 0, film.frames


@contextmanager
def explained(plan: Plan) -> Iterator[None]:
    """Turn a pipeline's late exceptions into a WeightsError; those about memory pass unchanged."""
    try:
        yield
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError) as error:
        reason = f"its pipeline failed ({type(error).__name__}: {str(error)[:300]})"
        raise WeightsError(
            plan.model, reason, "ask for the model's own size and frames, or report the error"
        ) from error


def _built(name: str, place: Path, variant: str | None, how: dict[str, Any], parts: dict[str, Any]) -> Any:
    """The pipeline of class `name` in a directory, with the components `parts` instead of its own."""
    import diffusers

    kind = getattr(diffusers, name)
    if name in BLOCKS:
        pipe = load_modular(place, name, how)
    else:
        replaced = replaced_parts(kind, place)
        # None: diffusers would refuse an object of another class.
        how = how | parts | dict.fromkeys(replaced)
        pipe = checked(lambda: kind.from_pretrained(str(place), variant=variant, **how), place)
        pipe.register_modules(**replaced)
    _mend(pipe.components.values())
    return pipe


def _mend(parts: Iterable[Any]) -> None:
    """Give networks the precision their publishers recommend, and text encoders the attribute that pipelines read."""
    for part in parts:
        if type(part).__name__ in _FULL:
            part.float()
        if type(part).__name__ == "CLIPTextModel" and not hasattr(part, "text_model"):
            # Pipelines for transformers 4 read this attribute; it bypasses module registration to avoid a cycle.
            object.__setattr__(part, "text_model", part)


def _placed(pipe: Any, placement: Placement) -> Any:
    """Move a pipeline to its device, with the offloading and slicing of the placement."""
    pipe.set_progress_bar_config(disable=True)
    autoencoder = getattr(pipe, "vae", None)
    for enabled, switch in ((placement.tiling, "enable_tiling"), (placement.slicing, "enable_slicing")):
        if enabled and hasattr(autoencoder, switch):
            getattr(autoencoder, switch)()
    if placement.offload == "none":
        return pipe.to(placement.device)
    if placement.offload == "model":
        pipe.enable_model_cpu_offload(device=placement.device)
    else:
        pipe.enable_sequential_cpu_offload(device=placement.device)
    return pipe


def _sibling(pipe: Any, name: str) -> Any:
    """A pipeline of another class with the same components and settings."""
    import diffusers

    kind = getattr(diffusers, name)
    components = {**dict(pipe.config), **pipe.components}
    parameters_of = inspect.signature(kind.__init__).parameters
    known = {part: components.get(part) for part in parameters_of if part != "self" and part in components}
    for part, parameter in parameters_of.items():
        if part not in ("self", *known) and parameter.default is inspect.Parameter.empty:
            known[part] = None
    return kind(**known)


def _scheduler_of(name: str, native: Any) -> tuple[str, dict[str, Any]]:
    """The scheduler class for a pipeline of class `name`, and its settings: the native one, with few exceptions."""
    if name in _SCHEDULER_OF and type(native).__name__ != _SCHEDULER_OF[name]:
        return _SCHEDULER_OF[name], {"shift": native.config.get("flow_shift", 1.0)}
    return type(native).__name__, {}


def _quiet(diffusers: Any) -> None:
    """Turn off the libraries' warnings and progress bars: they are not meant for users."""
    import transformers

    warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")

    library: Any
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
