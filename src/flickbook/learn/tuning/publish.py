"""The result of a training: the LoRA in two layouts or a whole model, a model card, and films with and without it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flickbook.catalogue import STUDENT, Model
from flickbook.diffusion.weights import save_weights
from flickbook.engine.generate import generate
from flickbook.files import link_or_copy, replace_whole, sha256
from flickbook.hub.manifest import write_manifest
from flickbook.learn.tuning import adapter
from flickbook.learn.tuning.config import TuneConfig
from flickbook.learn.tuning.record import MODEL, RECORD, record
from flickbook.learn.tuning.target import Sampling, Target
from flickbook.media.clip import Clip
from flickbook.media.sheet import contact_sheet


@dataclass(frozen=True)
class Source:
    """The model that was trained: its entry, the directory of its files, and the `--model-dir` that was asked for."""

    model: Model
    directory: Path
    model_dir: Path | None


def write_lora(target: Target, source: Source, out: Path, config: TuneConfig) -> list[Path]:
    """Write the LoRA's two files."""
    about = {
        "base_model": source.model.repo or source.model.name,
        "modelspec.architecture": f"{source.model.name}/lora",
        "ss_network_dim": str(config.rank),
        "ss_network_alpha": str(config.rank),
    }
    return adapter.write(target.networks, out, out.name, about, target.pipeline)


def write_model(target: Target, source: Source, out: Path) -> list[Path]:
    """Write `model/`: the model's directory with the trained denoising network, whole or not at all."""
    part, network = next(iter(target.networks.items()))
    final, temporary = out / MODEL, out / f"{MODEL}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source.directory, temporary, ignore=shutil.ignore_patterns(STUDENT), copy_function=link_or_copy)
    for old in (temporary / part).glob("*.safetensors*"):
        old.unlink()
    save_weights(network, temporary / part / "diffusion_pytorch_model.safetensors")
    (temporary / "manifest.json").unlink(missing_ok=True)  # a hard link: writing it would change the model's own
    write_manifest(temporary)
    (temporary / RECORD).unlink(missing_ok=True)  # of a model that was trained before
    record(temporary, {"model": source.model.name, "revision": source.model.revision()})
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    return [final]


def films(
    source: Source,
    files: list[Path],
    out: Path,
    prompt: str,
    how: Sampling,
    full: bool,
    cancel: Callable[[], bool] | None = None,
) -> tuple[Clip, Clip]:
    """Make the film of a prompt without and with the result, by the engine as any other film, and write both.
    Raises Cancelled."""
    fields: dict[str, Any] = {**vars(how), "cancel": cancel, "model": source.model.name, "model_dir": source.model_dir}
    without = generate(prompt, **fields)
    trained = {"model_dir": files[0]} if full else {"lora": str(files[0])}
    with_it = generate(prompt, **{**fields, **trained})
    without.save(out / "without.mp4", overwrite=True)
    with_it.save(out / "with.mp4", overwrite=True)
    sheet = contact_sheet([without.frames, with_it.frames], [f"without: {prompt}", f"with {out.name}: {prompt}"])
    replace_whole(out / "with-without.png", lambda temporary: sheet.save(temporary, "PNG"))
    return without, with_it


def report(out: Path, found: Mapping[str, Any]) -> Path:
    """Write report.json."""
    text = json.dumps(found, indent=1, default=str) + "\n"
    replace_whole(out / "report.json", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return out / "report.json"


def card(out: Path, source: Source, config: TuneConfig, found: Mapping[str, Any], files: list[Path]) -> Path:
    """Write README.md, the model card."""
    model, prompt = source.model, found["prompt"]
    kind = "A fine-tuned model" if config.full else f"A LoRA of rank {config.rank}"
    how = f"--model-dir {out.name}/{MODEL}" if config.full else f"--lora {out.name}"
    lines = [
        "---",
        f"base_model: {model.repo or model.name}",
        "tags: [text-to-video, " + ("full-fine-tuning]" if config.full else "lora]"),
        "---",
        "",
        f"# {out.name}",
        "",
        f"{kind} for {model.title}, trained by `flickbook tune` on {found['clips']} clips.",
        "",
        "```",
        f'flickbook generate "{prompt}" --model {model.name} {how}',
        "```",
        "",
        "![The same prompt and seed without and with it](with-without.png)",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _facts(config, found)),
        *(f"| SHA-256 of {path.name} | `{sha256(path)}` |" for path in files if path.is_file()),
        "",
        f"The base model's licence applies: {model.licence}.",
        "",
    ]
    text = "\n".join(lines)
    replace_whole(out / "README.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return out / "README.md"


def _facts(config: TuneConfig, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    size = "{width}x{height}, {num_frames} frames at {fps:g} frames per second".format(**found["size"])
    facts = [
        ("size", size),
        ("updates", f"{found['updates']} of {config.batch} clips, {found['seconds'] / 60:.1f} minutes"),
        ("learning rate", f"{config.lr:g}"),
        ("seed", str(config.seed)),
    ]
    if found.get("best") is not None:
        facts.append(("lowest loss on held-out clips", f"{found['best']:.4f} at update {found['best_at']}"))
    facts.append(("weights", f"of update {found['written_at']}"))
    return facts


def sample_sheet(frames: np.ndarray, label: str, path: Path) -> None:
    """Write the frames of a sample as a contact sheet."""
    sheet = contact_sheet([frames], [label])
    replace_whole(path, lambda temporary: sheet.save(temporary, "PNG"))
