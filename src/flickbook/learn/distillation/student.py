"""A whole distillation, from a model to a model with a student: `flickbook distill MODEL --out DIR`.

It has three parts: films in `films/`, the updates in `distillation/`, and the result in `model/`. For the built-in
model the films are those of the training world, and for another model or for other prompts its own. Each part detects
its finished files, so the same command resumes after a kill. `model/` is the teacher's directory with the student in
`turbo/`, which `--speed turbo` runs; unchanged files are hard links where the file system allows it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from flickbook import catalogue
from flickbook.catalogue import STUDENT, STUDENT_CARD, Model
from flickbook.diffusion.text_to_video import DIFFERENCE, TextToVideo
from flickbook.diffusion.unet3d import UNet3D
from flickbook.diffusion.weights import save_difference
from flickbook.errors import MediaError, OutputError, RequestError
from flickbook.files import link_or_copy, replace_whole
from flickbook.hub import find
from flickbook.hub.manifest import read_config, write_manifest
from flickbook.learn import checkpoint
from flickbook.learn.compute import memory
from flickbook.learn.dataset import rendered, training_scenes, workers_of
from flickbook.learn.distillation.distill import DistillConfig, Distiller, LatentFilms
from flickbook.learn.evaluation.sources import model_of
from flickbook.world import grammar
from flickbook.world.scenes import Scene

#: Films of each group of the world whose captions a distillation of the built-in model uses, as shares of 16.
_SHARES = {"core": 4, "pair": 3, "several": 1, "digits": 1, "views": 2, "book": 5}
_SEED = 80_000_000
_Progress = Callable[[int, int], None]


def teacher_named(name: str, model_dir: Path | None = None) -> Model:
    """The catalogue's entry of a teacher: a name, with another directory of its files if there is one, or a directory
    in diffusers' layout, such as `flickbook train` and `flickbook tune --full` write.

    Raises ModelNotFound, RequestError for a model of another architecture. The files of a model of the catalogue need
    not be here.
    """
    if Path(name).is_dir():
        if model_dir is not None:
            limit = "is a directory, and so is --model-dir"
            raise RequestError("model", name, limit, "leave out --model-dir, or name a model of the catalogue")
        model = model_of(Path(name))
    else:
        model = catalogue.find(name) if model_dir is None else catalogue.find(name).at(model_dir)
    if model.family != "unet":
        known = ", ".join(each.name for each in catalogue.list_models() if each.family == "unet")
        raise RequestError("model", name, "is not of the 3D U-Net family", f"name one of {known}, or a directory")
    return model


def teacher_of(name: str, model_dir: Path | None = None) -> tuple[Model, Path]:
    """`teacher_named`, and the directory of its files. Raises ModelNotPulled besides."""
    model = teacher_named(name, model_dir)
    return model, find.directory(model)


def prompts_of(model: Model, path: Path | None, count: int) -> list[str]:
    """The prompts of `count` films: the lines of a file, repeated if there are fewer; for the built-in model captions.

    Raises MediaError for a file that cannot be read or is empty, RequestError for another model without a file.
    """
    if path is None:
        if model.name != "builtin":
            remedy = "name a text file with one prompt on each line"
            raise RequestError("prompts", "", f"{model.name} has no captions of its own", remedy)
        rng = np.random.default_rng(_SEED)
        return [grammar.caption(scene, rng) for scene in scenes_of(count)]
    lines = lines_of(path)
    return [lines[number % len(lines)] for number in range(count)]


def scenes_of(count: int) -> list[Scene]:
    """`count` scenes of the training world, all groups in any stretch."""
    shares = {group: share * -(-count // 16) for group, share in _SHARES.items()}
    return list(training_scenes(shares, first=_SEED))[:count]


def lines_of(path: Path) -> list[str]:
    """The prompts of a text file, one on each line. Raises MediaError if it cannot be read or is empty."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(path, f"cannot be read as text ({error})", "name a text file in UTF-8") from error
    if not lines:
        raise MediaError(path, "has no line of text", "write one prompt on each line")
    return lines


