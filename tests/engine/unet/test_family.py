"""Our own U-Net as a family: words, noise, and pictures of one batch."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flickbook.catalogue import find
from flickbook.diffusion import heap
from flickbook.diffusion.text import TextEncoder
from flickbook.diffusion.text_to_video import noise
from flickbook.engine.family import Setup
from flickbook.engine.films import RunOptions, engine_of
from flickbook.engine.generate import generate
from flickbook.engine.memory.machine import knows_bf16
from flickbook.engine.unet.family import UNetFamily
from flickbook.media.metrics.similarity import psnr
from flickbook.spec import Placement, Plan, Step

MakePlan = Callable[..., Plan]


def has_encoder(family: UNetFamily) -> bool:
    return any(isinstance(network, TextEncoder) for network in family.networks.in_memory())


@pytest.fixture(scope="module")
def family() -> UNetFamily:
    return UNetFamily.load(Setup(find("builtin"), find("builtin").path(), Placement(decode_frames=3)))


def test_the_weights_match_the_manifest(family: UNetFamily) -> None:
    listed = json.loads((find("builtin").path() / "manifest.json").read_text(encoding="utf-8"))
    student = UNetFamily.load(Setup(find("builtin").few_steps(), find("builtin").path(), Placement()))
    assert student.weights == listed, "a student is the difference from the teacher, whose weights it needs"
    assert family.weights == {name: digest for name, digest in listed.items() if not name.startswith("turbo/")}


def test_prompts_and_negative_prompts_are_encoded_separately(family: UNetFamily, plan: MakePlan) -> None:
    plans = [plan(negative_prompt="blue"), plan(prompt="a green star", negative_prompt="")]
    embedding = family.encode(plans)
    (context,), negative = embedding.contexts, embedding.negative
    width = family.networks.unet.config.cross_attention_dim
    assert context.shape == negative.shape == (2, 48, width)
    expected = family.networks.embed([plans[0].prompt, "a green star", "blue", ""])
    assert torch.allclose(context, expected[:2], atol=1e-6) and torch.allclose(negative, expected[2:], atol=1e-6)


def test_denoising_starts_from_the_noise_of_each_film(family: UNetFamily, plan: MakePlan) -> None:
    plans = [plan(), plan(seed=8)]
    states = list(family.denoise(plans, family.encode(plans)))
    assert [state.index for state in states] == [1, 2, 3]
    assert all(state.latents.shape == (2, 8, 4, 8, 8) for state in states)
    # From x_T = noise and the estimate of x_0, DDIM's first step can be done by hand.
    schedule, first = family.networks.schedule, states[0]
    begin, following = first.timesteps[:2]
    before, after = schedule.level(begin), schedule.level(following)
    assert first.x0 is not None
    eps = (noise([7, 8], (8, 4, 8, 8)) - before.alpha * first.x0) / before.sigma
    assert torch.allclose(first.latents, after.alpha * first.x0 + after.sigma * eps, atol=1e-5)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "unipc"])
def test_every_scheduler_of_the_catalogue_runs(family: UNetFamily, plan: MakePlan, scheduler: str) -> None:
    plans = [plan(num_frames=1, scheduler=scheduler)]
    *_, last = family.denoise(plans, family.encode(plans))
    assert last.done and bool(last.latents.isfinite().all())


def test_the_catalogue_lists_the_implemented_schedulers() -> None:
    assert set(find("builtin").schedulers) == {"ddim", "dpm++", "unipc"}


def test_autoencoder_memory_does_not_grow_with_the_film(family: UNetFamily) -> None:
    taken: list[int] = []

    def count(_: object, given: tuple[torch.Tensor, ...]) -> None:
        taken.append(given[0].numel())

    hook = family.networks.autoencoder.decoder.conv_in.register_forward_pre_hook(count)
    try:
        most = []
        for frames in (6, 24):
            taken.clear()
            list(family.decode(noise([1], (8, frames, 8, 8))))
            assert len(taken) == frames / 3
            most.append(max(taken))
    finally:
        hook.remove()
    assert most[0] == most[1]


def test_decoding_in_parts_gives_the_same_frames(family: UNetFamily) -> None:
    latents = noise([1, 2], (8, 4, 8, 8))
    parts = list(family.decode(latents))
    assert [(film, start, frames.shape) for film, start, frames in parts] == [
        (0, 0, (3, 128, 128, 3)),
        (0, 3, (1, 128, 128, 3)),
        (1, 0, (3, 128, 128, 3)),
        (1, 3, (1, 128, 128, 3)),
    ]
    whole = UNetFamily(family.networks, family.weights, Placement(decode_frames=16))
    for film, _, frames in whole.decode(latents):
        pieces = [torch.from_numpy(part) for owner, _, part in parts if owner == film]
        assert int((torch.cat(pieces).int() - torch.from_numpy(frames).int()).abs().max()) <= 1


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> UNetFamily:
    """One whose text encoder counts as large; nothing that texts mean is kept on disk."""
    monkeypatch.setenv("FLICKBOOK_TEXT_CACHE_MIB", "0")
    monkeypatch.setattr("flickbook.engine.memory.components._LARGE", 1)
    return UNetFamily.load(Setup(find("builtin"), find("builtin").path(), Placement()))


@pytest.mark.slow
def test_a_large_text_encoder_is_released_before_denoising(
    family: UNetFamily, large: UNetFamily, plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, freed = [plan(), plan(prompt="a green star")], []
    with monkeypatch.context() as small:
        small.setattr("flickbook.engine.memory.components._LARGE", 1 << 40)
        assert family.can_prefetch_prompts()
        usual = [list(family.denoise([each], family.encode([each])))[-1].latents for each in plans]
    give_back = heap.give_back
    monkeypatch.setattr("flickbook.diffusion.heap.give_back", lambda: (freed.append(encoder() is None), give_back()))
    for each, latents in zip(plans, usual, strict=True):
        embedding = large.encode([each])
        encoder = weakref.ref(large.networks.text_encoder)
        assert not large.can_prefetch_prompts(), "it would be loaded beside the film"
        freed.clear()
        for state in large.denoise([each], embedding):
            assert encoder() is None and not has_encoder(large)
            made = state.latents
        assert freed[0], "there was nothing yet to give back"
        assert torch.equal(made, latents)


def test_a_text_encoder_changed_by_a_lora_is_kept(large: UNetFamily, plan: MakePlan) -> None:
    setup = large._setup
    assert setup is not None
    tuned = UNetFamily(large.networks, {}, Placement(), None, replace(setup, loras=((Path("a.safetensors"), 1.0),)))
    next(tuned.denoise([plan()], tuned.encode([plan()])))
    assert has_encoder(tuned) and tuned.can_prefetch_prompts()


def test_the_text_encoder_is_loaded_to_a_device_with_room(family: UNetFamily) -> None:
    networks = replace(family.networks, reader=partial(family.networks.reader, device="nowhere"))
    lowered = UNetFamily(networks, {}, Placement())
    lowered.lower(Placement(slicing=True))
    assert lowered.embedded("a circle").device.type == "cpu"


def test_noise_left_falls_to_0(family: UNetFamily) -> None:
    left = family.noise_left(25)
    assert len(left) == 25 and left == sorted(left, reverse=True)
    assert left[0] > 0.95 and left[-1] == 0


@pytest.mark.slow
def test_tiny_decoder_previews_resemble_the_decoded_film(plan: MakePlan) -> None:
    """By the tiny decoder: a preview's estimate early on, and the film itself."""
    run_options = RunOptions()
    engine = engine_of(plan(num_inference_steps=25), run_options)
    seen: dict[int, Any] = {}
    for event in engine.run([plan(num_inference_steps=25)], previews=True):
        if isinstance(event, Step) and event.preview is not None:
            seen[event.index] = event.preview[0]
    for index, least in ((8, 25.0), (25, 25.0)):
        decoded, drawn = engine.loaded().show(seen[index]), engine.loaded().sketch(seen[index])
        assert drawn.shape == decoded.shape and drawn.dtype == decoded.dtype
        assert not np.array_equal(drawn, decoded) and psnr(decoded, drawn) > least


