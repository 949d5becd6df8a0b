"""The network RIFE 4.6: its keys, its geometry with weights that are known, and files that are not it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from flickbook.errors import WeightsError
from flickbook.media.finishing.rife import IFNet, between, load, moved


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {key: value.clone() for key, value in IFNet().state_dict().items()}


def still(weights: dict[str, Tensor]) -> IFNet:
    """The network whose last layers say nothing: no motion, and both frames believed alike."""
    network = IFNet()
    network.load_state_dict({k: torch.zeros_like(v) if "lastconv" in k else v for k, v in weights.items()})
    return network


def published() -> dict[str, tuple[int, ...]]:
    """Names and shapes of version 4.6 as its authors' code has them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (inputs, width) in enumerate([(7, 192), (12, 128), (12, 96), (12, 64)]):
        block = f"block{number}"
        shapes |= {f"{block}.conv0.0.0.weight": (width // 2, inputs, 3, 3), f"{block}.conv0.0.0.bias": (width // 2,)}
        shapes |= {f"{block}.conv0.1.0.weight": (width, width // 2, 3, 3), f"{block}.conv0.1.0.bias": (width,)}
        for layer in range(8):
            name = f"{block}.convblock.{layer}"
            shapes |= {f"{name}.beta": (1, width, 1, 1), f"{name}.conv.weight": (width, width, 3, 3)}
            shapes |= {f"{name}.conv.bias": (width,)}
        shapes |= {f"{block}.lastconv.0.weight": (width, 24, 4, 4), f"{block}.lastconv.0.bias": (24,)}
    return shapes


def test_keys_and_shapes_equal_the_published_file(weights: dict[str, Tensor]) -> None:
    assert {key: tuple(value.shape) for key, value in weights.items()} == published()
    assert len(weights) == 120


def test_files_with_prefix_and_in_half_precision_load(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "plain.safetensors")
    save_file({f"module.{key}": value.half() for key, value in weights.items()}, tmp_path / "module.safetensors")
    plain, half = load(tmp_path / "plain.safetensors"), load(tmp_path / "module.safetensors")
    assert all(torch.equal(value, weights[key]) for key, value in plain.state_dict().items())
    assert all(torch.equal(value, weights[key].half().float()) for key, value in half.state_dict().items())
    assert not any(value.requires_grad for value in plain.parameters())


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def without(key: str) -> Change:
    return lambda weights: {name: value for name, value in weights.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"unet.conv_in.weight": torch.ones(3)}, "misses block0.* and 119 more; has unexpected unet.conv_in"),
        (without("block2.lastconv.0.bias"), "misses block2.lastconv.0.bias"),
        (lambda w: w | {"encode.cnn0.weight": torch.ones(1)}, "has unexpected encode.cnn0.weight"),
        (lambda w: w | {"block1.lastconv.0.bias": torch.ones(52)}, r"block1.lastconv.0.bias is \[52\], not \[24\]"),
        (lambda w: w | {"module.block0.convblock.0.beta": torch.ones(1, 192, 1, 1)}, "both with and without module."),
        (lambda w: w | {"block1.lastconv.0.bias": torch.ones(24).int()}, "block1.lastconv.0.bias holds I32"),
        (lambda w: w | {"block1.lastconv.0.bias": torch.full((24,), torch.nan)}, "not all of its values are finite"),
    ],
)
def test_a_file_of_another_network_is_refused(
    weights: dict[str, Tensor], tmp_path: Path, change: Change, message: str
) -> None:
    path = tmp_path / "other.safetensors"
    save_file(change(weights), path)
    with pytest.raises(WeightsError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("flownet.pkl", b"\x80\x04.", "not a .safetensors file"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "damaged"),
        ("pickle.safetensors", b"\x80\x04\x95" * 20, "damaged"),
        ("empty.safetensors", b"", "damaged"),
    ],
)
def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        load(tmp_path / name)
    with pytest.raises(WeightsError, match="no such file"):
        load(tmp_path / "absent.safetensors")


def test_without_motion_the_result_is_the_mean(weights: dict[str, Tensor]) -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, 40, 70, 3), np.uint8)
    made = between(still(weights), a, b)(0.5)
    assert made.dtype == np.uint8 and made.shape == a.shape
    assert np.abs(made - (a.astype(np.float64) + b) / 2).max() <= 0.51
    assert np.array_equal(between(still(weights), a, a)(0.3), a)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_motion_is_in_pixels_and_the_mask_selects_a_source(weights: dict[str, Tensor], number: int) -> None:
    """A bias says: the first frame four pixels to the right, the second eight up; and which of them to believe."""
    network = still(weights)
    a, b = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    block = getattr(network, f"block{number}")
    bias = block.lastconv[0].bias.data.view(6, 4)  # each channel of the result is four of them
    scale = block.reduced
    bias[:5] = torch.tensor([4 / scale, 0, 0, -8 / scale, 30])[:, None]
    first = between(network, a, b)(0.5)
    assert np.array_equal(first[:, :92], a[:, 4:])
    bias[4] = -30
    second = between(network, a, b)(0.5)
    assert np.array_equal(second[8:], b[:56])


def test_warping_is_subpixel_and_repeats_the_border() -> None:
    ramp = torch.arange(10.0).expand(1, 1, 4, 10)
    motion = torch.zeros(1, 2, 4, 10)
    motion[:, 0] = 0.25
    assert torch.allclose(moved(ramp, motion)[..., :9], ramp[..., :9] + 0.25, atol=1e-5)
    assert torch.allclose(moved(ramp, motion + 50), torch.tensor(9.0))
    assert torch.allclose(moved(torch.ones(1, 1, 1, 1), torch.zeros(1, 2, 1, 1)), torch.tensor(1.0))


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (32, 64), (100, 5)])
def test_every_size_and_time_is_supported(weights: dict[str, Tensor], size: tuple[int, int]) -> None:
    network = IFNet()
    network.load_state_dict(weights)
    a, b = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    made = between(network, a, b)
    early, late = made(0.1), made(0.9)
    assert early.shape == late.shape == (*size, 3)
    assert np.array_equal(early, made(0.1))
    if min(size) > 4:
        assert not np.array_equal(early, late)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_film(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "rife.safetensors"
    save_file(weights, path)
    program = """
import resource, sys
import numpy as np
from flickbook.media.finishing.interpolate import interpolate
frames = np.random.default_rng(0).integers(0, 256, (int(sys.argv[2]), 96, 96, 3), np.uint8) // 4
interpolate(frames, 2, model=sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    run = [sys.executable, "-c", program, str(path)]
    done = [subprocess.run([*run, count], capture_output=True, text=True, check=True) for count in ("3", "30")]
    few, many = (int(each.stdout) for each in done)
    assert many - few < 40, (few, many)  # MB; one pair's work held for each frame would be hundreds
