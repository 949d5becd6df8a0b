"""The directory of a pipeline's files: its class, the check that it names no code, and how its parts are loaded."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

from flickbook.engine.pipelines.registry import PIPELINES
from flickbook.errors import WeightsError
from flickbook.hub.find import VISION
from flickbook.hub.layout import index_file
from flickbook.hub.manifest import read_config

#: Files of components in which their publishers can name code.
_CONFIGURATIONS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
#: Networks that are added to a base model -> their names in the pipeline.
_ADDED = {
    "ControlNetModel": "controlnet",
    "MotionAdapter": "motion_adapter",
    "HunyuanVideoFramepackTransformer3DModel": "transformer",
}
#: Motif-Video's guidance as its model card recommends it; the repository has no configuration of it.
_MOTIF_GUIDANCE = {
    "guidance_scale": 8.0,
    "adaptive_projected_guidance_momentum": 0.1,
    "adaptive_projected_guidance_rescale": 12.0,
    "adaptive_projected_guidance_norm_dim": [-1, -2, -4],
    "use_original_formulation": True,
}


def index_of(place: Path) -> dict[str, Any]:
    """The index of a directory."""
    return read_config(index_file(place))


def class_of(place: Path) -> str:
    """The pipeline class in a directory's model_index.json; imports nothing from the directory.

    Raises WeightsError for an unsupported class, and for components whose code is not diffusers' or transformers'.
    """
    path, index = index_file(place), index_of(place)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINES:
        raise WeightsError(path, f"names the unsupported pipeline {name}", "choose a model of `flickbook models list`")
    for part, kind in index.items():
        # The third value of an entry of a modular pipeline says where its publisher has the component.
        known = isinstance(kind, list) and len(kind) in (2, 3) and _known(kind[0])
        if isinstance(kind, list) and (not known or str(kind[1]).endswith("Pipeline")):
            reason = f"loads the code of {part} from {kind[0] if kind else 'nowhere'}"
            raise WeightsError(path, reason, "only classes of diffusers and transformers are run")
    _check_code(place)
    return name


def _check_code(place: Path) -> None:
    """Raise WeightsError for a directory that contains code, or whose configurations refer to code."""
    remedy = "only classes of diffusers and transformers are run"
    for code in place.rglob("*.py"):
        raise WeightsError(code, "is code in the weights directory", remedy)
    for path in (each for name in _CONFIGURATIONS for each in place.glob(f"*/{name}")):
        config = read_config(path)
        if "auto_map" in config or "/" in str(config.get("attn_implementation", "")):
            raise WeightsError(path, "names custom code", remedy)


def _known(library: object) -> bool:
    """Whether a component's class is from the two libraries; some of diffusers' are in a module of their pipeline."""
    if library in ("diffusers", "transformers", None):
        return True
    import diffusers.pipelines

    # Any other name would be looked for as a file in the model's directory, and executed.
    return (
        isinstance(library, str)
        and library.isidentifier()
        and inspect.ismodule(getattr(diffusers.pipelines, library, None))
    )


def variant_of(place: Path, variant: str) -> str | None:
    """The variant of the weights to load; None if no file has it."""
    return variant if variant and any(place.glob(f"*/*.{variant}*.safetensors")) else None


def added_part(place: Path, how: dict[str, Any]) -> dict[str, Any]:
    """The network that a directory adds to a base model, by its name in the pipeline; nothing if it has only a LoRA.

    Raises WeightsError for a network of another class, and for a damaged one.
    """
    path = place / "config.json"
    if not path.is_file():
        return {}
    import diffusers

    kind = str(read_config(path).get("_class_name", "MotionAdapter"))
    if kind not in _ADDED:
        raise WeightsError(path, f"names the network {kind}", f"known are {', '.join(_ADDED)}")
    return {_ADDED[kind]: checked(lambda: getattr(diffusers, kind).from_pretrained(str(place), **how), place)}


def vision_parts(place: Path, how: dict[str, Any]) -> dict[str, Any]:
    """The image encoder of a directory and what prepares its images. Raises WeightsError for damaged ones."""
    import transformers

    _check_code(place)
    encoder, prepare = (str(place / folder) for folder in VISION)
    load = partial(
        transformers.SiglipVisionModel.from_pretrained, encoder, dtype=how["torch_dtype"], use_safetensors=True
    )
    # The other class for its images would need torchvision.
    images = partial(transformers.SiglipImageProcessorPil.from_pretrained, prepare, local_files_only=True)
    return dict(
        zip(VISION, (checked(partial(load, local_files_only=True), place), checked(images, place)), strict=True)
    )


def replaced_parts(kind: Any, place: Path) -> dict[str, Any]:
    """Components of a pipeline class that are not loaded as its index says."""
    found: dict[str, Any] = {}
    if str((index_of(place).get("tokenizer") or ["", ""])[1]).endswith("VLProcessor"):
        import transformers

        # The processor would need torchvision for its videos, and a prompt has none.
        load = partial(transformers.AutoTokenizer.from_pretrained, str(place / "tokenizer"), local_files_only=True)
        found["tokenizer"] = checked(load, place)
    if "Motif" in kind.__name__ and not (place / "guider").is_dir():
        from diffusers.guiders.adaptive_projected_guidance import AdaptiveProjectedGuidance

        found["guider"] = AdaptiveProjectedGuidance(**_MOTIF_GUIDANCE)
    return found


def checked(load: Any, place: Path) -> Any:
    """The result of `load`; exceptions of the libraries about files become a WeightsError."""
    try:
        return load()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = f"cannot be loaded ({type(error).__name__}: {str(error)[:300]})"
        raise WeightsError(place, reason, "pull the model again, or check the directory") from error
    except Exception as error:  # safetensors' error derives directly from Exception
        if type(error).__module__.partition(".")[0] not in ("safetensors", "builtins"):
            raise
        raise WeightsError(place, f"is damaged ({error})", "pull the model again") from error
