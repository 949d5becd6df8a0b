"""Runs in OpenVINO's environment: converts and compiles the stock networks once, then makes a film for every line.

A line is the precision to compute in; the answer is a line of JSON when the film lies in `made.npy`.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from torch import Tensor, nn

#: x (b, c, f, h, w), timestep, words -> what the network says; or latents -> pictures.
Network = Callable[..., np.ndarray]


class Answer(nn.Module):
    """The stock network without its wrapping."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, timestep: Tensor, words: Tensor) -> Any:
        """As `Network` says."""
        return self.unet(x, timestep, words, return_dict=False)[0]


class Pictures(nn.Module):
    """The stock autoencoder's decoder."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Any:
        """Latents (n, c, h, w) -> pictures (n, 3, height, width)."""
        return self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]


def converted(task: dict[str, Any], given: dict[str, Tensor]) -> dict[str, openvino.Model]:
    """The networks as OpenVINO has them, traced for this size of film; PyTorch's are let go.

    Where `keep` names a folder the U-Net is kept there in fp16, as large models are published, and read from there.
    """
    from diffusers import AutoencoderKL, UNet3DConditionModel

    directory, latents = Path(task["directory"]), given["latents"]
    kept = Path(task["keep"]) / "unet.xml" if task["keep"] else None
    found = {}
    if kept is None or not kept.exists():
        variant = None if (directory / "unet/diffusion_pytorch_model.safetensors").exists() else "fp16"
        how = {"subfolder": "unet", "variant": variant, "torch_dtype": torch.float32}
        network = Answer(UNet3DConditionModel.from_pretrained(directory, **how).eval())
        words = torch.cat([given["negative"], given["context"]])
        found["unet"] = traced(network, (torch.cat([latents] * 2), torch.tensor(500), words))
    if kept is not None:
        if found:
            openvino.save_model(found.pop("unet"), kept, compress_to_fp16=True)
            del network
            gc.collect()
        found["unet"] = openvino.Core().read_model(kept)
    if task["whole"]:
        vae = AutoencoderKL.from_pretrained(directory, subfolder="vae", torch_dtype=torch.float32)
        found["vae"] = traced(Pictures(vae.eval()), (latents[0].transpose(0, 1).contiguous(),))
    return found


def traced(network: nn.Module, example: tuple[Tensor, ...]) -> openvino.Model:
    """Converted with fixed shapes, which OpenVINO makes the most of."""
    with torch.no_grad():
        return openvino.convert_model(network, example_input=example, input=[tuple(each.shape) for each in example])


def compiled(model: openvino.Model, precision: str, threads: int) -> Network:
    """Laid out for this processor."""
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    network = openvino.Core().compile_model(model, "CPU", settings)
    return lambda *inputs: network([np.asarray(each) for each in inputs])[0]


def film(task: dict[str, Any], given: dict[str, Tensor], networks: dict[str, Network]) -> np.ndarray:
    """Frames (f, height, width, 3) float in 0..1, or latents (1, c, f, h, w) after the steps."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_pretrained(task["directory"], subfolder="scheduler")
    scheduler.set_timesteps(task["steps"])
    latents, words = given["latents"], torch.cat([given["negative"], given["context"]]).numpy()
    for timestep in scheduler.timesteps:
        said = torch.from_numpy(networks["unet"](torch.cat([latents] * 2).numpy(), timestep.numpy(), words))
        without, with_words = said.chunk(2)
        guided = without + task["guidance"] * (with_words - without)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    if not task["whole"]:
        return latents.numpy()
    pictures = networks["vae"](latents[0].transpose(0, 1).contiguous().numpy())
    return np.clip(pictures / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1)


def main() -> None:
    """Answer until the other side ends."""
    task = json.loads(sys.argv[1])
    folder = Path(task["folder"])
    with np.load(folder / "given.npz") as file:
        given = {name: torch.from_numpy(file[name]) for name in file.files}
    began = time.perf_counter()
    models = converted(task, given)
    told: dict[str, Any] = {"convert_s": time.perf_counter() - began, "compile_s": {}}
    networks = {}
    for precision in task["precisions"]:
        began = time.perf_counter()
        networks[precision] = {name: compiled(model, precision, task["threads"]) for name, model in models.items()}
        told["compile_s"][precision] = time.perf_counter() - began
    print(json.dumps(told), flush=True)
    for line in sys.stdin:
        np.save(folder / "made.npy", film(task, given, networks[line.strip()]))
        print("{}", flush=True)


if __name__ == "__main__":
    main()
