"""Larger frames: by Lanczos, by networks from files, in tiles without a seam; and files that are refused."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from flickbook.errors import RequestError, WeightsError
from flickbook.media.finishing.compact import Compact, CompactConfig
from flickbook.media.finishing.rrdb import RRDBConfig, RRDBNet
from flickbook.media.finishing.upscale import in_tiles, load, upscale, upscaled

SMALL = CompactConfig(8, 2, 2)
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), np.uint8)


def saved(path: Path, network: torch.nn.Module, **changes: torch.Tensor | None) -> Path:
    """A network's file; a change of None leaves a key out, `a__b` stands for the key `a.b`."""
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    for name, value in changes.items():
        state.pop(name.replace("__", "."), None)
        if value is not None:
            state[name.replace("__", ".")] = value
    save_file(state, path)
    return path


@pytest.fixture
def compact(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return saved(tmp_path / "compact.safetensors", Compact(SMALL))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_lanczos_equals_pillow_for_every_frame(factor: int) -> None:
    large = upscale(FRAMES, factor)
    assert large.shape == (3, 12 * factor, 20 * factor, 3) and large.dtype == np.uint8
    size = (20 * factor, 12 * factor)
    expected = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in FRAMES]
    assert np.array_equal(large, np.stack(expected))


def test_without_a_model_torch_is_not_loaded() -> None:
    program = (
        "import sys, numpy as np\nfrom flickbook.media.finishing.upscale import upscale\n"
        "upscale(np.zeros((1, 4, 4, 3), np.uint8), 2); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize("factor", [0, 1, 5, 2.0, True, "2", None])
def test_other_factors_are_refused(factor: int) -> None:
    with pytest.raises(RequestError, match="factor=.*2, 3 or 4") as caught:
        upscale(FRAMES, factor)
    assert caught.value.field == "factor"


def test_other_frames_are_refused() -> None:
    for frames in (FRAMES[0], FRAMES.astype(np.float32), FRAMES[:0], FRAMES[..., :2]):
        with pytest.raises(RequestError, match="frames="):
            upscale(frames, 2)


def test_a_network_runs_on_every_frame_by_itself(compact: Path) -> None:
    large = upscale(FRAMES, 2, model=compact)
    with torch.no_grad():
        pictures = torch.from_numpy(FRAMES).permute(0, 3, 1, 2).float() / 255
        expected = load(compact)(pictures).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
    assert large.shape == (3, 24, 40, 3) and np.abs(large - expected).max() <= 0.51
    assert np.array_equal(large[1:2], upscale(FRAMES[1:2], 2, model=str(compact)))
    assert not np.array_equal(large, upscale(FRAMES, 2))


def test_upscaled_is_lazy_and_refuses_a_bad_model_at_once(compact: Path, tmp_path: Path) -> None:
    def endless() -> object:
        while True:
            yield FRAMES[0]

    made = upscaled(endless(), 2, model=compact)  # type: ignore[arg-type]
    assert np.array_equal(next(made), upscale(FRAMES[:1], 2, model=compact)[0])
    with pytest.raises(WeightsError, match="no such file"):
        upscaled(endless(), 2, model=tmp_path / "none.safetensors")  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "factor"), [(2, 3), (2, 4), (4, 2), (1, 2)])
