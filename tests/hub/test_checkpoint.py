"""Checkpoints are read without executing them, and hostile ones are refused by name."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from flickbook.errors import WeightsError
from flickbook.hub import checkpoint
from flickbook.hub.checkpoint import Checkpoint, Piece, convert

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def converted(path: Path, pieces: dict[str, Piece] | None = None) -> dict[str, torch.Tensor]:
    with Checkpoint(path) as opened:
        return load_file(convert(opened, path.with_suffix(".safetensors"), pieces))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_comes_through_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    value = (10 * torch.randn(3, 5)).to(dtype)
    assert torch.equal(converted(saved(tmp_path / "a.ckpt", {"w": value}))["w"], value)


def test_views_shared_storages_parameters_and_scalars(tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(4, 6)
    state = OrderedDict(
        whole=whole,
        turned=whole.t(),
        column=whole[:, 2],
        part=whole[1:3, 1:4],
        spread=whole[0].expand(1, 6),
        parameter=torch.nn.Parameter(torch.ones(2)),
        number=torch.tensor(7),
        nothing=torch.zeros(0, 3),
    )
    found = converted(saved(tmp_path / "views.pt", state))
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(found[name], value.detach()), name


def test_a_module_and_what_stands_around_its_state(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    around = {"state_dict": network.state_dict(), "epoch": 3, "note": "done", "rates": [1e-3, None, (True, "x")]}
    found = converted(saved(tmp_path / "model.ckpt", around))
    assert found.keys() == network.state_dict().keys()
    network.load_state_dict(found)
    nested = {"ema": {"decay": 0.99, "weights": {"w": torch.ones(1)}}, "b": torch.zeros(2)}
    assert set(converted(saved(tmp_path / "nested.ckpt", nested))) == {"ema.weights.w", "b"}


def test_pieces_choose_rename_cut_and_reshape(tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(6, 4)
    path = saved(tmp_path / "a.ckpt", {"x": whole, "y": torch.zeros(2, 3, 1, 1)})
    assert converted(path, {"renamed": Piece("y")}).keys() == {"renamed"}
    found = converted(path, {"q": Piece("x", (0, 2)), "k": Piece("x", (2, 6), (16,)), "y": Piece("y", shape=(2, 3))})
    assert torch.equal(found["q"], whole[:2]) and torch.equal(found["k"], whole[2:].flatten())
    assert found["y"].shape == (2, 3)


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (Piece("z"), "misses z"),
        (Piece("x", (4, 7)), "x has no rows 4 to 7"),
        (Piece("x", shape=(5, 5)), r"x is \[6, 4\], not \[5, 5\]"),
    ],
)
def test_pieces_that_do_not_fit_are_named(piece: Piece, says: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt", {"x": torch.zeros(6, 4)})
    with pytest.raises(WeightsError, match=says):
        converted(path, {"new": piece})
    assert [each.name for each in tmp_path.iterdir()] == ["a.ckpt"]


class Calls:
    """An object whose unpickling calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def archive(path: Path, program: bytes, **others: bytes) -> Path:
    """A checkpoint whose data.pkl is `program`."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program)
        for name, data in others.items():
            file.writestr(f"archive/{name}", data)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Calls(os.system, "touch hacked"), r"(posix|nt)\.system"),
        (Calls(eval, "1"), r"eval"),
        (Calls(getattr, "torch", "load"), r"getattr"),
        (Calls(torch.nn.Linear, 1, 1), r"Linear"),
    ],
    ids=["system", "eval", "getattr", "class"],
)
def test_nothing_is_called(
    call: Calls, named: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "evil.ckpt", pickle.dumps({"w": call}, protocol))
    with pytest.raises(WeightsError, match=named):
        Checkpoint(path)
    assert [each.name for each in tmp_path.iterdir()] == ["evil.ckpt"]


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch hacked'\ntR.",
        b"(S'touch hacked'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch hacked'\no.",
        b"\x80\x02cos\nsystem\n)\x81.",
        b"\x80\x02cbuiltins\nexec\n(X\x01\x00\x00\x00xtR.",
        b"\x82\x01.",
        b"Pname\n.",
    ],
)
def test_no_opcode_calls_anything(program: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError):
        Checkpoint(archive(tmp_path / "evil.ckpt", program))
    assert [each.name for each in tmp_path.iterdir()] == ["evil.ckpt"]


def test_a_renamed_pickle_a_text_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for name, data in (("p.ckpt", pickle.dumps({"a": 1})), ("t.ckpt", b"hello"), ("e.ckpt", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match="not a PyTorch checkpoint"):
            Checkpoint(tmp_path / name)
    with pytest.raises(WeightsError, match="No such file"):
        Checkpoint(tmp_path / "missing.ckpt")
    with pytest.raises(WeightsError, match="holds no tensors"):
        Checkpoint(saved(tmp_path / "plain.ckpt", {"a": 1}))


def test_bytes_that_are_not_the_tensors_are_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.ckpt", {"w": torch.ones(4)})
    with zipfile.ZipFile(whole) as file:
        parts = {info.filename.partition("/")[2]: file.read(info) for info in file.infolist()}
    program = parts.pop("data.pkl")
    with pytest.raises(WeightsError, match="bytes of tensor w are missing"):
        Checkpoint(archive(tmp_path / "none.ckpt", program))
    with pytest.raises(WeightsError, match="are not 4 numbers"):
        Checkpoint(archive(tmp_path / "short.ckpt", program, **{"data/0": b"\0" * 12}))
    with pytest.raises(WeightsError, match="big-endian"):
        Checkpoint(archive(tmp_path / "big.ckpt", program, **{"data/0": parts["data/0"], "byteorder": b"big"}))


def test_bytes_that_are_listed_but_not_there_are_never_read(tmp_path: Path) -> None:
    """A stored file that claims to be larger than it is: a view of it would show this process's memory."""
    whole = saved(tmp_path / "whole.ckpt", {"w": torch.ones(1000)})
    with zipfile.ZipFile(whole) as file:
        program = next(file.read(info) for info in file.infolist() if info.filename.endswith("data.pkl"))
    path = tmp_path / "short.ckpt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/data/0", b"\0" * 16)
        file.getinfo("archive/data/0").file_size = 4000
    with pytest.raises(WeightsError, match="are not 1000 numbers"):
        Checkpoint(path)


