"""The supported diffusers pipelines, and how a Plan's fields map to the arguments of each.

Pipelines use different names for the same argument; the signature of a pipeline's call tells which one it has. Facts
that no signature tells (frame layouts, classes that share components) are in tables here. docs/pipelines.md explains
them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flickbook.catalogue import Model, list_models
from flickbook.engine.pipelines.inputs import Inputs, guided
from flickbook.errors import RequestError
from flickbook.spec import Plan

#: The class in a model_index.json -> the kind of input -> the class that runs its components for that input. The kind
#: "conditions" is that of a film with given frames besides the first, if another class is needed for it.
PIPELINES: dict[str, dict[str, str]] = {
    "AnimateDiffControlNetPipeline": {"text": "AnimateDiffControlNetPipeline"},
    "AnimateDiffPipeline": {"text": "AnimateDiffPipeline", "video": "AnimateDiffVideoToVideoPipeline"},
    "AnimateDiffSDXLPipeline": {"text": "AnimateDiffSDXLPipeline"},
    "AnyFlowPipeline": {"text": "AnyFlowPipeline"},
    "CogVideoXImageToVideoPipeline": {"image": "CogVideoXImageToVideoPipeline"},
    "CogVideoXPipeline": {"text": "CogVideoXPipeline", "video": "CogVideoXVideoToVideoPipeline"},
    "FluxPipeline": {"text": "FluxPipeline", "image": "FluxImg2ImgPipeline"},
    "HeliosPipeline": dict.fromkeys(("text", "image"), "HeliosPipeline"),
    "HunyuanVideo15ImageToVideoPipeline": {"image": "HunyuanVideo15ImageToVideoPipeline"},
    "HunyuanVideo15Pipeline": {"text": "HunyuanVideo15Pipeline"},
    "HunyuanVideoFramepackPipeline": {"image": "HunyuanVideoFramepackPipeline"},
    "HunyuanVideoPipeline": {"text": "HunyuanVideoPipeline"},
    "I2VGenXLPipeline": {"image": "I2VGenXLPipeline"},
    "Kandinsky5I2VPipeline": {"image": "Kandinsky5I2VPipeline"},
    "Kandinsky5T2VPipeline": {"text": "Kandinsky5T2VPipeline"},
    "Kandinsky6TI2VAPipeline": dict.fromkeys(("text", "image"), "Kandinsky6TI2VAPipeline"),
    "LTX2Pipeline": {
        "text": "LTX2Pipeline",
        "image": "LTX2ImageToVideoPipeline",
        "conditions": "LTX2ConditionPipeline",
    },
    "LTX25ModularPipeline": dict.fromkeys(("text", "image", "conditions"), "LTX25ModularPipeline"),
    "LTXConditionPipeline": dict.fromkeys(("text", "image", "video"), "LTXConditionPipeline"),
    "LTXImageToVideoPipeline": {"text": "LTXPipeline", "image": "LTXImageToVideoPipeline"},
    "LTXPipeline": {"text": "LTXPipeline", "image": "LTXImageToVideoPipeline"},
    "LattePipeline": {"text": "LattePipeline"},
    "MiniMaxH3ModularPipeline": dict.fromkeys(("text", "image"), "MiniMaxH3ModularPipeline"),
    "MochiPipeline": {"text": "MochiPipeline"},
    "MotifVideoPipeline": {"text": "MotifVideoPipeline", "image": "MotifVideoImage2VideoPipeline"},
    "SanaImageToVideoPipeline": {"image": "SanaImageToVideoPipeline"},
    "SanaPipeline": {"text": "SanaPipeline"},
    "SanaVideoPipeline": {"text": "SanaVideoPipeline", "image": "SanaImageToVideoPipeline"},
    "SkyReelsV2DiffusionForcingPipeline": {
        "text": "SkyReelsV2DiffusionForcingPipeline",
        "image": "SkyReelsV2DiffusionForcingImageToVideoPipeline",
    },
    "SkyReelsV2ImageToVideoPipeline": {"image": "SkyReelsV2ImageToVideoPipeline"},
    "SkyReelsV2Pipeline": {"text": "SkyReelsV2Pipeline"},
    "StableDiffusionPipeline": {"text": "StableDiffusionPipeline", "image": "StableDiffusionImg2ImgPipeline"},
    "StableDiffusionXLPipeline": {"text": "StableDiffusionXLPipeline", "image": "StableDiffusionXLImg2ImgPipeline"},
    "StableVideoDiffusionPipeline": {"image": "StableVideoDiffusionPipeline"},
    "WanAnimatePipeline": {"image": "WanAnimatePipeline"},
    "WanImageToVideoPipeline": {"image": "WanImageToVideoPipeline"},
    "WanPipeline": {
        "text": "WanPipeline",
        "image": "WanImageToVideoPipeline",
        "video": "WanVideoToVideoPipeline",
    },
    "WanVACEPipeline": dict.fromkeys(("text", "image", "video"), "WanVACEPipeline"),
}

#: Scheduler names -> diffusers' class and its settings on top of the model's own configuration. "native" (not in this
#: table) is the scheduler that the model was published with.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
#: Pipelines that accept prompt embeddings -> the results of their `encode_prompt`, by the argument names of their call.
ANSWERS: dict[str, tuple[str, ...]] = {
    "FluxPipeline": ("prompt_embeds", "pooled_prompt_embeds"),
    "SanaPipeline": (
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    ),
    "StableDiffusionPipeline": ("prompt_embeds", "negative_prompt_embeds"),
    "StableDiffusionXLPipeline": (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),
}
#: A Plan's field -> its names in pipelines; the first one in the signature is used.
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "num_frames": ("num_frames", "frames", "video_length"),
    "fps": ("frame_rate", "fps", "target_fps"),
    "guidance_scale": ("guidance_scale", "max_guidance_scale"),
    "strength": ("strength",),
    "image": ("image", "cond_image"),
    "video": ("video",),
}
#: Frame-rate conditioning that was trained with whole numbers.
_WHOLE_RATES = ("fps", "target_fps")


def check_stills(model: Model) -> None:
    """Raise RequestError for a model that cannot make stills from prompt embeddings and noise; loads nothing."""
    if model.pipeline and model.pipeline not in ANSWERS:
        raise no_stills(model.name, model.pipeline or model.family)


def no_stills(name: str, kind: str) -> RequestError:
    """The error for a model that cannot make the stills of a sequence, with the ones that can."""
    able = [model.name for model in list_models() if model.family == "unet" or model.pipeline in ANSWERS]
    limit = f"{kind} cannot make the single images that a sequence needs"
    return RequestError("model", name, limit, f"choose one of {', '.join(able[:8])}")


def begins_from(plan: Plan) -> str:
    """The kind of input: "image", "video" or "text"."""
    return "image" if plan.image else "video" if plan.video else "text"


def class_for(root: str, plan: Plan) -> str | None:
    """The class that runs the components of a pipeline of class `root` for a Plan's inputs; None if there is none."""
    table = PIPELINES[root]
    if (plan.last_image or plan.conditions) and "conditions" in table:
        return table["conditions"]
    return table.get(begins_from(plan))


