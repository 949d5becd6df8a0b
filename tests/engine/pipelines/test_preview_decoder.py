"""Preview decoders: random weights in the published layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.contract.cases import CASES
from tests.contract.matrix import request_of
from torch import Tensor

from flickbook import catalogue, settings
from flickbook.engine.engine import Engine
from flickbook.engine.pipelines.preview_decoder import Grow, MemoryBlock, PreviewDecoder, load_preview_decoder
from flickbook.errors import WeightsError
from flickbook.resolution import resolve
from flickbook.spec import Placement, Step

#: File -> latent channels, growth in time by level, patch.
PUBLISHED = {
    "taew2_1": (16, (1, 2, 2), 1),
    "taew2_2": (48, (1, 2, 2), 2),
    "taehv": (16, (1, 2, 2), 1),
    "taehv1_5": (32, (1, 2, 2), 2),
    "taecvx": (16, (1, 2, 2), 1),
    "taeltx_2": (128, (2, 2, 2), 4),
}


def layout(channels: int, times: tuple[int, ...], patch: int) -> dict[str, Tensor]:
    """Random weights under the published names, in the published shapes."""
    random = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}

    def put(name: str, out: int, inside: int, side: int = 3, bias: bool = True) -> None:
        scale = (2 / (inside * side**2)) ** 0.5
        found[f"decoder.{name}.weight"] = torch.randn(out, inside, side, side, generator=random) * scale
        if bias:
            found[f"decoder.{name}.bias"] = torch.randn(out, generator=random) * 0.1

    put("1", 256, channels)
    for block, grow, (width, after), times_ in zip(
        (3, 9, 15), (7, 13, 19), ((256, 128), (128, 64), (64, 64)), times, strict=True
    ):
        for index in range(block, block + 3):
            put(f"{index}.conv.0", width, 2 * width)
            put(f"{index}.conv.2", width, width)
            put(f"{index}.conv.4", width, width)
        put(f"{grow}.conv", width * times_, width, side=1, bias=False)
        put(str(grow + 1), after, width, bias=False)
    put("22", 3 * patch**2, 64)
    return {**found, "encoder.0.weight": torch.zeros(64, 3 * patch**2, 3, 3)}


def written(path: Path, name: str) -> PreviewDecoder:
    """A loaded file of the layout of `name`."""
    save_file(layout(*PUBLISHED[name]), path)
    return load_preview_decoder(path, torch.float32, "cpu")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layouts_are_read(name: str, tmp_path: Path) -> None:
    decoder = written(tmp_path / "decoder.safetensors", name)
    channels, times, patch = PUBLISHED[name]
    time = times[0] * times[1] * times[2]
    frames = decoder.draw(torch.randn(channels, 2, 2, 1))
    assert frames.dtype == torch.uint8 and frames.shape == (time + 1, 2 * 8 * patch, 8 * patch, 3)
    assert frames.float().std() > 5


def at_once(decoder: PreviewDecoder, latents: Tensor) -> Tensor:
    """All frames together: each block sees its input shifted by a frame."""
    x = latents.transpose(0, 1)
    for layer in decoder.decoder:
        x = layer(x, torch.cat([torch.zeros_like(x[:1]), x[:-1]])) if isinstance(layer, MemoryBlock) else layer(x)
    return x[decoder.time - 1 :].clamp(0, 1)


def test_frame_by_frame_equals_all_at_once_and_is_causal(tmp_path: Path) -> None:
    decoder = written(tmp_path / "decoder.safetensors", "taew2_1").double()
    assert [layer.times for layer in decoder.decoder if isinstance(layer, Grow)] == [1, 2, 2]
    latents = torch.randn(16, 3, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        frames = torch.stack(list(decoder(latents)))
        torch.testing.assert_close(frames, at_once(decoder, latents))
        torch.testing.assert_close(torch.stack(list(decoder(latents[:, :2]))), frames[:5])


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "decoder.safetensors"
    save_file({"decoder.0.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="no preview decoder"):
        load_preview_decoder(path, torch.float32, "cpu")
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no preview decoder"):
        load_preview_decoder(path, torch.float32, "cpu")


def test_a_live_preview_uses_the_file_that_is_found(data: Path, tmp_path: Path) -> None:
    case = next(each for each in CASES if each.build == "wan")
    case.save(tmp_path / "wan")
    model = case.model(tmp_path / "wan").model_copy(update={"preview": "taew2_1.safetensors"})
    catalogue.add(model)
    plan = resolve(request_of(case, model.name, "text", tmp_path))
    without, engine = Engine(model, Placement()), Engine(model, Placement())
    for each in (without, engine):
        seen = [event.preview for event in each.run([plan], previews=True) if isinstance(event, Step)]
    x0 = next(preview for preview in seen if preview is not None)[0]
    assert (without.loaded().sketch(x0) == without.loaded().show(x0)).all()
    folder = settings.load().data_dir / "previews"
    folder.mkdir(parents=True)
    written(folder / "taew2_1.safetensors", "taew2_1")
    drawn, shown = engine.loaded().sketch(x0), engine.loaded().show(x0)
    assert drawn.shape == shown.shape == (plan.num_frames, plan.height, plan.width, 3)
    assert (drawn != shown).any()