def nested(levels: int) -> dict[str, Any]:
    """A few bytes that unfold to 2 ** levels dictionaries."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value, "b": value}
    return value


def key(levels: int) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ()
    for _ in range(levels):
        value = (value, value)
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (nested(60), "more than 16 deep"),
        ({(1, 2): 3}, "neither texts nor numbers"),
        ({"a": {1, 2}}, "opcode|calls"),
        ([[]] * 5, "holds no tensors"),
    ],
    ids=["dictionaries", "keys", "sets", "lists"],
)
def test_programs_that_unfold_are_refused_at_once(value: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=says):
        Checkpoint(archive(tmp_path / "wide.ckpt", pickle.dumps(value, 4)))


def test_a_name_that_unfolds_is_refused_at_once(tmp_path: Path) -> None:
    tail = pickle.dumps(key(60), 4)[:-1]
    for program in (tail + b"\x8c\x01a\x93.", b"(\x8c\x07storage" + tail + b"\x8c\x010\x8c\x03cpuK\x01tQ."):
        with pytest.raises(WeightsError, match="damaged"):
            Checkpoint(archive(tmp_path / "name.ckpt", program))


def test_what_a_hostile_file_says_is_printed_harmlessly(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        Checkpoint(archive(tmp_path / "loud.ckpt", b"cposix\n\x1b]0;owned\x07\x1b[2J\n)R."))
    assert str(caught.value).isprintable() and "owned" in str(caught.value)


def test_other_compressions_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.ckpt", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    with pytest.raises(WeightsError, match="compressed in a way"):
        Checkpoint(tmp_path / "b.ckpt")


def test_a_program_too_long_to_walk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_PROGRAM_BYTES", 100)
    with pytest.raises(WeightsError, match="larger than 100 bytes"):
        Checkpoint(saved(tmp_path / "a.ckpt", {f"key{i}": torch.ones(1) for i in range(20)}))


def test_damaged_bytes_leave_no_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.ckpt", {"w": torch.arange(1000.0)})
    data = bytearray(path.read_bytes())
    at = data.find(torch.arange(1000.0).numpy().tobytes()[400:440])
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        converted(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    state = {"a": torch.ones(3), "b": {"c": torch.zeros(2, 2)}}
    return saved(tmp_path_factory.mktemp("plain") / "a.ckpt", state).read_bytes()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(plain: bytes, tmp_path: Path, data: st.DataObject) -> None:
    broken = bytearray(plain)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "broken.ckpt"
    path.write_bytes(bytes(broken[: data.draw(st.integers(1, len(broken)))]))
    try:
        found = converted(path)
    except WeightsError:
        return
    assert all(isinstance(value, torch.Tensor) for value in found.values())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.binary(max_size=60))
def test_any_program_is_refused_or_harmless(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(WeightsError):
        Checkpoint(archive(tmp_path / "any.ckpt", program))