def films_of(
    teacher: TextToVideo,
    prompts: Sequence[str],
    config: DistillConfig,
    model: Model,
    directory: Path,
    scenes: Sequence[Scene] = (),
    progress: _Progress | None = None,
) -> LatentFilms:
    """Films of the prompts: those of `scenes`, or without them the teacher's. Batches whose file exists are not made
    again.

    Raises RequestError if the directory holds films of another teacher or of other options.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shape, fps = _shape(teacher, model), model.condition_fps or model.fps.default
    _check_options(directory, prompts, config, model)
    parts, batches = [], range(0, len(prompts), config.batch)
    files = {first: directory / f"films-{first // config.batch:05d}.safetensors" for first in batches}
    missing = [first for first, path in files.items() if not path.exists()]
    wanted = [scene for first in missing for scene in scenes[first : first + config.batch]]
    true = iter(rendered(wanted, 1, workers_of(teacher.device) if wanted else 0))
    for first, path in files.items():
        if first in missing:
            part = prompts[first : first + config.batch]
            if scenes:
                made = LatentFilms.encode(teacher, [next(true)[0] for _ in part], part, fps)
            else:
                made = LatentFilms.make(teacher, part, config, shape, fps, config.seed + first)
            replace_whole(path, lambda temporary, made=made: save_file(made.tensors(), temporary))  # type: ignore[misc]
        parts.append(load_file(path))
        if progress is not None:
            progress(min(first + config.batch, len(prompts)), len(prompts))
    joined = {name: torch.cat([part[name] for part in parts]) for name in ("latents", "context")}
    return LatentFilms.of({**parts[0], **joined})


def _shape(teacher: TextToVideo, model: Model) -> tuple[int, int, int, int]:
    width, height = model.sizes[0]
    return teacher.latent_shape(model.num_frames.default, height, width)


def _check_options(directory: Path, prompts: Sequence[str], config: DistillConfig, model: Model) -> None:
    """Record what the films of a directory are made from, or refuse to mix them with others."""
    record = directory / "films.json"
    options = {
        "model": model.name,
        "revision": model.revision(),
        "prompts": hashlib.sha256("\n".join(prompts).encode()).hexdigest(),
        **{name: getattr(config, name) for name in ("guidance_scale", "batch", "seed")},
    }
    known = read_config(record) if record.exists() else {}
    if not known and not any(directory.glob("*.safetensors")):
        text = json.dumps(options, indent=1)
        replace_whole(record, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    elif other := [name for name, value in options.items() if known.get(name) != value]:
        limit = f"holds films of another distillation ({', '.join(other)} differ)"
        raise RequestError("out", directory.parent, limit, "use the options of that run, or another --out")


def publish(source: Path, teacher: UNet3D, distiller: Distiller, out: Path) -> Path:
    """Write the teacher's directory with the student in `turbo/` to `out`, whole or not at all."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(STUDENT), copy_function=link_or_copy)
    folder = temporary / STUDENT
    folder.mkdir()
    weights = distiller.student.state_dict()  # the last phase left its average in it
    save_difference(weights, teacher.state_dict(), folder / DIFFERENCE)
    card = {"num_inference_steps": distiller.config.steps, "guidance_scale": distiller.config.guidance_scale}
    (folder / STUDENT_CARD).write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (temporary / "manifest.json").unlink(missing_ok=True)  # a hard link: writing it would change the teacher's
    write_manifest(temporary)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)
    return out


def _check_memory(
    networks: TextToVideo, config: DistillConfig, shape: tuple[int, int, int, int], ranks: int = 1
) -> None:
    unet, (channels, frames, height, width) = networks.unet, shape
    films = max(1, config.batch // ranks)

    def forward(shapes: torch.nn.Module) -> torch.Tensor:
        x = torch.empty(films, channels, frames, height, width, device="meta")
        context = torch.empty(films, 77, unet.config.cross_attention_dim, device="meta")
        each = torch.empty(films, device="meta")
        found: torch.Tensor = shapes(x, each, context, each)
        return found

    weights = sum(parameter.numel() for parameter in unet.parameters())
    # Two more copies: the student's average and the frozen teacher of the phase; on a GPU half copies of both, and
    # gradients. The loaded model comes on top.
    copies = 2 if networks.device.type == "cpu" else 4
    loaded = sum(each.nbytes for network in networks.in_memory() for each in network.parameters())
    need = memory.required(weights, copies, memory.activations(unet, forward), loaded)
    remedy = "lower it, or use a machine with more memory"
    memory.refuse_beyond(need, memory.free(networks.device, ranks), "batch", config.batch, remedy)


def refuse_file(out: Path) -> None:
    """Raise OutputError if the directory of a distillation is a file."""
    if out.exists() and not out.is_dir():
        raise OutputError(out, "is not a directory", "name another one")


def main(
    name: str,
    out: Path,
    config: DistillConfig,
    prompts: Path | None = None,
    num_films: int = 400,
    progress: _Progress | None = None,
    model_dir: Path | None = None,
    accelerator: Any = None,
) -> Iterator[dict[str, float]]:
    """Make the films, train, and write `out/model`. Yields a row of the training's log every 50 updates.

    With `accelerator` several processes share the updates; the first makes the films and writes. `progress` is called
    with (films done, films in all). Raises what `teacher_of`, `prompts_of` and `films_of` raise, OutputError if `out`
    is not a directory, and RequestError if the machine has too little memory.
    """
    refuse_file(out)
    model, directory = teacher_of(name, model_dir)
    if config.from_student and not (directory / STUDENT / STUDENT_CARD).is_file():
        remedy = "name the directory of a model that flickbook distill wrote, or leave it out"
        raise RequestError("from_student", True, f"{name} has no student", remedy)
    texts = prompts_of(model, prompts, num_films)
    device: Any = "cpu"  # accelerate numbers processors too, which files cannot be loaded to
    if torch.cuda.is_available():
        device = accelerator.device if accelerator else "cuda"
    networks = TextToVideo.load(directory, device=device)
    _check_memory(networks, config, _shape(networks, model), accelerator.num_processes if accelerator else 1)
    scenes = scenes_of(num_films) if prompts is None else ()
    with accelerator.main_process_first() if accelerator else nullcontext():
        maker = networks if networks.device.type == "cuda" else TextToVideo.load(directory).pack()
        films = films_of(maker, texts, config, model, out / "films", scenes, progress)
        del maker
    distiller = Distiller(networks, films, config, out / "distillation", accelerator)
    newest = checkpoint.latest(distiller.out)
    if newest is not None:
        distiller.restore(newest)
    elif config.from_student:
        distiller.start_from(TextToVideo.load(directory, device=device, student=STUDENT).unet.state_dict())
    yield from distiller.run()
    if distiller.rank == 0:
        publish(directory, networks.unet, distiller, out / "model")
