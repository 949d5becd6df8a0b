"""A model of true size through the ordinary command, and what makes its replica one."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import psutil
import pytest
import torch
from bench import published, replica
from transformers import CLIPTokenizer

from flickbook.diffusion.tokenizer import Tokenizer
from flickbook.engine.memory.device import PRECISIONS
from flickbook.engine.memory.machine import Machine

ROOT = Path(__file__).parents[2]
NAME = "text-to-video-ms-1.7b"
GB, GIB = 10**9, 2**30


@pytest.mark.parametrize(
    ("name", "part", "count"),
    [
        (NAME, "unet", 1_411_233_860),
        (NAME, "text_encoder", 340_387_840),
        (NAME, "vae", 83_653_863),
        ("wan-2.1-1.3b", "transformer", 1_418_996_800),
        ("wan-2.1-1.3b", "vae", 126_892_531),
    ],
)
def test_the_replica_has_the_published_number_of_parameters(name: str, part: str, count: int) -> None:
    listed = replica.tensors_of(replica.MODELS[name].parts[part])
    assert sum(math.prod(shape) for shape, dtype in listed.values() if dtype.is_floating_point) == count


@pytest.mark.parametrize(("part", "megabytes"), [("unet", 2820), ("text_encoder", 681), ("vae", 167)])
def test_the_replica_files_have_the_published_sizes(part: str, megabytes: int) -> None:
    """The fp16 files of the repository's list: 2.82 GB, 681 MB, 167 MB."""
    size = replica.bytes_of(replica.tensors_of(replica.MODELS[NAME].parts[part]))
    assert size / 1e6 == pytest.approx(megabytes, rel=0.002)


def test_both_libraries_tokenize_equally(tmp_path: Path) -> None:
    replica.clip_words(tmp_path)
    ours, theirs = Tokenizer(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    assert ours.vocab_size == len(theirs) == published.MS_TEXT["vocab_size"]
    for text in ("a panda surfing", "Čínská panda 3x, it's 大熊猫!", "", "word " * 100):
        ids = ours.encode(text)
        assert ids == theirs(text, padding="max_length", truncation=True).input_ids
        assert len(ids) == 77 and min(ids) >= 0 and max(ids) == 49407
    # Pieces of letters, not single bytes, and the padding of the published files.
    spelt = ours.encode("surfing")
    assert spelt.index(49407) <= 5 and set(spelt[6:]) == {0}


def test_a_part_written_alone_equals_the_part_of_the_whole(tmp_path: Path) -> None:
    one = {"a.weight": (torch.Size([4, 8]), torch.float16), "a.position_ids": (torch.Size([1, 5]), torch.int64)}
    for folder in ("first", "second"):
        (tmp_path / folder / "vae").mkdir(parents=True)
        replica.write_weights(tmp_path / folder / "vae" / "x.safetensors", one, seed=3)
    first, second = ((tmp_path / folder / "vae" / "x.safetensors").read_bytes() for folder in ("first", "second"))
    assert first == second
    from safetensors.torch import load_file

    read = load_file(tmp_path / "first" / "vae" / "x.safetensors")
    assert read["a.weight"].dtype == torch.float16 and read["a.position_ids"].tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.trial
def test_a_model_of_true_size_makes_a_film(tmp_path: Path) -> None:
    memory, disk = psutil.virtual_memory().available, shutil.disk_usage(tmp_path).free
    if memory < 20 * GB or disk < 12 * GB:
        pytest.skip(f"needs 20 GB of memory and 12 GB of disk; {memory / GB:.0f} and {disk / GB:.0f} are free")
    model, film = tmp_path / "model", tmp_path / "film.mp4"
    try:
        built = _timed([sys.executable, "-m", "bench.replica", NAME, str(model)])
        # A processor without bfloat16 arithmetic would take an hour.
        precision = "bf16" if Machine.here().bf16 else "fp32"
        options = ["--size", "256x256", "--num-frames", "4", "--num-inference-steps", "2", "--precision", precision]
        where = ["--model", NAME, "--model-dir", str(model), "--output", str(film)]
        words = [sys.executable, "-m", "flickbook", "generate", "a panda surfing", *where, *options]
        made = _timed(words)
    finally:
        shutil.rmtree(model, ignore_errors=True)
    with av.open(str(film)) as opened:
        pictures = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    assert len(pictures) == 4 and {picture.shape for picture in pictures} == {(256, 256, 3)}
    # Random weights make noise, not nothing: what is not finite would have become one colour.
    assert all(picture.std() > 5 for picture in pictures)
    document = json.loads(Path(f"{film}.json").read_text(encoding="utf-8"))
    recipe, run = document["recipe"], document["run"]
    assert len(recipe["weights"]) == 3 and recipe["placement"]["dtype"] == PRECISIONS[precision]
    peak = run["peak_memory_bytes"]
    phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in run["seconds"].items())
    print(f"built in {built:.0f} s; film in {made:.0f} s ({phases}); peak {peak / GIB:.2f} GiB")
    assert peak <= 24 * GIB


def _timed(command: list[str]) -> float:
    """Seconds of a command run in the repository's root; its own words are shown if it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began
