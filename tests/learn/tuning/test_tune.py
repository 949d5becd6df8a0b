"""Whole trainings of tiny models: what they write, how they resume, and what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.learn.tuning.conftest import Make
from torch._subclasses.fake_tensor import FakeTensor

from flickbook import catalogue
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.engine.lora.apply import inject
from flickbook.engine.lora.file import LoraFile
from flickbook.errors import MissingExtra, OutputError, RequestError
from flickbook.files import sha256
from flickbook.learn import checkpoint
from flickbook.learn.compute import memory
from flickbook.learn.tuning import cost
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.output import alone
from flickbook.learn.tuning.target import Target, usual_precision
from flickbook.learn.tuning.trainer import Tuner
from flickbook.learn.tuning.tune import Hooks, Training, prepare, source_of, tune

LORA = "pytorch_lora_weights.safetensors"


_COSTS: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _known_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of equal networks on equal shapes is counted once for all tests: test_cost.py is about the counting."""
    counted = cost._pass

    def update(target: Target, shape: Sequence[int], condition: Any, fps: float, config: TuneConfig, known: int) -> Any:
        networks = [
            (part, name, tuple(each.shape), each.dtype, each.requires_grad)
            for part, network in target.networks.items()
            for name, each in network.named_parameters()
        ]
        given = {name: tuple(each.shape) for name, each in condition.items()}
        kind = type(target).__qualname__, target.joint, fps, given, known
        key = repr((kind, networks, tuple(shape), replace(config, iterations=1, lr=1.0)))
        if key not in _COSTS:
            _COSTS[key] = counted(target, tuple(shape), condition, fps, config, known)
        return _COSTS[key]

    monkeypatch.setattr(cost, "_pass", update)


def run(training: Training, updates: int | None = None) -> list[dict[str, float]]:
    """The log of a training; with `updates` it is stopped after so many."""
    rows: list[dict[str, float]] = []
    prepared, asked = prepare(training), iter(range(1000))
    tune(prepared, Hooks(on_row=rows.append, stop=None if updates is None else lambda: next(asked) >= updates))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("build", ["ms", "wan", "wan22_5b", "ltx", "ltx_cond", "cog"])
def test_each_family_trains_a_lora_that_changes_its_film(training: Make, build: str) -> None:
    lora = training(build)
    run(lora)
    out = lora.output
    found = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (match,) = found["match"]
    keys = len(load_file(out / LORA))
    assert f"{keys} of {keys} keys matched" in match
    assert len(LoraFile.open(out / "lora_kohya.safetensors").pairs) == keys / 2
    assert sha256(out / "with.mp4") != sha256(out / "without.mp4")
    assert (out / "README.md").read_text(encoding="utf-8").count("SHA-256") == 2
    assert "step,clips,loss" in (out / "log.csv").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("build", ["wan", "ltx", "cog"])
def test_stock_diffusers_loads_the_lora(training: Make, build: str, tmp_path: Path) -> None:
    import diffusers

    lora = training(build)
    run(lora)
    pipe = diffusers.DiffusionPipeline.from_pretrained(str(tmp_path / f"model-{build}"))
    pipe.load_lora_weights(str(lora.output))
    added = [name for name, _ in pipe.transformer.named_parameters() if "lora_B" in name]
    assert len(added) == len(load_file(lora.output / LORA)) // 2


@pytest.mark.slow
def test_a_resumed_training_writes_the_same_bytes(training: Make) -> None:
    whole, parts = training("ms", "whole", iterations=5), training("ms", "parts", iterations=5)
    run(whole)
    run(parts, updates=2)
    assert not (parts.output / LORA).exists()
    run(parts)
    assert sha256(whole.output / LORA) == sha256(parts.output / LORA)


@pytest.mark.slow
def test_a_resumed_training_keeps_its_precision(training: Make) -> None:
    """Also on a machine where `auto` means another one."""
    other = "fp32" if usual_precision(torch.device("cpu")) == "bf16" else "bf16"
    run(training("ms", precision=other), updates=1)
    again = training("ms")
    assert run(again)[-1]["update"] == 4
    assert json.loads((again.output / "report.json").read_text(encoding="utf-8"))["config"]["precision"] == other


@pytest.mark.slow
def test_recomputed_and_offloaded_blocks_give_the_same_losses(training: Make) -> None:
    plain = run(training("wan", "plain", precision="fp32"))
    recomputed = run(training("wan", "less", precision="fp32", gradient_checkpointing=True))
    offloaded = run(training("wan", "least", precision="fp32", offload=True))
    assert recomputed[-1]["loss"] == plain[-1]["loss"]
    assert offloaded[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=1e-5)


