"""A training small enough for a test: 32 channels, latents drawn by lot, a handful of steps."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flickbook.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from flickbook.diffusion.tokenizer import Tokenizer, train_tokenizer
from flickbook.learn.config import from_dict
from flickbook.learn.dataset import Films, training_scenes
from flickbook.learn.publish import publish
from flickbook.learn.train import Model, Trainer
from flickbook.world.captions import captions

#: The smallest vocabulary spells every text in bytes: 512 of them, start and end.
TOKENS = 514
VALUES: dict[str, Any] = {
    "seed": 1,
    "world": {"core": 4},
    "frames_per_step": 16,
    "vocab_size": TOKENS,
    "warmup_steps": 2,
    "ema_decays": [0.5, 0.9],
    "publish_decay": 0.9,
    "stages": [
        {"name": "stills", "steps": 4, "lr": 1e-3, "frames": {"1": 1.0}},
        {"name": "films", "steps": 8, "lr": 1e-3, "lr_end": 0.0, "frames": {"4": 0.5, "16": 0.5}},
    ],
    "autoencoder": {
        "world": {"core": 2},
        "frames_per_film": 2,
        "crop": 32,
        "crop_batch": 2,
        "crop_steps": 2,
        "whole_batch": 1,
        "whole_steps": 2,
        "warmup_steps": 1,
        "network": {
            "down_block_types": ["DownEncoderBlock2D"] * 5,
            "up_block_types": ["UpDecoderBlock2D"] * 5,
            "block_out_channels": [8, 8, 8, 8, 8],
            "layers_per_block": 1,
            "latent_channels": 8,
            "norm_num_groups": 4,
            "mid_block_add_attention": False,
            "scaling_factor": 1.0,
        },
    },
    "unet": {
        "sample_size": 8,
        "in_channels": 8,
        "out_channels": 8,
        "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
        "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
        "block_out_channels": [32, 32],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
    },
    "text_encoder": {
        "vocab_size": TOKENS,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 48,
        "hidden_act": "gelu",
        "bos_token_id": TOKENS - 2,
        "eos_token_id": TOKENS - 1,
        "pad_token_id": TOKENS - 1,
    },
    "scheduler": {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": "linear",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
    },
}


_COUNTED: dict[tuple[int, int], float] = {}


def small_films() -> Films:
    """Six films of random latents for six scenes."""
    scenes = list(training_scenes({"core": 6}))
    noise = torch.randn(6, 16, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    return Films(noise.half(), scenes)


def small_trainer(out: Path, tokenizer: Path, **changes: Any) -> Trainer:
    """A trainer in `out`; `changes` replace fields of the configuration. The operations of a step of equal networks
    are counted once for all tests.
    """
    made = Trainer(from_dict({**copy.deepcopy(VALUES), **changes}), small_films(), Tokenizer(tokenizer), out)
    if not {"unet", "text_encoder"} & set(changes):
        made.throughput._counted = _COUNTED
    return made


def digest(state: dict[str, torch.Tensor]) -> str:
    """One hash of all tensors of a state dict."""
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


@pytest.fixture
def values() -> dict[str, Any]:
    """The configuration as plain values, free to be changed."""
    return copy.deepcopy(VALUES)


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's directory."""
    directory = tmp_path_factory.mktemp("learn") / "tokenizer"
    scenes = training_scenes({"core": 6})
    train_tokenizer([text for scene in scenes for text in captions(scene)], TOKENS, directory)
    return directory


@pytest.fixture
def trainer(tokenizer_path: Path) -> Callable[..., Trainer]:
    """`trainer(out, **changes)` makes a trainer."""
    return lambda out, **changes: small_trainer(out, tokenizer_path, **changes)


@pytest.fixture
def weights() -> Callable[[dict[str, torch.Tensor]], str]:
    """`weights(state)` is one hash of a state dict."""
    return digest


@pytest.fixture(scope="session")
def published(tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's directory with weights drawn by lot."""
    torch.manual_seed(0)
    config, out = from_dict(copy.deepcopy(VALUES)), tmp_path_factory.mktemp("published")
    autoencoder = Autoencoder(AutoencoderConfig.from_dict(config.autoencoder.network))
    publish(Model(config), autoencoder, tokenizer_path, config, out)
    return out