def test_another_network_scale_is_resized_to_the_factor(tmp_path: Path, scale: int, factor: int) -> None:
    torch.manual_seed(0)
    path = saved(tmp_path / "m.safetensors", Compact(CompactConfig(8, 1, scale)))
    large = upscale(FRAMES, factor, model=path)
    with torch.no_grad():
        native = load(path)(torch.from_numpy(FRAMES[:1]).permute(0, 3, 1, 2).float() / 255)
    levels = (native.clamp(0, 1) * 255).round().byte()[0].permute(1, 2, 0).numpy()
    size = (20 * factor, 12 * factor)
    expected = np.asarray(Image.fromarray(levels).resize(size, Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(large[0] - expected).max() <= 1  # a value between two levels may round either way


@pytest.mark.parametrize(
    "build",
    [
        lambda: RRDBNet(RRDBConfig(16, 8, 2, 4)),
        lambda: RRDBNet(RRDBConfig(16, 8, 2, 2)),
        lambda: Compact(CompactConfig(16, 16, 4)),
        lambda: Compact(CompactConfig(16, 32, 4)),
    ],
    ids=["x4plus", "x2plus", "animevideov3", "general-x4v3"],
)
def test_real_esrgan_files_run(tmp_path: Path, build: Callable[[], torch.nn.Module]) -> None:
    """The published architectures with fewer channels and random weights, half precision on the disk."""
    torch.manual_seed(0)
    path = saved(tmp_path / "m.safetensors", build().half())
    network = load(path)
    assert not network.training and next(network.parameters()).dtype == torch.float32
    assert upscale(FRAMES[:1, :7, :9], 4, model=path).shape == (1, 28, 36, 3)


def test_old_esrgan_names_load_the_same_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = RRDBNet(RRDBConfig(8, 4, 2, 4))
    new = saved(tmp_path / "new.safetensors", network)
    names = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}
    state = {}
    for key, value in network.state_dict().items():
        first, _, rest = key.partition(".")
        state[
            "RRDB_trunk." + rest.replace("rdb", "RDB") if first == "body" else f"{names.get(first, first)}.{rest}"
        ] = value
    save_file(state, tmp_path / "old.safetensors")
    found = [upscale(FRAMES, 4, model=path) for path in (new, tmp_path / "old.safetensors")]
    assert np.array_equal(*found)


@torch.no_grad()
@pytest.mark.parametrize("size", [(40, 33), (16, 70), (15, 15), (97, 65)])
def test_tiles_leave_no_seam_within_the_receptive_field(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    for network in (Compact(CompactConfig(8, 3, 3)), Compact(CompactConfig(8, 6, 2)), Compact(CompactConfig(8, 32, 2))):
        picture = torch.rand(1, 3, *size)
        network.tile = 16
        assert float((in_tiles(network, picture) - network(picture)).abs().max()) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_of_the_large_network_leave_no_visible_seam(scale: int) -> None:
    torch.manual_seed(0)
    network = RRDBNet(RRDBConfig(16, 8, 4, scale))
    assert network.reach > 60
    picture = torch.rand(1, 3, 51, 135)
    network.tile = 48
    assert float((in_tiles(network, picture) - network(picture)).abs().max()) < 1e-3


def test_at_most_a_tile_and_its_margin_is_processed_at_once() -> None:
    sizes = []

    class Watched(Compact):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(max(x.shape[-2:]))
            return super().forward(x)

    with torch.no_grad():
        network = Watched(CompactConfig(2, 1, 2))
        in_tiles(network, torch.rand(1, 3, 1300, 40))
    assert len(sizes) == 3 and max(sizes) <= network.tile + 8


def test_files_of_other_networks_are_refused_in_one_line(tmp_path: Path) -> None:
    cases: list[tuple[torch.nn.Module, dict[str, torch.Tensor | None], str]] = [
        (torch.nn.Linear(3, 4), {}, "SRVGGNetCompact"),
        (Compact(SMALL), {"body__2__bias": None}, "body.2.bias is missing where .8. belongs"),
        (Compact(SMALL), {"body__3__weight": None}, "body.3.weight is missing"),
        (Compact(SMALL), {"body__2__weight": torch.zeros(8, 7, 3, 3)}, r"body.2.weight is \[8, 7, 3, 3\]"),
        (Compact(SMALL), {"extra": torch.zeros(1)}, "extra is .1. where nothing belongs"),
        (Compact(SMALL), {"body__0__bias": torch.zeros(8, dtype=torch.int64)}, "holds I64, not floats"),
        (Compact(SMALL), {"body__0__bias": torch.full((8,), float("nan"))}, "finite"),
        (Compact(CompactConfig(8, 1, 9)), {}, "a network of 9 scale"),
        (Compact(CompactConfig(1, 200, 2)), {}, "a network of 200 convolutions"),
        (RRDBNet(RRDBConfig(8, 4, 2, 4)), {"body__1__rdb2__conv3__bias": None}, "body.1.rdb2.conv3.bias is missing"),
        (RRDBNet(RRDBConfig(8, 4, 2, 4)), {"conv_first__weight": torch.zeros(8, 6, 3, 3)}, "takes 6"),
    ]
    for network, changes, reason in cases:
        path = saved(tmp_path / "m.safetensors", network, **changes)
        with pytest.raises(WeightsError, match=reason) as caught:
            upscale(FRAMES, 2, model=path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_an_absurd_shape_is_refused_before_allocation(tmp_path: Path) -> None:
    """A side of nothing makes any other side free, so that the file itself is small and valid."""
    path, wide = tmp_path / "m.safetensors", 1 << 40
    for key, shape in (("conv_first.weight", [wide, 3, 0, 3]), ("body.0.weight", [wide, 3, 0, 3])):
        layers = {
            "body.0.rdb1.conv1.weight": [8, 8, 0, 3],
            "conv_last.weight": [3, 8, 0, 3],
            "body.4.weight": [12, 8, 0, 3],
        }
        header = {
            name: {"dtype": "F32", "shape": each, "data_offsets": [0, 0]}
            for name, each in {**layers, key: shape}.items()
        }
        data = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(data)) + data)
        with pytest.raises(WeightsError, match=f"a network of {wide} features"):
            load(path)


def test_other_formats_and_damage_are_refused(compact: Path, tmp_path: Path) -> None:
    data = compact.read_bytes()
    for name, content, reason in (
        ("m.pth", data, "not a .safetensors file"),
        ("none.safetensors", None, "no such file"),
        ("empty.safetensors", b"", "damaged"),
        ("cut.safetensors", data[:-1], "damaged"),
        ("long.safetensors", data + b"\0", "damaged"),
        ("zip.safetensors", b"PK\3\4" + data, "damaged"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=reason) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_file_loads_or_is_refused(tmp_path: Path, compact: Path, data: st.DataObject) -> None:
    whole = bytearray(compact.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(whole) - 1, 900)))
        whole[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path / "changed.safetensors"
    path.write_bytes(whole)
    try:
        load(path)
    except WeightsError as error:
        assert "\n" not in str(error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.dictionaries(
        st.sampled_from(
            [f"body.{i}.{kind}" for i in range(6) for kind in ("weight", "bias")]
            + ["conv_first.weight", "conv_last.weight", "body.0.rdb1.conv1.weight", "model.0.weight", "body.x.weight"]
        )
        | st.text(max_size=8).filter(lambda key: key != "__metadata__"),
        st.lists(st.sampled_from([0, 1, 3, 8, 12]), max_size=4),
        max_size=8,
    )
)
@pytest.mark.slow
def test_any_keys_and_shapes_load_or_are_refused(tmp_path: Path, shapes: dict[str, list[int]]) -> None:
    path = tmp_path / "drawn.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    try:
        load(path)
    except WeightsError as error:
        assert "\n" not in str(error)
