"""A model of the 3D U-Net family under training: where its text encoder is."""

from __future__ import annotations

import torch

from flickbook import catalogue
from flickbook.diffusion.text import TextEncoder
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.learn.tuning.target import Sampling
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
