"""Hashes of files: written, compared, remembered."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flickbook.errors import WeightsError
from flickbook.hub.manifest import HashCache, read_config, verify, write_manifest


def model(directory: Path) -> Path:
    path = directory / "unet" / "m.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    write_manifest(directory)
    return path


def test_verify_accepts_what_was_written(tmp_path: Path) -> None:
    model(tmp_path)
    manifest = verify(tmp_path)
    assert list(manifest) == ["unet/m.safetensors"] and len(manifest["unet/m.safetensors"]) == 64


def test_verify_names_both_hashes(tmp_path: Path) -> None:
    path = model(tmp_path)
    expected = verify(tmp_path)["unet/m.safetensors"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        verify(tmp_path)
    found = HashCache().sha256(path)
    assert found != expected and expected in str(caught.value) and found in str(caught.value)
    path.unlink()
    with pytest.raises(WeightsError, match="m.safetensors: No such file"):
        verify(tmp_path)


@pytest.mark.parametrize("name", ["../m.safetensors", "/etc/hostname", "a/../../b", "..\\b"])
def test_verify_stays_in_its_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({name: "0" * 64}))
    with pytest.raises(WeightsError, match="bad entry"):
        verify(tmp_path)


def settle(path: Path, seconds: int = 100) -> None:
    """Give a file a time of change in the past: what changed just now is not remembered."""
    then = path.stat().st_mtime_ns - seconds * 1_000_000_000
    os.utime(path, ns=(then, then))


def test_a_hash_is_remembered_until_size_or_time_changes(tmp_path: Path) -> None:
    path, store = tmp_path / "f", tmp_path / "deep" / "hashes.json"
    path.write_bytes(b"one")
    settle(path)
    first = HashCache(store).sha256(path)
    stamp = path.stat().st_mtime_ns
    # Same size and time: the remembered hash is taken, which shows that the file was not read again.
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp, stamp))
    assert HashCache(store).sha256(path) == first
    os.utime(path, ns=(stamp + 1, stamp + 1))
    second = HashCache(store).sha256(path)
    assert second != first and second == HashCache().sha256(path)
    path.write_bytes(b"three")
    os.utime(path, ns=(stamp + 1, stamp + 1))
    assert HashCache(store).sha256(path) == HashCache().sha256(path) != second


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    path, store = tmp_path / "f", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    HashCache(store).sha256(path)
    assert not store.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"%s": 3}', '{"%s": [1, 2]}'])
def test_a_damaged_cache_only_costs_time(text: str, tmp_path: Path) -> None:
    path, store = tmp_path / "f", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    settle(path)
    store.write_text(text.replace("%s", str(path)))
    assert HashCache(store).sha256(path) == HashCache().sha256(path)


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    settle(path)
    assert HashCache(path / "below a file" / "hashes.json").sha256(path) == HashCache().sha256(path)


def test_read_config_has_limits(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(WeightsError, match="No such file"):
        read_config(path)
    path.write_text('{"a": 1}')
    assert read_config(path) == {"a": 1}
    with pytest.raises(WeightsError, match="larger than 7 bytes"):
        read_config(path, limit=7)
    for text in ("[1]", "3", "{", "", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(WeightsError, match="not (a )?JSON"):
            read_config(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_read_but_never_crash(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(data)
    with contextlib.suppress(WeightsError):
        assert isinstance(read_config(path), dict)
