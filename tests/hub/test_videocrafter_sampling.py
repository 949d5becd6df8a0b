"""Films of VideoCrafter2 are sampled as its authors' script samples them: DDIM at eta 1, guidance 12, 28 fps.

The reference is written from the published formulas, in double precision, on a small replica of the network with random
weights. alpha-bar is the schedule's, a_s the signal scale, sigma the noise of DDIM at eta:

    x0 = (x - sqrt(1 - abar_t) e) / (sqrt(abar_t) a_t)
    sigma = eta sqrt((1 - abar_s) / (1 - abar_t)) sqrt(1 - abar_t / abar_s)
    x_s = sqrt(abar_s) a_s x0 + sqrt(1 - abar_s - sigma^2) e + sigma z
"""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from tests.hub.test_videocrafter import built, published, small
from torch import Tensor

from flickbook.catalogue import find
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.family import Setup
from flickbook.engine.unet.family import UNetFamily
from flickbook.hub.videocrafter import convert_directory
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Request

PROMPT = "a red circle"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> UNetFamily:
    """The replica, as the engine runs it."""
    place = tmp_path_factory.mktemp("videocrafter2")
    torch.save({"state_dict": published(built("videocrafter2"))}, place / "model.ckpt")
    out = convert_directory(place / "model.ckpt", place / "model", "videocrafter2", small("videocrafter2"))
    shutil.copytree(find("builtin").path() / "tokenizer", out / "tokenizer")
    # The networks as they are written down: packed ones round otherwise.
    return UNetFamily(
        TextToVideo.load(out), {}, Placement(), setup=Setup(find("videocrafter2").at(out), out, Placement())
    )


def planned(**changes: Any) -> Plan:
    plan = resolve(Request.of(prompt=PROMPT, model="videocrafter2", seed=5, **changes))
    return plan.model_copy(update={"width": 64, "height": 64})


def stepped(family: UNetFamily, plan: Plan, start: Any = None) -> list[Any]:
    return list(family.denoise([plan], family.encode([plan]), start=start))


def embedded(value: float, width: int) -> Tensor:
    """Sinusoids of a number: cosines, then sines, of `value` at frequencies from 1 down to 1 / 10000."""
    half = width // 2
    angles = [value * 10_000 ** (-place / half) for place in range(half)]
    return torch.tensor([[*map(math.cos, angles), *map(math.sin, angles)]], dtype=torch.float32)


@pytest.mark.slow
def test_the_rate_is_added_to_the_timestep(family: UNetFamily) -> None:
    """What the layers are given is time_embed(sinusoids of t) + fps_embedding(sinusoids of the rate)."""
    unet = family.networks.unet
    x, words = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 2, 24)
    seen: list[Tensor] = []
    handle = unet.mid_block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    with torch.no_grad():
        unet(x, torch.tensor(301), words, torch.tensor([28.0]))
    handle.remove()
    state, total = unet.state_dict(), torch.zeros(1)
    for part, value in (("time_embedding", 301.0), ("fps_embedding", 28.0)):
        hidden = embedded(value, 16) @ state[f"{part}.linear_1.weight"].T + state[f"{part}.linear_1.bias"]
        hidden = hidden / (1 + torch.exp(-hidden))
        total = total + hidden @ state[f"{part}.linear_2.weight"].T + state[f"{part}.linear_2.bias"]
    assert torch.allclose(seen[0], total, atol=1e-5)


@pytest.mark.slow
def test_the_trajectory_is_the_published_one(family: UNetFamily) -> None:
    plan = planned(num_frames=4)
    assert (plan.scheduler, plan.condition_fps, plan.guidance_scale) == ("ddim-eta1", 28.0, 12.0)
    assert (plan.num_inference_steps, plan.negative_prompt, plan.fps) == (50, "", 10.0)
    ours = stepped(family, plan)
    networks = family.networks
    embedding = family.encode([plan])
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = np.cumprod(1 - betas)
    scale = np.concatenate([np.linspace(1, 0.7, 400), np.full(600, 0.7)])
    visited = np.arange(0, 1000, 1000 // 50) + 1
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, *networks.latent_shape(4, 64, 64)[:1], 4, 8, 8, generator=generator).double()
    for place in reversed(range(len(visited))):
        t, s = visited[place], visited[place - 1] if place else 0
        with torch.no_grad():
            both = [
                networks.unet(x.float(), torch.tensor(int(t)), words, torch.tensor([28.0])).double()
                for words in (embedding.negative, embedding.contexts[0])
            ]
        e = both[0] + 12.0 * (both[1] - both[0])
        sigma = math.sqrt((1 - abar[s]) / (1 - abar[t])) * math.sqrt(1 - abar[t] / abar[s])
        x0 = (x - math.sqrt(1 - abar[t]) * e) / (math.sqrt(abar[t]) * scale[t])
        z = torch.randn(x.shape, generator=generator).double()
        x = math.sqrt(abar[s]) * scale[s] * x0 + math.sqrt(1 - abar[s] - sigma**2) * e + sigma * z
        found = ours[len(visited) - 1 - place].latents
        assert float((found - x).abs().max() / x.abs().max()) < 1e-4, t


@pytest.mark.slow
def test_the_noise_is_the_films_own_and_a_film_is_resumed_to_the_bit(family: UNetFamily) -> None:
    plan = planned(num_frames=4, num_inference_steps=6)
    whole = stepped(family, plan)
    for stop in (1, 3, 5):
        again = family.unpack([plan], family.pack(whole[stop - 1]))
        assert torch.equal(stepped(family, plan, again)[-1].latents, whole[-1].latents)
    other = stepped(family, plan.model_copy(update={"scheduler": "ddim"}))
    assert not torch.equal(other[-1].latents, whole[-1].latents)
    # Beside another film it draws the same noise.
    both = [plan.model_copy(update={"seed": 6}), plan]
    *_, last = family.denoise(both, family.encode(both))
    assert torch.allclose(last.latents[1], whole[-1].latents[0], atol=1e-3 * float(whole[-1].latents.abs().max()))


def test_a_long_film_is_made_of_windows_as_freenoise_makes_them(family: UNetFamily) -> None:
    """16 frames, 4 apart, and no noise of each frame's own, which would undo the noise that the windows share."""
    plan = planned(num_frames=24, num_inference_steps=2)
    assert (plan.window, plan.stride, plan.scheduler) == (16, 4, "ddim")
    assert planned(num_frames=24, scheduler="ddim-eta1").scheduler == "ddim-eta1"
    seen: list[int] = []
    handle = family.networks.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2]))
    *_, last = stepped(family, plan)
    handle.remove()
    # At 0, 4, 8 in the first step; they have moved by 2 in the second, which needs one more.
    assert last.latents.shape[2] == 24 and seen == [16] * 7
