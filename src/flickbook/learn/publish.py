"""Write a trained model in diffusers' layout: three networks in float16, their configs, the tokenizer, the hashes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from flickbook.diffusion.autoencoder import Autoencoder
from flickbook.diffusion.text_to_video import FILES
from flickbook.diffusion.weights import save_weights
from flickbook.hub.manifest import write_manifest
from flickbook.learn.config import TrainConfig
from flickbook.learn.train import Model

#: The diffusers that wrote the format we follow; stock loaders compare it with their own.
_FORMAT = "0.42.1"
#: What evaluation must know of a training on fewer pairs.
TRAINING = "training.json"
_LIBRARIES = {
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def publish(model: Model, autoencoder: Autoencoder, tokenizer: Path, config: TrainConfig, out: Path) -> dict[str, str]:
    """Write the directory `out` and return its manifest, {file: SHA-256}.

    Stock diffusers loads it unless the U-Net has frame positions; then the class name is one it refuses.
    """
    unet = model.unet.config.to_dict()
    home = "diffusers" if unet["_class_name"] == "UNet3DConditionModel" else "flickbook"
    index = {"_class_name": "TextToVideoSDPipeline", "_diffusers_version": _FORMAT, **_LIBRARIES}
    _write(out / "model_index.json", {**index, "unet": [home, unet["_class_name"]]})
    _write(out / "unet/config.json", {"_diffusers_version": _FORMAT, **unet})
    _write(out / "vae/config.json", {"_diffusers_version": _FORMAT, **autoencoder.config.to_dict()})
    # transformers would load the float16 file in float16, beside networks that diffusers loads in float32.
    _write(out / "text_encoder/config.json", {**model.text_encoder.config.to_dict(), "dtype": "float32"})
    _write(out / "scheduler/scheduler_config.json", {"_diffusers_version": _FORMAT, **config.scheduler})
    shutil.copytree(tokenizer, out / "tokenizer", dirs_exist_ok=True)
    if config.coverage < 1:  # evaluation asks for the pairs that training showed
        _write(out / TRAINING, {"coverage": config.coverage})
    networks: dict[str, torch.nn.Module] = {"text_encoder": model.text_encoder, "unet": model.unet, "vae": autoencoder}
    for part, network in networks.items():
        save_weights(network, out / FILES[part])
    return write_manifest(out)
