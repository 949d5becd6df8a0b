"""The training loop: what it draws, that it repeats itself, and that a kill at any instant costs nothing."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import flickbook
from flickbook.errors import WeightsError
from flickbook.learn import checkpoint
from flickbook.learn.config import from_dict
from flickbook.learn.train import (
    LOG_FIELDS,
    Trainer,
    append_log,
    clip_length,
    generator,
    timesteps,
    trim_log,
    warm_start,
)

Make = Callable[..., Trainer]
Hash = Callable[[dict[str, Tensor]], str]


def steps_of(path: Path) -> list[int]:
    with path.open(newline="", encoding="utf-8") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_timesteps_are_stratified_and_focused(values: dict[str, Any]) -> None:
    everywhere = timesteps(from_dict({**values, "noise_focus": [0.0, 0.4, 0.9]}), 64, generator(0, 0, 0))
    assert Counter((everywhere * 64 // 1000).tolist()).most_common(1)[0][1] <= 2
    assert everywhere.dtype == torch.int64
    focused = timesteps(from_dict({**values, "noise_focus": [1.0, 0.4, 0.9]}), 64, generator(0, 0, 0))
    assert int(focused.min()) >= 400 and int(focused.max()) < 900
    half = timesteps(from_dict(values), 4000, generator(0, 0, 0))
    inside = float(((half >= 400) & (half < 900)).float().mean())
    assert inside == pytest.approx(0.75, abs=0.04)  # all of the focused half, and half of the rest


def test_noise_differs_by_seed_rank_and_step() -> None:
    found = {
        tuple(torch.randn(2, generator=generator(*key)).tolist())
        for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    }
    assert len(found) == 4
    again = torch.randn(2, generator=generator(0, 0, 0))
    assert torch.equal(again, torch.randn(2, generator=generator(0, 0, 0)))


def test_clip_lengths_keep_their_shares_over_any_stretch(values: dict[str, Any]) -> None:
    shares = {"1": 0.1, "8": 0.2, "16": 0.7}
    config = from_dict({**values, "stages": [{"name": "whole", "steps": 1000, "lr": 1.0, "frames": shares}]})
    for start in range(0, 1000, 100):
        stretch = Counter(clip_length(config, step) for step in range(start, start + 100))
        assert all(abs(stretch[int(length)] - 100 * share) <= 2 for length, share in shares.items())


def test_a_step_is_a_row_of_the_log(trainer: Make, tmp_path: Path) -> None:
    made = trainer(tmp_path)
    rows = [made.step() for _ in range(6)]
    for number, row in enumerate(rows):
        assert row["step"] == number and set(row) <= set(LOG_FIELDS)
        assert 0 < row["loss"] < 100 and row["grad_norm"] > 0
        assert any(name.startswith("loss_") for name in row)
    assert [(row["stage"], row["frames"], row["clips"]) for row in rows[:4]] == [
        ("stills", 1, 16 * i) for i in range(1, 5)
    ]
    assert rows[5]["stage"] == "films" and rows[5]["clips"] == 64 + sum(16 // row["frames"] for row in rows[4:])
    assert made.progress.frames == 16 * 6


def test_other_processes_prepare_the_same_batches(
    trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a GPU, from the third step on."""
    monkeypatch.setattr("flickbook.learn.train.workers_of", lambda device, ranks: 2)
    batches = trainer(tmp_path).batches
    prepared = list(batches.prepared(2, torch.device("cpu")))
    assert len(prepared) == batches.config.steps - 2
    for step, batch in enumerate(prepared, 2):
        assert all(torch.equal(one, other) for one, other in zip(batch, batches[step], strict=True))


@pytest.mark.slow
def test_the_same_config_gives_the_same_weights(trainer: Make, tmp_path: Path, weights: Hash) -> None:
    found = []
    for name, changes in (("a", {}), ("b", {}), ("c", {"seed": 2})):
        made = trainer(tmp_path / name, **changes)
        for _ in range(6):
            made.step()
        found.append((weights(made.model.state_dict()), weights(made.averages[0.9])))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0] and found[0][0] != found[0][1]


