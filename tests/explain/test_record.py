"""Recording changes nothing of a run, and what it records is what the network computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.explain.runs import PROMPT, plan_of, short

from flickbook.diffusion.unet3d import SpatialTransformer
from flickbook.engine.films import RunOptions, films
from flickbook.explain.hooks import Hooks, groups_of
from flickbook.explain.measures import estimates, objects, predicted_noise, shares, word_numbers
from flickbook.explain.record import record
from flickbook.media.metrics.similarity import psnr

pytestmark = [pytest.mark.model, pytest.mark.slow]


def test_the_recorded_film_is_the_film() -> None:
    """Plain layers round differently from packed ones, which must not be visible."""
    (clip,) = films([plan_of()])
    assert psnr(clip.frames, short().frames) > 45


def test_every_step_has_its_input_estimate_and_answers() -> None:
    run = short()
    assert [step.index for step in run.steps] == [1, 2, 3]
    for step in run.steps:
        assert step.x_t.shape == step.x0.shape == step.answers.shape[1:]  # type: ignore[union-attr]
        assert len(step.answers) == 2  # type: ignore[arg-type]
    assert run.steps[0].x_t.std() == pytest.approx(1, abs=0.1)


def test_guidance_joins_the_two_recorded_estimates() -> None:
    run = short()
    for step in run.steps:
        without, with_prompt = estimates(run, step)  # type: ignore[misc]
        guided = without + run.plan.guidance_scale * (with_prompt - without)
        torch.testing.assert_close(guided, step.x0, atol=1e-3, rtol=1e-3)


def test_x_t_is_the_estimate_and_the_predicted_noise_together() -> None:
    run = short()
    assert run.networks is not None
    for step in run.steps:
        alpha, sigma = run.networks.schedule.level(step.timestep)  # type: ignore[arg-type]
        torch.testing.assert_close(alpha * step.x0 + sigma * predicted_noise(run, step), step.x_t)


def test_the_shares_of_words_start_and_padding_sum_to_one() -> None:
    assert [word for word, _ in short().words] == PROMPT.split()
    assert sum(shares(short()).values()) == pytest.approx(1, abs=1e-4)
    for step in short().steps:
        assert torch.allclose(step.attention.sum(0), torch.ones(1), atol=1e-4)  # type: ignore[union-attr]
        for weights in step.temporal.values():
            assert torch.allclose(weights.sum(1), torch.ones(1), atol=1e-4)


def test_the_recorded_weights_are_those_of_the_layer() -> None:
    """With equal values in all heads, the mean output of the heads is the mean weights times the values."""
    run = short()
    assert run.networks is not None and run.embedding is not None
    unet, step = run.networks.unet, run.steps[1]
    layer = next(each for each in unet.modules() if isinstance(each, SpatialTransformer))
    out = layer.transformer_blocks[0].attn2.to_out[0]
    joined: list[torch.Tensor] = []
    handle = out.register_forward_pre_hook(lambda module, arguments: joined.append(arguments[0]))
    hooks = Hooks(unet, torch.eye(len(run.embedding)))
    with torch.inference_mode(), hooks.attached():
        prompt: Any = unet.prompt(run.embedding[None])
        key, value = prompt[layer]  # (b, heads, tokens, d)
        prompt[layer] = key, value[:, :1].expand_as(value)
        unet(step.x_t[None], torch.tensor(step.timestep), prompt)
        _, weights = hooks.take().crossed[0]
        heads = torch.unflatten(joined[0][0], -1, (len(value[0]), -1))  # (f*n, heads, d)
        torch.testing.assert_close(weights.flatten(1).T @ value[0, 0], heads.mean(1), atol=1e-4, rtol=1e-3)
    handle.remove()


def test_groups_hold_every_token_once() -> None:
    groups = groups_of([("a", [1]), ("panda", [2, 3])], 6)
    assert groups.sum(1).tolist() == [1] * 6
    assert groups.argmax(1).tolist() == [2, 0, 1, 1, 3, 3]


def test_without_guidance_there_is_one_answer() -> None:
    run = record(plan_of(guidance_scale=1.0, num_inference_steps=1, num_frames=2), RunOptions())
    assert len(run.steps[0].answers) == 1  # type: ignore[arg-type]
    assert estimates(run, run.steps[0]) is None


def test_a_film_of_several_windows_shows_its_steps_and_says_what_is_missing() -> None:
    run = record(plan_of(num_frames=24, num_inference_steps=1), RunOptions())
    assert run.steps[0].x0.shape[1] == 24 and run.steps[0].attention is None
    assert "parts of the film" in run.notes[-1]


def test_the_word_of_the_object_is_read_inside_it_and_the_background_outside() -> None:
    run = record(plan_of(num_frames=16, num_inference_steps=12), RunOptions())
    mask = objects(run)
    assert mask is not None and 0.02 < mask.mean() < 0.4
    ratios = {row["word"]: row["ratio"] for row in word_numbers(run)}
    assert ratios["circle"] > 1.2 and ratios["background"] < 0.8
    assert np.isfinite(list(ratios.values())).all()
