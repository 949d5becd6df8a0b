"""`flickbook generate --dry-run`: what a film would take, said without making it and without its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import Command


def test_a_dry_run_estimates_a_model_that_is_not_installed(command: Command, work: Path) -> None:
    done = command("generate", "a panda surfing", "--model", "text-to-video-ms-1.7b", "--dry-run")
    assert done.returncode == 0 and done.stderr == ""
    assert "256x256, 16 frames at 8 per second, 25 steps of dpm++, guidance 9" in done.stdout
    for word in ("weights", "denoising", "decoding", "download  3.7 GB", "GiB free", "time"):
        assert word in done.stdout
    assert list(work.iterdir()) == []


def test_generate_without_the_model_is_refused_in_one_line(command: Command) -> None:
    done = command("generate", "a panda surfing", "--model", "text-to-video-ms-1.7b")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "text-to-video-ms-1.7b is not on this machine yet: 3.67 GB, CC BY-NC 4.0" in done.stderr
    assert "; run `flickbook models pull text-to-video-ms-1.7b`, or add --yes" in done.stderr


def test_json_has_the_plan_and_the_estimate(command: Command) -> None:
    done = command("generate", "a panda surfing", "--model", "wan-2.1-14b", "--dry-run", "--json")
    document = json.loads(done.stdout)
    assert document["plan"]["num_frames"] == 81 and document["plan"]["model"] == "wan-2.1-14b"
    estimate = document["estimate"]
    assert estimate["weights"] > 10e9 and estimate["peak"] > estimate["weights"]
    assert estimate["fits"] or "--model" in estimate["remedy"]


def test_a_dry_run_refuses_invalid_options(command: Command) -> None:
    done = command("generate", "a panda", "--num-frames", "999", "--dry-run")
    assert done.returncode == 2 and "--num-frames 999" in done.stderr
    done = command("generate", "a panda", "--precision", "fp64", "--dry-run")
    assert done.returncode == 2 and "--precision fp64: must be auto or one of fp32" in done.stderr


@pytest.mark.slow
def test_the_estimate_is_computed_first_and_measured_afterwards(command: Command) -> None:
    words = ("generate", "a red circle", "--num-frames", "2", "--num-inference-steps", "2", "--output")
    first = command(*words, "a.mp4")
    assert first.returncode == 0, first.stderr
    assert first.stderr.startswith("note: float32 on ") and "(computed)" in first.stderr.splitlines()[0]
    second = command(*words, "b.mp4")
    line = second.stderr.splitlines()[0]
    assert "(measured)" in line and " s" in line