@pytest.mark.slow
def test_both_networks_learn(trainer: Make, tmp_path: Path) -> None:
    made = trainer(tmp_path)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    for _ in range(6):
        made.step()
    still = [name for name, value in made.model.state_dict().items() if torch.equal(value, before[name])]
    assert still == []


def test_temporal_layers_start_with_the_gain_asked_for(trainer: Make, tmp_path: Path) -> None:
    name = "unet.mid_block.temp_convs.0.conv4.3.weight"
    assert not trainer(tmp_path).model.state_dict()[name].any()
    spread = trainer(tmp_path, temporal_init=0.3).model.state_dict()[name].std()
    assert float(spread) == pytest.approx(0.3 / (3 * 32) ** 0.5, rel=0.1)


def test_averages_follow_the_weights(trainer: Make, tmp_path: Path) -> None:
    """A young average leans on few steps: after step n its weight is at most (1 + n) / (10 + n)."""
    made, name = trainer(tmp_path), "unet.conv_out.weight"
    expected = {decay: made.model.state_dict()[name].clone() for decay in made.averages}
    for number in range(3):
        made.step()
        for decay, average in expected.items():
            average.lerp_(made.model.state_dict()[name], 1 - min(decay, (1 + number) / (10 + number)))
    for decay, average in expected.items():
        assert torch.allclose(made.averaged(decay).state_dict()[name], average, atol=1e-7)


@pytest.mark.slow
def test_a_run_to_its_end_logs_and_saves(trainer: Make, tmp_path: Path) -> None:
    made = trainer(tmp_path)
    rows = list(made.run(log_every=5))
    assert [row["step"] for row in rows] == [4, 9, 11]
    assert all(row["clips_per_s"] > 0 and row["minutes_left"] >= 0 and row["of_best_matmul"] > 0 for row in rows)
    assert steps_of(tmp_path / "log.csv") == [4, 9, 11]
    newest = checkpoint.latest(tmp_path)
    assert newest is not None and newest.name == "checkpoint-00000012.json"
    # Run again, it has nothing left to do.
    again = trainer(tmp_path)
    again.restore(newest)
    assert list(again.run()) == [] and steps_of(tmp_path / "log.csv") == [4, 9, 11]


#: Trains in a process of its own, saving after every step, and waits to be killed before the end.
PROGRAM = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("small", sys.argv[1])
small = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small)
trainer = small.small_trainer(Path(sys.argv[2]), Path(sys.argv[3]))
for row in trainer.run(save_every=0.0, log_every=1):
    print(row["step"], flush=True)
    if row["step"] == 9:
        time.sleep(600)
