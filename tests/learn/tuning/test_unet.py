"""A model of the 3D U-Net family under training: where its text encoder is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flickbook import catalogue
from flickbook.diffusion.text import TextEncoder
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.learn.tuning import adapter
from flickbook.learn.tuning.target import Batch, Sampling
from flickbook.learn.tuning.unet import UNetTarget


def target() -> UNetTarget:
    return UNetTarget(TextToVideo.load(catalogue.find("builtin").path()), None, text=False)


def test_a_frozen_text_encoder_is_in_memory_only_while_a_sample_needs_it() -> None:
    model = target()
    how = Sampling(fps=8, width=32, height=32, num_frames=1, num_inference_steps=1, guidance_scale=1, seed=1)
    model.sample("a red circle", how)
    assert "text_encoder" not in vars(model.model)


def test_a_text_encoder_is_loaded_again_where_the_model_computes() -> None:
    model, asked = target(), list[torch.device | None]()
    read = model.model.reader

    def watched(device: torch.device | None = None) -> TextEncoder:
        asked.append(device)
        return read()

    model.model.reader = watched
    model.compute_on(torch.device("cpu"))
    model.release()
    model.embed("a red circle")
    assert asked == [torch.device("cpu")]


@pytest.mark.slow
def test_a_lora_added_to_the_weights_first_has_the_same_losses_and_gradients() -> None:
    model = UNetTarget(TextToVideo.load(catalogue.find("builtin").path()), None, text=True)
    torch.manual_seed(0)
    for network in model.networks.values():
        adapter.add(network, 2, "all")
    trained = adapter.trained(model.networks)
    condition = {"ids": model.model.tokenizer(["a red circle"])[0]}
    batch = Batch(torch.randn(3, 8, 2, 4, 4), [condition] * 3, [8.0] * 3, known=1)
    assert model.joint
    untrained = model.losses(batch, torch.Generator().manual_seed(1)).each
    assert untrained[2] < 1e-9 < untrained[:2].min(), "the prior example has no loss yet"
    for network in model.networks.values():
        for _, up in adapter.factors(network).values():
            nn.init.normal_(up, std=0.01)
    found = []
    for model.joint in (True, False):
        losses = model.losses(batch, torch.Generator().manual_seed(1)).each
        losses.sum().backward()
        found.append((losses.detach(), {name: each.grad for name, each in trained.items()}))
        for each in trained.values():
            each.grad = None
    (merged, gradients), (usual, others) = found
    assert merged[2] > 0 and torch.allclose(merged, usual, rtol=1e-3)
    assert any("text_encoder" in name for name in gradients)
    for name, each in gradients.items():
        assert each is not None and torch.allclose(each, others[name], rtol=1e-2, atol=1e-4), name
