"""A modular pipeline of diffusers with the interface of its other pipelines.

A modular pipeline is a tree of blocks, and its call takes the inputs of all blocks by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from flickbook.engine.pipelines.directory import checked, index_of
from flickbook.engine.pipelines.modular.blocks import BLOCKS, reporting
from flickbook.errors import WeightsError


class Modular:
    """A modular pipeline: its components are attributes, its call returns `frames` and `audio`."""

    def __init__(self, pipe: Any) -> None:
        vars(self)["_pipe"] = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_pipe"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._pipe, name, value)

    def to(self, *arguments: Any) -> Modular:
        """Move all networks to a device or a precision."""
        self._pipe.to(*arguments)
        return self

    @property
    def config(self) -> dict[str, Any]:
        """Settings of the pipeline besides its components: there are none."""
        return {}

    @property
    def audio_sample_rate(self) -> int | None:
        """Samples a second of the sound of a pipeline without a vocoder."""
        return getattr(self._pipe, "audio_sampling_rate", None)

    def enable_model_cpu_offload(self, device: str) -> None:
        """Keep the networks in host memory, and each on the device from its first use until that of the next one."""
        from accelerate import cpu_offload_with_hook

        hook = None
        for part in self._networks():
            _, hook = cpu_offload_with_hook(part, torch.device(device), prev_module_hook=hook)

    def enable_sequential_cpu_offload(self, device: str) -> None:
        """Keep the networks in host memory, and their layers on the device only while they run."""
        from accelerate import cpu_offload

        for part in self._networks():
            cpu_offload(part, execution_device=torch.device(device))

    def remove_all_hooks(self) -> None:
        """Undo the offloading."""
        from accelerate.hooks import remove_hook_from_module

        for part in self._networks():
            remove_hook_from_module(part, recurse=True)

    def _networks(self) -> list[torch.nn.Module]:
        return [part for part in self._pipe.components.values() if isinstance(part, torch.nn.Module)]

    @staticmethod
    def _unpack_latents(*arguments: Any) -> Any:
        from diffusers import LTX2Pipeline

        return LTX2Pipeline._unpack_latents(*arguments)

    def reporting(self, report: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `report` after each denoising step in the block."""
        return reporting(self._pipe._blocks, report)

    def _run(self, arguments: dict[str, Any]) -> SimpleNamespace:
        found = self._pipe(**arguments, output=["videos", "audio"])
        return SimpleNamespace(frames=found["videos"], audio=found["audio"])


def load_modular(place: Path, name: str, how: dict[str, Any]) -> Any:
    """The modular pipeline of class `name` in a directory. Its components come from that directory only.

    Raises WeightsError for a damaged one.
    """
    pipe = BLOCKS[name]().init_pipeline()
    index = index_of(place)
    parts = {part: _part(place, part, index[part], how) for part in _read(pipe) if _kept(place, part, index)}
    for each in pipe.blocks.expected_components:
        if each.name in _read(pipe) and each.name not in parts and each.default_creation_method == "from_pretrained":
            raise WeightsError(place / each.name, "no such component", "pull the model again")
    pipe.update_components(**parts)
    return wrapped(pipe)


def wrapped(pipe: Any) -> Any:
    """A modular pipeline as a `Modular` of its class's name, whose call has the blocks' inputs as parameters."""

    def call(self: Modular, **arguments: Any) -> SimpleNamespace:
        return self._run(arguments)

    names = dict.fromkeys(["self", *(each.name for each in pipe.blocks.inputs if each.name)])
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind, default=None) for name in names]
    )
    return type(type(pipe).__name__, (Modular,), {"__call__": call})(pipe)


def _read(pipe: Any) -> list[str]:
    """The components that the blocks use, without the second transformer for references of MiniMax-H3."""
    return [each.name for each in pipe.blocks.expected_components if each.name != "transformer_ref"]


def _kept(place: Path, part: str, index: dict[str, Any]) -> bool:
    """Whether a directory and its index have a component."""
    return isinstance(index.get(part), list) and index[part][0] is not None and (place / part).is_dir()


def _part(place: Path, name: str, kind: list[Any], how: dict[str, Any]) -> Any:
    """A component of an index: a network, a tokenizer, a scheduler or a processor."""
    library, title = kind[:2]
    if title == "Qwen3VLProcessor":
        return _picture_processor(place, name)
    home = library if library in ("diffusers", "transformers") else f"diffusers.pipelines.{library}"

    def load() -> Any:
        found: Any = getattr(import_module(home), title)
        # "Auto" classes choose another class by files that were not checked.
        if title.startswith("Auto") and not title.startswith("Autoencoder"):
            raise ValueError(f"{title} is no class of a component")
        network = isinstance(found, type) and issubclass(found, torch.nn.Module)
        options = how if network else {"local_files_only": True}
        return found.from_pretrained(str(place / name), **options)

    return checked(load, place / name)


class PictureProcessor:
    """What prepares pictures for Qwen3-VL and tells their tokens from words.

    transformers' own processor also prepares videos, which only references need, and for those it needs torchvision.
    """

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_processor = image_processor
        self._image, self._video = tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])

    def create_mm_token_type_ids(self, input_ids: list[list[int]]) -> list[list[int]]:
        """For each token 1 if it stands for a part of a picture, 2 for one of a video, and 0 for words."""
        kinds = {self._image: 1, self._video: 2}
        return [[kinds.get(token, 0) for token in tokens] for tokens in input_ids]


def _picture_processor(place: Path, name: str) -> PictureProcessor:
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

    def build() -> PictureProcessor:
        tokenizer = AutoTokenizer.from_pretrained(str(place / "tokenizer"), local_files_only=True)
        pictures = Qwen2VLImageProcessorPil.from_pretrained(str(place / name), local_files_only=True)
        return PictureProcessor(pictures, tokenizer)

    found: PictureProcessor = checked(build, place / name)
    return found