@pytest.mark.slow
def test_full_training_writes_a_model_that_makes_films(training: Make) -> None:
    full = training("ms", full=True)
    run(full)
    assert (full.output / "model" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert sha256(full.output / "with.mp4") != sha256(full.output / "without.mp4")
    said = json.loads((full.output / "model" / "tune.json").read_text(encoding="utf-8"))
    assert said.keys() == {"model", "revision"}, "no path of this machine"
    assert said["model"] == "tiny-ms" and not (source_of("tiny-ms", None).directory / "tune.json").exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_at_the_last_good_weights(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = training("ms")
    prepared = prepare(lora)
    losses, updates = prepared.target.losses, iter(range(100))

    def broken(*args: object) -> object:
        found = losses(*args)  # type: ignore[arg-type]
        update = None if isinstance(found.each, FakeTensor) else next(updates)  # the estimate computes shapes alone
        return found._replace(each=found.each * (float("nan") if update == 2 else 1))

    monkeypatch.setattr(prepared.target, "losses", broken)
    with pytest.raises(RequestError, match="the loss of update 3 is not finite") as stopped:
        tune(prepared)
    assert "checkpoint-00000002.json" in str(stopped.value)
    assert "the same command with `--iterations 2`" in str(stopped.value)
    weights = load_file(lora.output / "checkpoints" / "checkpoint-00000002.safetensors")
    assert all(bool(value.isfinite().all()) for value in weights.values())
    assert not (lora.output / LORA).exists()


@pytest.mark.slow
def test_a_training_ends_with_its_newest_checkpoint_if_its_updates_are_asked_for(training: Make) -> None:
    run(training("ms", iterations=4), updates=2)
    with pytest.raises(RequestError, match=r"other options \(iterations differ\)"):
        run(training("ms", iterations=3))
    ended = training("ms", iterations=2)
    assert run(ended) == []
    kept = load_file(ended.output / "checkpoints" / "checkpoint-00000002.safetensors")
    written = {name.removeprefix("unet."): value for name, value in load_file(ended.output / LORA).items()}
    for name, value in written.items():
        assert torch.equal(value, kept["weights/unet/" + name.replace(".weight", ".default.weight")])
    (still,) = (checkpoint.values(path) for path in (ended.output / "checkpoints").glob("*.json"))
    assert still["config"]["iterations"] == 4, "the longer training can be continued from it"


@pytest.mark.slow
def test_overfitting_stops_the_training_and_the_weights_before_it_are_written(
    training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(12):
        source = training("").directory / f"{number % 6}.mp4"
        (many / f"{number}.mp4").write_bytes(source.read_bytes())
        (many / f"{number}.txt").write_text("a square", encoding="utf-8")
    # So few updates do not overfit by themselves. The means of three count: 1.05 is within the tolerance of 15 %.
    losses = iter([1.0, 1.1, 1.5, 1.6])
    monkeypatch.setattr(Tuner, "validate", lambda tuner: next(losses))
    lora = training("ms", "early", many, validation=0.2, validate_every=1, patience=2, iterations=9)
    rows = run(lora)
    found = json.loads((lora.output / "report.json").read_text(encoding="utf-8"))
    assert found["held_out"] >= 2 and [row["validation_loss"] for row in rows] == [1.0, 1.1, 1.5, 1.6]
    assert (found["updates"], found["best_at"], found["written_at"]) == (4, 1, 1)
    losses = iter([1.0, 1.0, 0.7, 1.0, 1.0, 1.0, 1.0])
    run(replace(lora, output=lora.output.with_name("lucky"), config=replace(lora.config, iterations=7)))
    found = json.loads((lora.output.with_name("lucky") / "report.json").read_text(encoding="utf-8"))
    assert (found["updates"], found["written_at"]) == (7, 7), "one low evaluation is chance"


@pytest.mark.slow
def test_too_little_memory_is_refused_before_anything_is_written(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = training("")
    monkeypatch.setattr(memory, "free", lambda *_: 2**20)
    with pytest.raises(RequestError, match=r"batch=2: the training needs about 0\.\d GiB of memory"):
        tune(prepare(lora))
    assert not lora.output.exists()


def test_a_directory_that_another_training_writes_to_is_refused_and_left_as_it_is(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_pass", lambda *_: (0, 0.0))
    lora = training("")
    lora.output.mkdir()
    with alone(lora.output):
        before = sorted(lora.output.iterdir())
        with pytest.raises(OutputError, match="another training is writing to this directory"):
            tune(prepare(lora))
        assert sorted(lora.output.iterdir()) == before


def test_what_is_not_installed_is_told_before_anything_is_read(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flickbook.learn.tuning.tune.read", lambda *_, **__: pytest.fail("the clips were read"))
    with pytest.raises(RequestError, match="optimizer=adamw8bit: needs a CUDA GPU"):
        prepare(training("", optimizer="adamw8bit"))
    for name in ("peft", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtra, match=name):
            prepare(training(""))


def test_what_cannot_be_trained_is_refused(training: Make, tmp_path: Path) -> None:
    wrong = training("")
    with pytest.raises(RequestError, match="cannot be trained; choose one of builtin"):
        prepare(replace(wrong, plan=wrong.plan.model_copy(update={"model": "sdxl"}), model_dir=tmp_path))
    with pytest.raises(RequestError, match="width=36: must be a multiple of 32; ask for 32"):
        prepare(replace(wrong, plan=wrong.plan.model_copy(update={"width": 36})))
    (wrong.output).mkdir()
    (wrong.output / "thesis.txt").touch()
    with pytest.raises(OutputError, match="holds other files"):
        prepare(wrong)


@pytest.mark.slow
def test_another_training_in_the_same_output_is_refused(training: Make) -> None:
    run(training("ms"), updates=1)
    with pytest.raises(RequestError, match=r"other options \(rank differ\)"):
        run(training("ms", rank=3))


@pytest.mark.slow
def test_the_lora_of_the_built_in_model_has_its_text_encoder_too(training: Make) -> None:
    lora = training("", train_text_encoder=True, target_modules="all")
    run(lora)
    parts = {name.partition(".")[0] for name in load_file(lora.output / LORA)}
    assert parts == {"unet", "text_encoder"}
    networks = TextToVideo.load(catalogue.find("builtin").path())
    (match,) = inject(networks, [(lora.output / LORA, 1.0)])
    assert not match.unmatched


@pytest.mark.slow
def test_prior_examples_start_at_no_loss_and_teach_the_lora_to_leave_known_films(
    training: Make, tmp_path: Path
) -> None:
    known = tmp_path / "known.txt"
    known.write_text("a cat\na dog\n", encoding="utf-8")
    how: dict[str, Any] = {"iterations": 12, "lr": 0.05, "precision": "fp32"}
    # With gradient checkpointing clips and prior examples take two passes. Attention has other kernels with gradients
    # than without them, so outputs of about 1 differ by rounding, 1e-7.
    kept = replace(training("ms", "kept", prior=2, gradient_checkpointing=True, **how), prior_prompts=known)
    rows = run(replace(kept, sample_every=1))
    assert rows[0]["prior_loss"] < 1e-9 < rows[-1]["prior_loss"]
    lost = replace(training("ms", "lost", **how), prior_prompts=known)
    run(lost)
    moved = [distance_from_the_model(each, "a cat") for each in (kept, lost)]
    assert moved[0] < moved[1]
    known.write_text("a cat\na horse\n", encoding="utf-8")
    with pytest.raises(RequestError, match=r"other options \(clips differ\)"):
        run(kept)


def distance_from_the_model(training: Training, prompt: str) -> float:
    """How much a trained LoRA changes what the network predicts for a prompt at high noise."""
    source = source_of(training.plan.model, None)
    found = []
    for loras in ([], [(training.output / LORA, 1.0)]):
        networks = TextToVideo.load(source.directory)
        inject(networks, loras)
        x = torch.randn(1, networks.unet.config.in_channels, 5, 8, 8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found.append(networks.unet(x, torch.tensor([900]), networks.embed([prompt]).clone()))
    return float((found[0] - found[1]).square().mean())


@pytest.mark.slow
def test_samples_are_made_at_their_updates_also_of_half_precision_weights(training: Make) -> None:
    lora = replace(training("ms", target_modules="all", iterations=5, precision="bf16"), sample_every=2)
    prepared = prepare(lora)
    prepared.target.model.unet.to(torch.bfloat16)  # type: ignore[attr-defined]
    for name, parameter in prepared.target.networks["unet"].named_parameters():
        parameter.data = parameter.data.float() if "lora_" in name else parameter.data
    seen: list[int] = []
    tune(prepared, Hooks(on_sample=lambda update, frames, fps: seen.append(update)))
    assert seen == [2, 4]