"""


@pytest.mark.slow
def test_a_run_killed_with_signal_9_ends_in_the_same_weights(
    trainer: Make, tokenizer_path: Path, tmp_path: Path
) -> None:
    """The files of the last checkpoint are equal: weights, averages and optimizer. No step is logged twice."""
    list(trainer(tmp_path / "straight").run(log_every=1))
    killed = tmp_path / "killed"
    words = [
        sys.executable,
        "-c",
        PROGRAM,
        str(Path(__file__).with_name("conftest.py")),
        str(killed),
        str(tokenizer_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1])}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "5\n":  # somewhere between here and step 9
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    newest = checkpoint.latest(killed)
    assert newest is not None
    resumed = trainer(killed)
    resumed.restore(newest)
    assert 4 <= resumed.progress.step <= 10
    list(resumed.run(log_every=1))
    finals = [directory / "checkpoint-00000012.safetensors" for directory in (tmp_path / "straight", killed)]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in finals}) == 1
    assert steps_of(killed / "log.csv") == list(range(12))


def test_rows_of_undone_steps_leave_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for step in range(8):
        append_log(path, {"step": step, "clips": 10 * step, "loss": 0.5})
    whole = path.read_bytes()
    trim_log(path, 8)
    assert path.read_bytes() == whole
    trim_log(path, 5)
    assert steps_of(path) == [0, 1, 2, 3, 4]
    append_log(path, {"step": 5, "clips": 50, "loss": 0.5})
    assert steps_of(path) == [0, 1, 2, 3, 4, 5]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log.csv"]


@pytest.mark.parametrize("torn", [b"1", b"17,films,", b"\xff\x00\x00"])
def test_a_row_cut_short_by_a_kill_leaves_the_log(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log.csv"
    for step in range(3):
        append_log(path, {"step": step, "clips": step})
    with path.open("ab") as file:
        file.write(torn)
    trim_log(path, 20)
    assert steps_of(path) == [0, 1, 2]


def test_a_log_without_a_whole_header_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    trim_log(path, 3)
    assert not path.exists()
    path.write_text("step,stage,cl")
    trim_log(path, 3)
    append_log(path, {"step": 0, "clips": 1})
    assert steps_of(path) == [0]


@pytest.mark.slow
def test_a_run_that_never_reached_a_checkpoint_logs_each_step_once(trainer: Make, tmp_path: Path) -> None:
    stopped = trainer(tmp_path).run(log_every=1)
    next(stopped), next(stopped)
    list(trainer(tmp_path).run(log_every=1))
    assert steps_of(tmp_path / "log.csv") == list(range(12))


def test_a_checkpoint_of_other_networks_is_refused(trainer: Make, values: dict[str, Any], tmp_path: Path) -> None:
    path = trainer(tmp_path).save()
    other = {**values["unet"], "block_out_channels": [32, 64]}
    with pytest.raises(WeightsError, match="does not fit the networks of this configuration"):
        trainer(tmp_path, unet=other).restore(path)


def test_a_new_run_from_the_networks_of_another(trainer: Make, tmp_path: Path, weights: Hash) -> None:
    first = trainer(tmp_path / "first")
    for _ in range(3):
        first.step()
    path = first.save()
    second = trainer(tmp_path / "second")
    second.restore(path, weights_only=True)
    assert weights(second.model.state_dict()) == weights(first.model.state_dict())
    assert weights(second.averages[0.5]) == weights(first.averages[0.5])
    assert second.progress.step == 0 and not second.optimizer.state


def test_a_warm_start_takes_the_published_weights(
    trainer: Make, published: Path, tmp_path: Path, weights: Hash
) -> None:
    from flickbook.diffusion.text_to_video import TextToVideo

    made = trainer(tmp_path)
    warm_start(made, published)
    networks = TextToVideo.load(published)
    assert weights(made.model.unet.state_dict()) == weights(networks.unet.state_dict())
    assert weights(made.model.text_encoder.state_dict()) == weights(networks.text_encoder.state_dict())
    assert all(weights(average) == weights(made.model.state_dict()) for average in made.averages.values())


def test_a_warm_start_from_nothing_or_from_another_shape_is_refused(
    trainer: Make, published: Path, values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        warm_start(trainer(tmp_path), tmp_path / "missing")
    with pytest.raises(WeightsError, match="unet"):
        warm_start(trainer(tmp_path, unet={**values["unet"], "block_out_channels": [32, 64]}), published)


@pytest.mark.slow
def test_through_accelerate_one_process_learns_the_same(
    trainer: Make, tokenizer_path: Path, tmp_path: Path, weights: Hash
) -> None:
    from accelerate import Accelerator

    alone = trainer(tmp_path / "alone")
    shared = Trainer(
        alone.config, alone.batches.films, alone.batches.tokenizer, tmp_path / "shared", Accelerator(cpu=True)
    )
    for made in (alone, shared):
        for _ in range(5):
            made.step()
    assert shared.rank == 0
    assert weights(shared.model.state_dict()) == weights(alone.model.state_dict())
