"""The diffusers pipelines that are run, and by what names each takes what a Plan says.

One question, many spellings: a pipeline's own signature says which of them it knows. What no signature tells (frame
layouts, classes that share components) stands here as data. docs/pipelines.md has the facts behind it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flickbook.catalogue import Model, list_models
from flickbook.errors import RequestError
from flickbook.spec import Plan

#: The class that a model_index.json names -> what a film may begin from -> the class that then runs its components.
PIPELINES: dict[str, dict[str, str]] = {
    "AnimateDiffPipeline": {"text": "AnimateDiffPipeline", "video": "AnimateDiffVideoToVideoPipeline"},
    "AnimateDiffSDXLPipeline": {"text": "AnimateDiffSDXLPipeline"},
    "CogVideoXImageToVideoPipeline": {"image": "CogVideoXImageToVideoPipeline"},
    "CogVideoXPipeline": {"text": "CogVideoXPipeline", "video": "CogVideoXVideoToVideoPipeline"},
    "FluxPipeline": {"text": "FluxPipeline", "image": "FluxImg2ImgPipeline"},
    "HunyuanVideo15ImageToVideoPipeline": {"image": "HunyuanVideo15ImageToVideoPipeline"},
    "HunyuanVideo15Pipeline": {"text": "HunyuanVideo15Pipeline"},
    "HunyuanVideoPipeline": {"text": "HunyuanVideoPipeline"},
    "I2VGenXLPipeline": {"image": "I2VGenXLPipeline"},
    "LTX2Pipeline": {"text": "LTX2Pipeline", "image": "LTX2ImageToVideoPipeline"},
    "LTXConditionPipeline": dict.fromkeys(("text", "image", "video"), "LTXConditionPipeline"),
    "LTXImageToVideoPipeline": {"text": "LTXPipeline", "image": "LTXImageToVideoPipeline"},
    "LTXPipeline": {"text": "LTXPipeline", "image": "LTXImageToVideoPipeline"},
    "LattePipeline": {"text": "LattePipeline"},
    "MochiPipeline": {"text": "MochiPipeline"},
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
    "WanImageToVideoPipeline": {"image": "WanImageToVideoPipeline"},
    "WanPipeline": {
        "text": "WanPipeline",
        "image": "WanImageToVideoPipeline",
        "video": "WanVideoToVideoPipeline",
    },
}

#: Schedulers by our names -> diffusers' class and what is said to it beside the model's own configuration. "native" is
#: the model's own, as it was published.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
#: Pipelines that are given their words as vectors -> what their `encode_prompt` returns, by the names of their call.
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
#: What a Plan calls it -> what pipelines call it, the first that a signature knows.
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "num_frames": ("num_frames", "frames", "video_length"),
    "fps": ("frame_rate", "fps", "target_fps"),
    "guidance_scale": ("guidance_scale", "max_guidance_scale"),
    "strength": ("strength",),
    "image": ("image", "cond_image"),
    "video": ("video",),
}
#: Conditioning on the frame rate that was learned as a whole number.
_WHOLE_RATES = ("fps", "target_fps")


def check_stills(model: Model) -> None:
    """Raise RequestError for a model whose pictures cannot be given vectors and noise; nothing of it is loaded."""
    if model.pipeline and model.pipeline not in ANSWERS:
        raise no_stills(model.name, model.pipeline or model.family)


def no_stills(name: str, kind: str) -> RequestError:
    """Why a model makes no pictures of a sequence, and which ones do."""
    able = [model.name for model in list_models() if model.family == "unet" or model.pipeline in ANSWERS]
    limit = f"{kind} makes no single pictures from prompts and noise that travel"
    return RequestError("model", name, limit, f"choose one of {', '.join(able[:8])}")


def begins_from(plan: Plan) -> str:
    """ "image", "video" or "text"."""
    return "image" if plan.image else "video" if plan.video else "text"


def parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline's call."""
    return inspect.signature(type(pipe).__call__).parameters


def arguments(pipe: Any, plan: Plan, source: Any) -> dict[str, Any]:
    """What a pipeline's call is given for a Plan: `source` is None, one picture, or a list of pictures.

    Raises RequestError for what the pipeline cannot do.
    """
    known = parameters(pipe)
    said: dict[str, Any] = {}
    for ours in ("prompt", "negative_prompt"):
        text = getattr(plan, ours)
        if ours in known:
            said[ours] = text
        elif text and ours == "negative_prompt":
            raise RequestError(ours, text, f"{plan.model} takes none", "leave it out")
    for ours in ("width", "height", "num_inference_steps"):
        if ours in known:
            said[ours] = getattr(plan, ours)
    begins = begins_from(plan)
    values: dict[str, Any] = {"num_frames": plan.num_frames, "fps": plan.fps, "guidance_scale": plan.guidance_scale}
    if begins != "text":
        values[begins] = source
    if plan.strength is not None:
        values["strength"] = plan.strength
    for ours, value in values.items():
        theirs = next((name for name in _SPELLINGS[ours] if name in known), None)
        if theirs in _WHOLE_RATES:
            value = round(value)
        if theirs is not None:
            said[theirs] = value
        elif ours in ("image", "video"):
            raise RequestError(ours, getattr(plan, ours), f"{plan.model} takes none", "leave it out")
    # Sizes between those that a model was trained for are the person's choice.
    if "use_resolution_binning" in known:
        said["use_resolution_binning"] = False
    # Frames of the source decide, where a video is edited.
    if begins == "video" and "strength" in known and "denoise_strength" not in known:
        said.pop("num_frames", None)
    return said
