"""Numbers of a recorded run: noise levels, attention shares, guidance, the sampler's path, latents against pixels.

Shapes: c channels, f frames, h height and w width in latent pixels; frames (n, height, width, 3) uint8.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flickbook.explain.record import Record, StepRecord
from flickbook.media.metrics.similarity import psnr
from flickbook.world.agreement import expectation
from flickbook.world.blobs import CONTRAST, ground_colour, lab

#: Noise levels that the forward process is shown at.
LEVELS: Final = 10


def decibels(alpha: float, sigma: float) -> float | None:
    """The signal-to-noise ratio 10 log10(alpha^2 / sigma^2) in dB; None where it is infinite."""
    return round(20 * math.log10(alpha / sigma), 2) if alpha > 0 and sigma > 0 else None


def forward_levels(record: Record) -> list[dict[str, Any]]:
    """Ten timesteps of the forward process with alpha, sigma and SNR (dB), from the least noise to the most."""
    assert record.networks is not None
    schedule = record.networks.schedule
    found = []
    for t in np.linspace(0, schedule.num_train_timesteps - 1, LEVELS).round().astype(int).tolist():
        alpha, sigma = schedule.level(t)
        found.append({"timestep": t, "alpha": alpha, "sigma": sigma, "snr_db": decibels(alpha, sigma)})
    return found


def predicted_noise(record: Record, step: StepRecord) -> Tensor | None:
    """eps = (x_t - alpha x_0) / sigma of a step's estimate (c, f, h, w); what the network itself predicts may be v or
    x_0."""
    if record.networks is None or step.x_t is None or step.timestep is None:
        return None
    alpha, sigma = record.networks.schedule.level(step.timestep)
    return (step.x_t - alpha * step.x0) / sigma  # type: ignore[no-any-return]


def estimates(record: Record, step: StepRecord) -> tuple[Tensor, Tensor] | None:
    """The x0 estimates (c, f, h, w) without and with the prompt, before guidance; None if guidance is off."""
    if record.networks is None or step.answers is None or len(step.answers) < 2 or step.timestep is None:
        return None
    without, with_prompt = (record.networks.schedule.x0_from(each, step.x_t, step.timestep) for each in step.answers)
    return without, with_prompt


def rms(x: Tensor) -> float:
    """Root of the mean square."""
    return float(x.float().square().mean().sqrt())


def step_numbers(record: Record) -> list[dict[str, Any]]:
    """For each step: timestep, levels, seconds, how far x0 is from the result, and how much guidance changes."""
    final, found, before = record.steps[-1].x0, [], None
    for step in record.steps:
        row: dict[str, Any] = {"index": step.index, "timestep": step.timestep, "sigma": step.sigma}
        if record.networks is not None and step.timestep is not None:
            alpha, sigma = record.networks.schedule.level(step.timestep)
            row |= {"alpha": alpha, "snr_db": decibels(alpha, sigma), "seconds": round(step.seconds, 4)}
        row["x0_to_result"] = rms(step.x0 - final)
        row["x0_change"] = None if before is None else rms(step.x0 - before)
        if step.answers is not None and len(step.answers) == 2:
            without, with_prompt = step.answers
            row["guidance_difference"] = rms(with_prompt - without) / max(rms(with_prompt), 1e-9)
        found.append(row)
        before = step.x0
    return found


def mean_attention(record: Record) -> Tensor | None:
    """Attention (words + 2, f, h, w), averaged over the recorded steps."""
    found = [step.attention for step in record.steps if step.attention is not None]
    return torch.stack(found).mean(0) if found else None


def objects(record: Record) -> np.ndarray | None:
    """Where the objects of the film are, (n, height, width) bool; None unless the prompt is one of the procedural
    world's, whose plain grounds make that a matter of colour."""
    asked = expectation(record.plan.prompt)
    if asked is None or not asked.scene.actors:
        return None
    away = lab(record.frames) - lab(ground_colour(record.frames))[:, None, None]
    mask: np.ndarray = np.linalg.norm(away, axis=-1) > CONTRAST
    return mask if 0.001 < mask.mean() < 0.9 else None