def test_previews_without_a_tiny_decoder_use_the_autoencoder(
    family: UNetFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flickbook.engine.unet.family._SKETCHES", tmp_path)
    other = UNetFamily(family.networks, family.weights, family.placement)
    latents = noise([3], (8, 2, 8, 8))[0]
    assert np.array_equal(other.sketch(latents), family.show(latents))


def test_an_unreadable_tiny_decoder_falls_back_to_the_autoencoder(
    family: UNetFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"{family.weights['vae/diffusion_pytorch_model.safetensors'][:16]}.safetensors").write_bytes(b"damaged")
    monkeypatch.setattr("flickbook.engine.unet.family._SKETCHES", tmp_path)
    other = UNetFamily(family.networks, family.weights, family.placement)
    latents = noise([3], (8, 2, 8, 8))[0]
    assert np.array_equal(other.sketch(latents), family.show(latents))
    assert "previews use the full autoencoder" in caplog.text


def test_the_tiny_decoder_follows_the_device_of_the_networks(family: UNetFamily) -> None:
    loaded = UNetFamily.load(Setup(find("builtin"), find("builtin").path(), Placement()))
    drawn = loaded.sketch(noise([3], (8, 2, 8, 8))[0])
    loaded.lower(Placement(dtype="bfloat16"))
    assert loaded._tiny is not None and loaded._tiny.out.weight.dtype == torch.bfloat16
    assert psnr(loaded.sketch(noise([3], (8, 2, 8, 8))[0]), drawn) > 30


def test_an_offloaded_network_returns_after_a_preview(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = UNetFamily.load(Setup(find("builtin"), find("builtin").path(), Placement(offload="model")))
    awake: list[torch.nn.Module] = []
    monkeypatch.setattr(waiting, "_bring_to_device", awake.append)
    hook = waiting.networks.unet.register_forward_pre_hook(lambda network, _: awake.append(network))
    plans, places = [plan(num_frames=2, num_inference_steps=3)], []
    for state in waiting.denoise(plans, waiting.encode(plans), previews=True):
        waiting.show(state.x0[0])
        places.append(len(awake))
    hook.remove()
    unet, vae = waiting.networks.unet, waiting.networks.autoencoder
    for before, after in zip(places, places[1:], strict=False):
        assert awake[before - 1] is vae and awake[before:after] == [unet, unet, vae], "woken, asked, and then shown"


def test_the_cut_end_of_a_long_prompt_is_reported(family: UNetFamily) -> None:
    assert family.unread("a red circle") == "" and family.unread("a red circle " * 40).endswith("a red circle ")


@pytest.mark.slow
def test_half_precision_gives_nearly_the_same_film(plan: MakePlan) -> None:
    plans, latents = [plan(num_frames=2)], []
    for placement in (Placement(), Placement(dtype="bfloat16")):
        family = UNetFamily.load(Setup(find("builtin"), find("builtin").path(), placement))
        assert next(family.networks.unet.parameters()).dtype == getattr(torch, placement.dtype)
        *_, last = family.denoise(plans, family.encode(plans))
        latents.append(last.latents)
    assert float((latents[0] - latents[1]).abs().mean()) < 0.1 * float(latents[0].abs().mean())


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.skipif(not knows_bf16(), reason="this processor does not compute in bfloat16")
@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("a red circle moving left on a blue background", id="circle", marks=pytest.mark.trial),
        pytest.param("shooting stars over hills", id="stars"),  # of the two, the film that differs more
    ],
)
def test_bfloat16_keeps_the_film_within_40_decibels(prompt: str) -> None:
    """What `--precision auto` may choose where a machine computes in it."""
    full, half = (generate(prompt, seed=7, precision=name).frames.astype(float) for name in ("fp32", "bf16"))
    assert 10 * math.log10(255**2 / ((full - half) ** 2).mean()) >= 40


@pytest.mark.slow
def test_offloaded_networks_make_the_same_film(family: UNetFamily, plan: MakePlan) -> None:
    """On a processor there is nowhere to wait, but every turn is taken."""
    plans, setup = [plan(num_frames=2)], Setup(find("builtin"), find("builtin").path(), Placement(offload="model"))
    waiting = UNetFamily.load(setup)
    latents = []
    for each in (family, waiting):
        *_, last = each.denoise(plans, each.encode(plans))
        latents.append(last.latents)
    assert torch.allclose(*latents, atol=1e-5)
    assert len(list(waiting.decode(latents[1]))) == 1
    waiting.lower(Placement(rungs=("denoise: device cpu",)))
    *_, last = waiting.denoise(plans, waiting.encode(plans))
    assert torch.equal(last.latents, latents[1])
