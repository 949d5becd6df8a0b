"""The tiny decoder: its shapes, its file, and what is no such file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flickbook.diffusion.sketch import Sketch, load_sketch
from flickbook.errors import WeightsError


@pytest.fixture
def sketch() -> Sketch:
    torch.manual_seed(0)
    return Sketch(4, (16, 8))


@pytest.mark.parametrize(("widths", "factor"), [((8,), 2), ((16, 8), 4), ((8, 8, 8, 8), 16)])
def test_every_width_is_twice_the_size(widths: tuple[int, ...], factor: int) -> None:
    assert Sketch(4, widths)(torch.zeros(2, 4, 3, 5)).shape == (2, 3, 3 * factor, 5 * factor)


def test_it_draws_the_frames_of_one_film(sketch: Sketch) -> None:
    latents = 100 * torch.randn(4, 6, 8, 10, generator=torch.Generator().manual_seed(1))
    frames = sketch.draw(latents)
    assert frames.shape == (6, 32, 40, 3) and frames.dtype == torch.uint8
    assert torch.equal(frames[2:3], sketch.draw(latents[:, 2:3])), "each frame by itself"


def test_a_file_says_what_it_is(sketch: Sketch, tmp_path: Path) -> None:
    path = tmp_path / "sketch.safetensors"
    kept = {name: value.half() for name, value in sketch.state_dict().items()}
    save_file(kept, path, {"latent_channels": "4", "widths": "16,8"})
    read = load_sketch(path)
    z = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    assert read.out.weight.dtype == torch.float32 and torch.allclose(read(z), sketch(z), atol=1e-2)


@pytest.mark.parametrize("metadata", [None, {"widths": "16,8"}, {"latent_channels": "4", "widths": "16,x"}])
def test_another_file_is_refused(sketch: Sketch, tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file(sketch.state_dict(), path, metadata)
    with pytest.raises(WeightsError, match="tiny decoder"):
        load_sketch(path)
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="tiny decoder"):
        load_sketch(path)


def test_other_widths_than_its_weights_are_refused(sketch: Sketch, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(sketch.state_dict(), path, {"latent_channels": "4", "widths": "16,4"})
    with pytest.raises(WeightsError):
        load_sketch(path)