def guiders(pipe: Any) -> dict[str, Any]:
    """The published guiders of a pipeline that takes its guidance from them and not from its call."""
    return {name: each for name in ("guider", "audio_guider") if (each := getattr(pipe, name, None)) is not None}


def guide(pipe: Any, published: Mapping[str, Any], plan: Plan) -> None:
    """Give a pipeline the guidance of a Plan: its scale for the frames, the published one for sound, or none at all."""
    for name, guider in published.items():
        if not plan.guided():
            off = {"guidance_scale": 1.0, "stg_scale": 0.0, "modality_scale": 1.0}
            changes = {key: value for key, value in off.items() if key in guider.config}
        else:
            changes = {"guidance_scale": plan.guidance_scale} if name == "guider" else {}
        setattr(pipe, name, guider.new(**changes))


def parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline's call."""
    return inspect.signature(type(pipe).__call__).parameters


def arguments(pipe: Any, plan: Plan, inputs: Inputs) -> dict[str, Any]:
    """The arguments of a pipeline's call for a Plan and its input files.

    Raises RequestError for what the pipeline does not support.
    """
    known = parameters(pipe)
    found: dict[str, Any] = {}
    for ours in ("prompt", "negative_prompt"):
        text = getattr(plan, ours)
        if ours in known:
            found[ours] = text
        elif text and ours == "negative_prompt":
            raise RequestError(ours, text, f"{plan.model} takes none", "leave it out")
    for ours in ("width", "height", "num_inference_steps"):
        if ours in known:
            found[ours] = getattr(plan, ours)
    begins = begins_from(plan)
    values: dict[str, Any] = {"num_frames": plan.num_frames, "fps": plan.fps, "guidance_scale": plan.guidance_scale}
    if begins != "text":
        values[begins] = inputs.begins
    if plan.strength is not None:
        values["strength"] = plan.strength
    guides = guided(pipe, plan, inputs, known)
    for ours, value in values.items():
        theirs = next((name for name in _SPELLINGS[ours] if name in known), None)
        if theirs in _WHOLE_RATES:
            value = round(value)
        if theirs is not None:
            found[theirs] = value
        elif ours in ("image", "video") and ours not in guides:
            raise RequestError(ours, getattr(plan, ours), f"{plan.model} takes none", "leave it out")
    if "latent_window_size" in known:
        found["num_frames"] = _framepack_frames(plan.num_frames, known["latent_window_size"].default)
    # Sizes other than the trained ones are the user's choice, so binning is off.
    if "use_resolution_binning" in known:
        found["use_resolution_binning"] = False
    # When a video is edited, its frames determine the number.
    if begins == "video" and "strength" in known and "denoise_strength" not in known:
        found.pop("num_frames", None)
    return {name: value for name, value in (found | guides).items() if value is not None}


def _framepack_frames(num_frames: int, window: int) -> int:
    """The `num_frames` for which FramePack makes this many, 4 * window * n + 1: it rounds up to sections of
    4 * (window - 1) + 1 frames, each of which yields 4 * window."""
    return (num_frames - 1) // (4 * window) * (4 * (window - 1) + 1)