def word_numbers(record: Record) -> list[dict[str, Any]]:
    """For each word its tokens and its share of cross-attention; with `objects`, also inside and outside of them."""
    attention, mask = mean_attention(record), objects(record)
    if attention is None:
        return []
    found: list[dict[str, Any]] = []
    size = record.frames.shape[1:3]
    for (word, places), heat in zip(record.words, attention, strict=False):
        row: dict[str, Any] = {"word": word, "tokens": places, "share": float(heat.mean())}
        if mask is not None:
            spread = F.interpolate(heat[:, None], size=size, mode="bilinear")[:, 0].numpy()
            inside, outside = float(spread[mask].mean()), float(spread[~mask].mean())
            row |= {"inside": inside, "outside": outside, "ratio": inside / outside}
        found.append(row)
    return found


def shares(record: Record) -> dict[str, float]:
    """The shares of the words together, of the start token, and of the end and padding in cross-attention."""
    attention = mean_attention(record)
    if attention is None:
        return {}
    each = attention.mean((1, 2, 3))
    return {"words": float(each[:-2].sum()), "start": float(each[-2]), "end_and_padding": float(each[-1])}


def temporal_numbers(record: Record) -> dict[str, dict[str, float]]:
    """For each size of temporal attention: the weight of a frame on itself, and the mean distance in frames that it
    looks; with the values of uniform weights beside them."""
    found: dict[str, dict[str, float]] = {}
    seen = [step.temporal for step in record.steps if step.temporal]
    for size in seen[0] if seen else ():
        weights = torch.stack([each[size] for each in seen]).mean(0)
        place = torch.arange(len(weights), dtype=torch.float32)
        distance = (place[:, None] - place[None]).abs()
        found["x".join(map(str, size))] = {
            "own": float(weights.diag().mean()),
            "own_if_uniform": 1 / len(weights),
            "distance": float((weights * distance).sum(1).mean()),
            "distance_if_uniform": float(distance.mean()),
        }
    return found


def latent_numbers(record: Record) -> dict[str, Any]:
    """Shapes and counts of pixels and latents, and the PSNR (dB) of the film encoded and decoded again."""
    assert record.networks is not None
    latents = record.networks.encode(torch.from_numpy(record.frames))
    again = np.concatenate([part.numpy() for part in record.networks.decode(latents)])
    values, numbers = int(record.frames.size), int(latents.numel())
    return {
        "pixels_shape": list(record.frames.shape),
        "latents_shape": list(latents.shape),
        "pixels": values,
        "latents": numbers,
        "ratio": values / numbers,
        "psnr_db": round(float(psnr(record.frames, again)), 2),
    }


def path_of(record: Record) -> tuple[np.ndarray, np.ndarray, float]:
    """The sampler's path in the plane that holds most of it: x_t (n, 2), x0 estimates (n, 2), and the share of variance
    that the plane holds. Only steps whose x_t is known.

    The plane is that of the two largest principal components of all x_t and x0 together.
    """
    steps = [step for step in record.steps if step.x_t is not None and step.x_t.shape == step.x0.shape]
    points = torch.stack([x.float().flatten() for step in steps for x in (step.x_t, step.x0)])
    points = points - record.steps[-1].x0.float().flatten()
    # The Gram matrix is small: two rows for each step.
    values, vectors = torch.linalg.eigh((points @ points.T).double())
    flat = (vectors[:, -2:].flip(1) * values[-2:].flip(0).clamp(min=0).sqrt()).numpy()
    return flat[0::2], flat[1::2], float(values[-2:].sum() / values.sum())


class Projection:
    """Latents as colours: their three principal components as red, green and blue.

    The colours have no meaning of their own; grey is 0, and equal colours are equal latents.
    """

    def __init__(self, latents: Tensor) -> None:
        """`latents` (c, f, h, w) are those whose components are taken, usually the result's."""
        flat = latents.float().flatten(1)
        centred = flat - flat.mean(1, keepdim=True)
        _, vectors = torch.linalg.eigh(centred @ centred.T)
        self.axes = vectors[:, -3:].flip(1)  # (c, 3)
        self.reach = 2.5 * max(float((self.axes.T @ flat).std()), 1.0)

    def __call__(self, latents: Tensor) -> np.ndarray:
        """(c, f, h, w) -> pictures (f, h, w, 3) uint8."""
        colours = torch.einsum("cfhw,ck->fhwk", latents.float(), self.axes)
        if colours.shape[-1] < 3:
            colours = colours[..., :1].expand(*colours.shape[:-1], 3)
        shown: np.ndarray = ((colours / self.reach).clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).numpy()
        return shown
