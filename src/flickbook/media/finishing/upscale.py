"""Upscaling by two, three or four: with Lanczos, or with a network loaded from a file of weights.

Real-ESRGAN's two networks are supported as safetensors (`rrdb`, `compact`); the shapes in the file determine the
architecture, its size and its scale. If the network's scale differs from the requested factor, Lanczos resizes the
result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open

from flickbook.errors import MissingExtra, RequestError, WeightsError, shown
from flickbook.media.write import check_frames

if TYPE_CHECKING:
    from torch import Tensor

    from flickbook.media.finishing.compact import Compact
    from flickbook.media.finishing.rrdb import RRDBNet

FACTORS: Final = (2, 3, 4)
#: No published network exceeds these; a file that claims more is refused before memory is allocated.
_MOST_CHANNELS, _MOST_LAYERS, _MOST_SCALE = 512, 128, 8
#: Pixels of context around a tile. The compact networks need at most 34; the large one has a larger receptive field,
#: but its distant contributions are small.
_MARGIN: Final = 36
_GRID: Final = 4  # tiles begin at multiples: the large network turns squares of up to 4 x 4 pixels into channels
_AGAIN: Final = "download the file again"
_REMEDY: Final = "name a Real-ESRGAN model (RRDBNet or SRVGGNetCompact) as safetensors"
_FLOATS: Final = ("F16", "BF16", "F32")


def upscale(frames: np.ndarray, factor: int, *, model: str | Path | None = None) -> np.ndarray:
    """Frames (n, h, w, 3) uint8 -> (n, h * factor, w * factor, 3) uint8; `factor` is 2, 3 or 4.

    `model` is None for Lanczos, or the path of a .safetensors file. Frames are processed independently, a network runs
    on the CPU. Raises RequestError for other frames or factors, WeightsError for an unsupported file, MissingExtra
    without torch.
    """
    check_frames(frames)
    made = upscaled(frames, factor, model=model)
    count, height, width, channels = frames.shape
    out = np.empty((count, height * factor, width * factor, channels), np.uint8)
    for place, frame in zip(out, made, strict=True):
        place[:] = frame
    return out


def upscaled(frames: Iterable[np.ndarray], factor: int, *, model: str | Path | None = None) -> Iterator[np.ndarray]:
    """Like `upscale`, for frames (h, w, 3) uint8 one by one. The arguments are checked before the first frame."""
    if not isinstance(factor, int) or factor not in FACTORS:
        raise RequestError("factor", factor, "must be 2, 3 or 4", "choose one of these")
    network = None if model is None else load(model)

    def each() -> Iterator[np.ndarray]:
        for frame in frames:
            size = (frame.shape[1] * factor, frame.shape[0] * factor)
            yield lanczos(frame if network is None else _enlarged(network, frame), size)

    return each()


def lanczos(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a frame (h, w, 3) uint8 to (width, height) with a Lanczos filter; unchanged at its own size."""
    if size == (frame.shape[1], frame.shape[0]):
        return frame
    picture = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


def load(model: str | Path) -> Compact | RRDBNet:
    """Load the network from a file, in float32 and evaluation mode.

    Keys and shapes are checked before any of the file's data is read. Raises WeightsError.
    """
    try:
        import torch

        from flickbook.media.finishing.rrdb import rrdb_keys
    except ImportError as error:
        raise MissingExtra("torch", "gen") from error
    path = Path(model)
    if path.suffix != ".safetensors":
        raise WeightsError(path, "not a .safetensors file, and no other format is loaded", _REMEDY)
    if not path.is_file():
        raise WeightsError(path, "no such file", _REMEDY)
    try:
        with safe_open(path, framework="pt") as file:
            sources = {ours: theirs for theirs, ours in rrdb_keys(file.keys()).items()}
            slices = {ours: file.get_slice(theirs) for ours, theirs in sources.items()}
            if odd := next((key for key, each in slices.items() if each.get_dtype() not in _FLOATS), None):
                raise WeightsError(path, f"{shown(odd)} holds {slices[odd].get_dtype()}, not floats", _REMEDY)
            network = _built(path, {key: tuple(each.get_shape()) for key, each in slices.items()})
            state = {ours: file.get_tensor(theirs).float() for ours, theirs in sources.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(path, f"damaged ({error})", _AGAIN) from error
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise WeightsError(path, "damaged (not all of its values are finite numbers)", _AGAIN)
    network.load_state_dict(state, strict=True, assign=True)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def _built(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Compact | RRDBNet:
    """Build the network, without allocating memory, that has exactly these keys and shapes. Raises WeightsError."""
    import torch

    from flickbook.media.finishing.compact import Compact, CompactConfig
    from flickbook.media.finishing.rrdb import RRDBConfig, RRDBNet

    try:
        config = (RRDBConfig if "conv_first.weight" in shapes else CompactConfig).of(shapes)
    except ValueError as error:
        raise WeightsError(path, str(error), _REMEDY) from error
    limits = {"features": _MOST_CHANNELS, "growth": _MOST_CHANNELS, "scale": _MOST_SCALE}
    for name, value in vars(config).items():
        if not 1 <= value <= limits.get(name, _MOST_LAYERS):
            reason = f"a network of {value} {name}, where 1 to {limits.get(name, _MOST_LAYERS)} are run"
            raise WeightsError(path, reason, _REMEDY)
    with torch.device("meta"):
        network = RRDBNet(config) if isinstance(config, RRDBConfig) else Compact(config)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key in sorted(expected.keys() | shapes.keys()):
        if expected.get(key) != shapes.get(key):
            found = f"{list(shapes[key])}" if key in shapes else "missing"
            right = f"where {list(expected[key])} belongs" if key in expected else "where nothing belongs"
            raise WeightsError(path, f"{shown(key)} is {found} {right}", _REMEDY)
    return network


def _enlarged(network: Compact | RRDBNet, frame: np.ndarray) -> np.ndarray:
    """Run a frame (h, w, 3) uint8 through the network, at the network's own scale."""
    import torch

    with torch.inference_mode():
        picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
        made = in_tiles(network, picture)[0].clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    return np.asarray(made.permute(1, 2, 0).numpy())


def in_tiles(network: Compact | RRDBNet, picture: Tensor) -> Tensor:
    """(1, 3, h, w) -> (1, 3, h * scale, w * scale), in tiles with a margin of context that is cropped afterwards.

    If the receptive field fits into the margin, tiling does not change the result. Memory depends only on the tile
    size.
    """
    height, width = picture.shape[-2:]
    scale, margin = network.scale, -(-min(network.reach, _MARGIN) // _GRID) * _GRID
    out = picture.new_empty(1, 3, height * scale, width * scale)
    for top, bottom in _spans(height, network.tile):
        for left, right in _spans(width, network.tile):
            above, before = max(0, top - margin), max(0, left - margin)
            part = picture[..., above : bottom + margin, before : right + margin]
            made = network(part)[..., (top - above) * scale :, (left - before) * scale :]
            place = (..., slice(top * scale, bottom * scale), slice(left * scale, right * scale))
            out[place] = made[..., : (bottom - top) * scale, : (right - left) * scale]
    return out


def _spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Divide a side into parts of at most `tile` pixels, as equal as the grid allows."""
    parts = -(-length // tile)
    step = -(-length // (parts * _GRID)) * _GRID
    return [(start, min(start + step, length)) for start in range(0, length, step)]
