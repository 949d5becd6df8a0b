"""One case for each family: how its tiny pipeline is built, and what a film of it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flickbook.catalogue import Model, find

STEPS = 3


@dataclass(frozen=True)
class Case:
    """A family under the name people know it by. `build` names a function of tests.tiny; "" is the built-in model.

    Each of `begins` is what a film begins from, and what guides it besides: "image+last_image".
    """

    name: str
    build: str
    begins: tuple[str, ...] = ("text",)
    side: int = 64
    frames: int = 5
    strength: bool = True  # for what begins from an image or a video
    family: str = "pipeline"
    call: dict[str, Any] = field(default_factory=dict)
    schedulers: tuple[str, ...] = ("native",)

    def model(self, directory: Path) -> Model:
        """The catalogue entry of the tiny model in `directory`."""
        said = dict(
            name=f"tiny-{self.build}",
            family=self.family,
            inputs=tuple(dict.fromkeys(each.partition("+")[0] for each in self.begins)),
            accepts=tuple(dict.fromkeys(each for task in self.begins for each in task.split("+")[1:])),
            strength={"range": (0.05, 1.0), "default": 0.7} if self.strength and self.begins != ("text",) else None,
            prompted=self.build != "svd",
            sizes=((self.side, self.side),),
            num_frames={"range": (1, 128), "default": self.frames},
            num_inference_steps={"range": (1, 50), "default": STEPS},
            schedulers=self.schedulers,
            call=self.call,
            pipeline="",
            parameters=0.001,
            window=0 if self.family == "pipeline" else 16,
            overlap=0 if self.family == "pipeline" else 8,
        )
        entry = find("builtin").model_dump() | said | {"directory": str(directory)}
        return Model.model_validate(entry, strict=False)

    def save(self, directory: Path) -> None:
        """Build the tiny pipeline, the same each time, and write it in diffusers' layout."""
        builders = importlib.import_module("tests.tiny")
        builder: Callable[[], Any] = getattr(builders, self.build)
        torch.manual_seed(0)
        made = builder()
        modular = {"overwrite_modular_index": True} if hasattr(made, "blocks") else {}
        made.save_pretrained(str(directory), **modular)


WORDS = {"max_sequence_length": 16}
OLD = ("native", "ddim", "dpm++", "unipc", "euler", "lcm")
VACE = (
    *("text", "image", "image+last_image", "text+conditions", "text+reference_images"),
    *("text+control_video", "video+mask"),
)
CASES = (
    Case("3D U-Net, built-in", "", ("text", "image", "video"), 128, 2, family="unet", schedulers=("ddim",)),
    Case("3D U-Net, ModelScope", "ms", ("text", "image", "video"), family="unet", schedulers=("ddim",)),
    Case("AnimateDiff", "ad", ("text", "video"), 32, schedulers=OLD),
    Case("AnimateDiff ControlNet", "ad_control", ("text+control_video",), 32, schedulers=OLD),
    Case("AnimateDiff SDXL", "ad_sdxl", side=32),
    Case("AnyFlow", "anyflow"),
    Case("CogVideoX", "cog", ("text", "video"), 16, 9, call=WORDS),
    Case("CogVideoX I2V", "cog_i2v", ("image",), 16, 9, strength=False, call=WORDS),
    Case("Helios", "helios", ("text", "image"), 32, 33, strength=False),
    Case("HunyuanVideo", "hv"),
    Case("HunyuanVideo FramePack", "framepack", ("image", "image+last_image"), 32, 37, strength=False),
    Case("HunyuanVideo 1.5", "hy15", side=32),
    Case("HunyuanVideo 1.5 I2V", "hy15_i2v", ("image",), 16, strength=False),
    Case("HunyuanVideo 1.5 I2V, few steps", "hy15_i2v_steps", ("image",), 16, strength=False),
    Case("I2VGen-XL", "i2vgen", ("image",), strength=False),
    Case("Kandinsky 5", "k5"),
    Case("Kandinsky 5 I2V", "k5_i2v", ("image",), frames=17, strength=False),
    Case("Kandinsky 6", "k6", ("text", "image"), strength=False),
    Case("LTX-Video", "ltx", ("text", "image"), frames=9, strength=False),
    Case(
        "LTX-Video, conditions",
        "ltx_cond",
        ("text", "image", "video", "image+last_image", "text+conditions"),
        frames=9,
        strength=False,
    ),
    Case("LTX-2", "ltx2", ("text", "image", "image+last_image", "text+conditions"), frames=9, strength=False),
    Case(
        "LTX-2.5", "ltx25", ("text", "image", "image+last_image", "text+conditions"), side=32, frames=9, strength=False
    ),
    Case("Latte", "latte", side=32, frames=16),
    Case("MiniMax-H3", "h3", ("text", "image", "image+last_image"), 32, 124, strength=False),
    Case("Mochi", "mochi", frames=7),
    Case("Motif-Video", "motif", ("text", "image"), strength=False),
    Case("Sana-Video", "sana", ("text", "image"), strength=False),
    Case("SkyReels V2", "sky"),
    Case("SkyReels V2 DF", "sky_df", ("text", "image", "image+last_image"), strength=False),
    Case("SkyReels V2 I2V", "sky_i2v", ("image",), strength=False),
    Case("Stable Video Diffusion", "svd", ("image",), strength=False),
    Case("Wan 2.1", "wan", ("text", "video")),
    Case(
        "Wan 2.2 Animate",
        "wan_animate",
        ("image+control_video+face_video",),
        strength=False,
        call={"segment_frame_length": 5},
    ),
    Case("Wan 2.1 FLF2V", "wan_flf", ("image+last_image",), strength=False),
    Case("Wan 2.1 I2V", "wan_i2v", ("image",), strength=False),
    Case("Wan 2.1 VACE", "wan_vace", VACE, 32, strength=False),
    Case("Wan 2.2 5B", "wan22_5b", ("text", "image"), strength=False),
    Case("Wan 2.2 A14B", "wan22_a14b"),
    Case("Wan 2.2 A14B I2V", "wan22_i2v", ("image", "image+last_image"), strength=False),
    Case("FLUX.1", "flux", ("text", "image"), frames=1),
    Case("Sana", "sana_img", frames=1),
    Case("Stable Diffusion 1.5", "sd15", ("text", "image"), frames=1, schedulers=OLD),
    Case("Stable Diffusion XL", "sdxl", ("text", "image"), frames=1),
)


def beginning(case: Case) -> np.ndarray:
    """Frames (n, side, side, 3) uint8 for a film to begin from: a moving square in colours of the built-in world."""
    frames = np.full((case.frames, case.side, case.side, 3), 12, np.uint8)
    for number, frame in enumerate(frames):
        left = number * case.side // (2 * case.frames)
        frame[case.side // 4 : case.side // 2, left : left + case.side // 4] = (250, 215, 30)
    return frames
