"""The input files of a film as the arguments of a pipeline's call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from flickbook.conditioning import files
from flickbook.engine.family import Sources
from flickbook.engine.sources import keys
from flickbook.errors import RequestError
from flickbook.keyframes import Keyframe
from flickbook.spec import Plan

#: What VACE is given for frames that it makes, in the middle between black and white, and for masks.
_UNKNOWN: Final = 128


@dataclass(frozen=True)
class Inputs:
    """The input files of a film as PIL images: `begins` is one image or a list of frames, None without either."""

    begins: Any = None
    last_image: Any = None
    conditions: tuple[tuple[Any, Keyframe], ...] = ()
    reference_images: tuple[Any, ...] = ()
    control_video: tuple[Any, ...] = ()
    face_video: tuple[Any, ...] = ()
    mask: tuple[Any, ...] = ()

    @classmethod
    def of(cls, plan: Plan, sources: Sources) -> Inputs:
        """The inputs of a Plan; `sources` holds their frames by the keys of `engine.sources.keys`."""
        found: dict[str, list[Any]] = {}
        for key, (role, _) in zip(keys(plan), files(plan), strict=True):
            if role not in ("audio", "latents"):  # not pixels: the engine adds the sound, and the call the latents
                found.setdefault(role, []).append([Image.fromarray(frame) for frame in sources[key]])
        begins = found["image"][0][0] if plan.image else found["video"][0] if plan.video else None
        placed = [frames[0] for frames in found.get("condition", [])]
        return cls(
            begins,
            found["last_image"][0][0] if plan.last_image else None,
            tuple(zip(placed, plan.conditions, strict=True)),
            tuple(frames[0] for frames in found.get("reference image", [])),
            tuple(found["control_video"][0]) if plan.control_video else (),
            tuple(found["face_video"][0]) if plan.face_video else (),
            tuple(found["mask"][0]) if plan.mask else (),
        )

    def at_frames(self, plan: Plan) -> list[tuple[Any, Keyframe]]:
        """All images with the frames that show them: the first one, the conditions, and the last one."""
        ends = [(self.begins, plan.image, 0), (self.last_image, plan.last_image, plan.num_frames - 1)]
        first, last = ([(image, Keyframe(image=digest, frame=at))] if digest else [] for image, digest, at in ends)
        return [*first, *self.conditions, *last]


def guided(pipe: Any, plan: Plan, inputs: Inputs, known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for the inputs that guide a film besides what it begins from; `known` are those of the call.

    An argument that replaces one of those for the beginning has its name; None takes that one away. Raises RequestError
    for an input that the pipeline does not read.
    """
    kind = type(pipe).__name__
    if kind == "WanVACEPipeline":
        return _vace(plan, inputs)
    found: dict[str, Any] = {}
    read = set[str]()
    if plan.last_image or plan.conditions:
        if "conditions" in known:
            found |= {"conditions": _conditions(pipe, plan, inputs), "image": None}
            read |= {"last_image", "conditions"}
        elif "last_image" in known and not getattr(pipe.config, "expand_timesteps", False):
            found["last_image"] = inputs.last_image
            read.add("last_image")
    if plan.control_video and "conditioning_frames" in known:
        found["conditioning_frames"] = list(inputs.control_video)
        read.add("control_video")
    if plan.control_video and plan.face_video and "pose_video" in known:
        found |= {"pose_video": list(inputs.control_video), "face_video": list(inputs.face_video)}
        read |= {"control_video", "face_video"}
    for name in ("last_image", "conditions", "reference_images", "control_video", "face_video", "mask"):
        if getattr(plan, name) and name not in read:
            raise RequestError(name, plan.model, f"{kind} takes none", "leave it out, or choose another model")
    return found


def _conditions(pipe: Any, plan: Plan, inputs: Inputs) -> list[Any]:
    """The conditions of LTX-Video, by frame, or of LTX-2, by the latent frame that holds the frame."""
    placed = inputs.at_frames(plan)
    if type(pipe).__name__.startswith("LTX2"):
        from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition

        scale = pipe.vae_temporal_compression_ratio
        return [
            LTX2VideoCondition(frames=image, index=-(-each.frame // scale), strength=each.strength)
            for image, each in placed
        ]
    from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition

    return [LTXVideoCondition(image=image, frame_index=each.frame, strength=each.strength) for image, each in placed]


def _vace(plan: Plan, inputs: Inputs) -> dict[str, Any]:
    """VACE's video, whose frames are given or grey, and its mask, white where frames are made (Jiang et al. 2025,
    arXiv 2503.07598)."""
    shape = (plan.height, plan.width, 3)
    grey, black, white = (Image.fromarray(np.full(shape, level, np.uint8)) for level in (_UNKNOWN, 0, 255))
    found: dict[str, Any] = {"image": None, "video": None}
    if inputs.reference_images:
        found["reference_images"] = list(inputs.reference_images)
    if plan.control_video:
        video, mask = list(inputs.control_video), [white] * plan.num_frames
    elif plan.video:
        mask = list(inputs.mask)
        pairs = zip(inputs.begins, mask, strict=True)
        video = [Image.composite(grey, frame, each.convert("L").point(_white)) for frame, each in pairs]
    elif plan.image or plan.last_image or plan.conditions:
        video, mask = [grey] * plan.num_frames, [white] * plan.num_frames
    else:
        return found
    for image, each in inputs.at_frames(plan) if not plan.video else ():
        video[each.frame], mask[each.frame] = image, black
    return found | {"video": video, "mask": mask}


def _white(level: int) -> int:
    """Masks have two values; the pipeline divides them at the middle too."""
    return 255 if level > 127 else 0
