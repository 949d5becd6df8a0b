"""What speed balanced costs on the built-in model: `python -m bench.speed [--prompts 96] [--scheduler ddim]`.

Each prompt's film is made at speed exact and at speed balanced, in turn, from the same noise, in fp32 and where this
processor has it in bfloat16. Printed are how often the network was asked, the ratio of denoising times, PSNR and SSIM
to the exact film in fp32, how many films of each the world's judge finds right in everything, and how much of their
prompts they show. `--error 0.2`, `--most 4` and `--lead 3` try another pace.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch

from flickbook.catalogue import find
from flickbook.diffusion.forecast import Pace
from flickbook.diffusion.pack import available
from flickbook.diffusion.sampler import SamplerState
from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.engine.unet.family import PACES
from flickbook.learn.evaluation.evaluate import prompts
from flickbook.media.metrics.similarity import psnr, ssim
from flickbook.world.agreement import agreement
from flickbook.world.captions import captions
from flickbook.world.detect import judge
from flickbook.world.scenes import FPS, FRAMES, SIZE, Scene

STEPS, GUIDANCE = 25, 2.5


def film(networks: TextToVideo, scene: Scene, scheduler: str, pace: Pace | None) -> tuple[np.ndarray, float, int]:
    """The frames (16, 128, 128, 3) uint8, the seconds of its denoising, and how often the network was asked."""
    context, negative = networks.embed([captions(scene)[0]]), networks.embed([""])
    latents = noise([scene.seed], networks.latent_shape(FRAMES, SIZE, SIZE))
    state, began = SamplerState.begin(latents, networks.schedule.timesteps(STEPS)), time.perf_counter()
    for reached in networks.denoise(state, context, negative, [GUIDANCE], scheduler, [FPS], pace):
        state = reached
    seconds = time.perf_counter() - began
    asked = state.answers[0].evaluations if state.answers else STEPS
    return torch.cat(list(networks.decode(state.latents[0]))).numpy(), seconds, asked


def measure(count: int, scheduler: str = "ddim", pace: Pace | None = PACES["balanced"]) -> dict[str, Any]:
    """The films of `count` prompts, in turn: exact, balanced, and where this processor has it both in bfloat16."""
    networks = TextToVideo.load(find("builtin").path()).pack()
    half_networks = TextToVideo.load(find("builtin").path(), torch.bfloat16).pack()
    scenes = [scene for group in prompts(count).values() for scene in group]
    ratios, asked, near, alike, right, shown = [], [], [], [], [0, 0], []
    half: dict[str, list[float]] = {"ratios": [], "psnr": [], "ssim": [], "asked": [], "exact": []}
    for scene in scenes:
        exact, slow, _ = film(networks, scene, scheduler, None)
        balanced, quick, times = film(networks, scene, scheduler, pace)
        ratios.append(slow / quick)
        asked.append(times)
        near.append(psnr(balanced, exact))
        alike.append(worst_frame(balanced, exact))
        if available(torch.bfloat16):
            halved, seconds, times = film(half_networks, scene, scheduler, pace)
            alone = psnr(film(half_networks, scene, scheduler, None)[0], exact)
            found = (slow / seconds, psnr(halved, exact), worst_frame(halved, exact), times, alone)
            for kept, each in zip(half.values(), found, strict=True):
                kept.append(each)
        right = [right[0] + judge(scene, exact).all_correct, right[1] + judge(scene, balanced).all_correct]
        each = [agreement(captions(scene)[0], frames) for frames in (exact, balanced)]
        shown += [] if None in each else [each]
    adherence = [100 * statistics.mean(column) for column in zip(*shown, strict=True)]
    told = {"psnr": near, "ssim": alike, "right": right, "adherence": adherence}
    return {"films": len(scenes), "ratios": ratios, "asked": asked, **told, "bf16": half if half["psnr"] else None}


def worst_frame(frames: np.ndarray, exact: np.ndarray) -> float:
    """SSIM of the frame that is least like the exact one."""
    return min(ssim(one, other) for one, other in zip(frames, exact, strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--scheduler", default="ddim")
    usual = PACES["balanced"]
    assert usual is not None
    parser.add_argument("--error", type=float, default=usual.error)
    parser.add_argument("--most", type=int, default=usual.most)
    parser.add_argument("--lead", type=int, default=usual.lead)
    options = parser.parse_args()
    pace = Pace(options.error, options.most, options.lead)
    found = measure(options.prompts, options.scheduler, pace)
    near, alike, asked = found["psnr"], found["ssim"], found["asked"]
    low = statistics.quantiles(near, n=20)[0] if len(near) > 1 else near[0]
    print(f"{found['films']} films, {STEPS} steps of {options.scheduler}, {pace}")
    print(f"network asked {statistics.mean(asked):.1f} times ({min(asked)} to {max(asked)}) of {STEPS}")
    print(f"denoising exact / balanced: median {statistics.median(found['ratios']):.2f}")
    print(f"PSNR: mean {statistics.mean(near):.1f} dB, 5 % below {low:.1f}, worst {min(near):.1f}; goals 32 and 30")
    print(f"SSIM of the worst frame of a film: mean {statistics.mean(alike):.3f}, worst {min(alike):.3f}; goal 0.95")
    print(f"right in everything: exact {found['right'][0]}, balanced {found['right'][1]} of {found['films']}")
    if half := found["bf16"]:
        mean, least = {key: statistics.mean(each) for key, each in half.items()}, {k: min(v) for k, v in half.items()}
        print(
            f"balanced in bf16: asked {mean['asked']:.1f} times, {statistics.median(half['ratios']):.2f}x as fast; "
            f"PSNR mean {mean['psnr']:.1f} dB, worst {least['psnr']:.1f}; SSIM {least['ssim']:.3f}"
        )
        print(f"exact in bf16: PSNR mean {mean['exact']:.1f} dB, worst {least['exact']:.1f}")
    exact, balanced = found["adherence"]
    print(f"of what the prompts say is shown: exact {exact:.1f} %, balanced {balanced:.1f} %; goal within 1 point")


if __name__ == "__main__":
    main()
