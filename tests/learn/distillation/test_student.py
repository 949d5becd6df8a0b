"""A whole distillation: a model's directory with a student, which `--speed turbo` runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tests.learn.conftest import VALUES

import flickbook
from flickbook.diffusion.text_to_video import TextToVideo
from flickbook.diffusion.unet3d import UNet3D, UNet3DConfig
from flickbook.engine.memory.machine import Machine
from flickbook.errors import FlickbookError, MediaError, OutputError, RequestError
from flickbook.hub.manifest import verify
from flickbook.learn import checkpoint
from flickbook.learn.distillation import student
from flickbook.learn.distillation.distill import DistillConfig, LatentFilms
from flickbook.resolution import resolve
from flickbook.spec import Request
from flickbook.world.render import render

CONFIG = DistillConfig(iterations=2, batch=2, guidance_scale=2.0)


#: Runs the command line in float32: in bfloat16 half a batch rounds otherwise than a whole one.
_IN_FLOAT32 = """
import runpy, torch
from flickbook.learn.compute import precision
precision.fastest = lambda kind: torch.float32
runpy.run_module("flickbook", run_name="__main__")
"""


def distilled(teacher: Path, out: Path, config: DistillConfig = CONFIG, **changes: object) -> Path:
    for _ in student.main(str(teacher), out, config, num_films=3, **changes):  # type: ignore[arg-type]
        pass
    return out / "model"


@pytest.mark.slow
def test_a_student_is_made_beside_its_teacher_and_runs(published: Path, tmp_path: Path) -> None:
    before = verify(published)
    parts: list[tuple[int, int]] = []
    model = distilled(published, tmp_path / "out", progress=lambda *row: parts.append(row))
    assert parts == [(2, 3), (3, 3)]
    found = verify(model)
    assert found.items() >= before.items() and set(found) - set(before) == {"turbo/difference.safetensors"}
    assert verify(published) == before, "the teacher's files stay"

    exact = flickbook.generate("a red circle", model_dir=model, seed=1)
    turbo = flickbook.generate("a red circle", model_dir=model, seed=1, speed="turbo")
    plan = turbo.recipe.plan
    assert (plan.num_inference_steps, plan.guidance_scale, plan.scheduler) == (4, 1.0, "ddim")
    assert {"turbo/difference.safetensors", "unet/diffusion_pytorch_model.safetensors"} <= turbo.recipe.weights.keys()
    assert "turbo/difference.safetensors" not in exact.recipe.weights
    assert turbo.recipe.frames_sha256 != exact.recipe.frames_sha256

    films = sorted((tmp_path / "out" / "films").iterdir())
    true = TextToVideo.load(published).encode(torch.from_numpy(render(student.scenes_of(3)[0])))
    learned = load_file(tmp_path / "out" / "films" / "films-00000.safetensors")["latents"][0]
    assert torch.allclose(learned.float(), true, atol=0.02), "the built-in model's student learns from true films"
    stamps = [path.stat().st_mtime_ns for path in films]
    assert verify(distilled(published, tmp_path / "out")) == found, "nothing is trained again"
    assert [path.stat().st_mtime_ns for path in films] == stamps


@pytest.mark.slow
def test_a_student_is_trained_further(published: Path, tmp_path: Path) -> None:
    model = distilled(published, tmp_path / "first")
    further = distilled(model, tmp_path / "second", replace(CONFIG, iterations=1, lr=1e-8, from_student=True))
    weights = [
        TextToVideo.load(where, student=part).unet.state_dict()
        for where, part in ((published, ""), (model, "turbo"), (further, "turbo"))
    ]
    before, first, second = ({name: value.float() for name, value in each.items()} for each in weights)
    learned = {name: first[name] - before[name] for name in before}
    assert norm({name: second[name] - first[name] for name in before}) < 0.3 * norm(learned)
    with pytest.raises(RequestError, match="from_student=True: .* has no student; name the directory of a model"):
        distilled(published, tmp_path / "third", replace(CONFIG, from_student=True))
    assert not (tmp_path / "third").exists()


@pytest.mark.slow
def test_two_processes_distill_what_one_does(published: Path, tmp_path: Path) -> None:
    alone, shared = (tmp_path / name for name in ("alone", "shared"))
    words = ["distill", str(published), "--steps", "16", "--iterations", "2", "--batch", "2", "--num-films", "3"]
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    (tmp_path / "exactly.py").write_text(_IN_FLOAT32, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for start, out, more in (([sys.executable], alone, []), (ranks, shared, ["--accelerate"])):
        call = [*start, str(tmp_path / "exactly.py"), *words, "--out", str(out), *more]
        done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(out / "model")]
    one, two = (trained(out) for out in (alone, shared))
    before = load_file(published / "unet/diffusion_pytorch_model.safetensors")
    change = {name: (value.float() - before[name].float()) for name, value in one.items()}
    apart = {name: (value.float() - two[name].float()) for name, value in one.items()}
    assert norm(apart) < 0.05 * norm(change), "each trained on half of every batch"


def trained(out: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of the last checkpoint: those of the published difference are rounded."""
    newest = checkpoint.latest(out / "distillation")
    assert newest is not None
    tensors, _ = checkpoint.load(newest)
    return checkpoint.part(tensors, "ema/")


def norm(tensors: Mapping[str, torch.Tensor]) -> float:
    return float(sum(value.square().sum() for value in tensors.values()) ** 0.5)


@pytest.mark.parametrize(("name", "value"), [("prompts", ["another"]), ("batch", 4), ("seed", 1), ("model", None)])
def test_films_of_other_options_are_not_mixed(
    name: str, value: object, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Sequence[str]] = []

    def make(teacher: object, prompts: Sequence[str], *rest: object) -> LatentFilms:
        made.append(prompts)
        return LatentFilms(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2), 8.0)

    monkeypatch.setattr(LatentFilms, "make", make)
    networks, (model, _) = TextToVideo.load(published), student.teacher_of(str(published))
    student.films_of(networks, ["one", "two"], CONFIG, model, tmp_path / "films")
    student.films_of(networks, ["one", "two"], CONFIG, model, tmp_path / "films")
    assert made == [["one", "two"]], "the second run found the films of the first"
    other = flickbook.catalogue.find("builtin") if name == "model" else model
    prompts = value if name == "prompts" else ["one", "two"]
    config = replace(CONFIG, **{name: value}) if name in ("batch", "seed") else CONFIG
    with pytest.raises(RequestError, match="holds films of another distillation"):
        student.films_of(networks, prompts, config, other, tmp_path / "films")  # type: ignore[arg-type]


def test_a_network_that_knows_the_frame_rate_is_counted() -> None:
    unet = UNet3D(UNet3DConfig.from_dict({**VALUES["unet"], "fps_cond": True}))
    networks = SimpleNamespace(unet=unet, device=torch.device("cpu"), in_memory=lambda: [unet])
    student._check_memory(networks, CONFIG, (8, 4, 8, 8))  # type: ignore[arg-type]


def test_an_output_that_is_a_file_is_refused(published: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError, match="is not a directory"):
        distilled(published, tmp_path / "out")


def test_a_teacher_of_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"model=wan-2.1-1.3b: is not of the 3D U-Net family; name one of builtin"):
        distilled(Path("wan-2.1-1.3b"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_another_architecture_or_a_second_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}', encoding="utf-8")
    with pytest.raises(RequestError, match="is not of the 3D U-Net family"):
        student.teacher_of(str(tmp_path))
    with pytest.raises(RequestError, match="leave out --model-dir"):
        student.teacher_of(str(tmp_path), tmp_path)


def test_a_machine_with_too_little_memory_is_refused(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Machine.here()
    monkeypatch.setattr(Machine, "here", lambda: replace(here, memory_free=100 * 2**20, device="cpu"))
    with pytest.raises(RequestError, match=r"batch=2: the training needs about .* GiB of memory, and 0.1 GiB are free"):
        distilled(published, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prompts_are_the_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("one\n\n  two \n", encoding="utf-8")
    model, _ = student.teacher_of("builtin")
    assert student.prompts_of(model, path, 5) == ["one", "two", "one", "two", "one"]
    captions = student.prompts_of(model, None, 40)
    assert len(captions) == 40 and len(set(captions)) > 30
    zeroscope = flickbook.catalogue.find("zeroscope-v2-576w")
    with pytest.raises(RequestError, match="zeroscope-v2-576w has no captions of its own"):
        student.prompts_of(zeroscope, None, 4)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_a_bad_file_of_prompts_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=r"prompts\.txt"):
        student.prompts_of(student.teacher_of("builtin")[0], path, 4)


@pytest.mark.parametrize("steps", ["0", "-4", "true", "5000", "Infinity", '"4"'])
def test_a_bad_description_of_a_student_is_no_student(steps: str, tmp_path: Path) -> None:
    (tmp_path / "turbo").mkdir()
    (tmp_path / "turbo/student.json").write_text(f'{{"num_inference_steps": {steps}}}', encoding="utf-8")
    with pytest.raises(RequestError, match="builtin has no few-step weights; distill it with"):
        flickbook.catalogue.find("builtin").at(tmp_path).few_steps()


def test_a_student_takes_words_only_and_its_own_steps(tmp_path: Path) -> None:
    (tmp_path / "turbo").mkdir()
    (tmp_path / "turbo/student.json").write_text('{"num_inference_steps": 4}', encoding="utf-8")
    image = tmp_path / "image.png"
    image.write_bytes(b"")
    for fields, message in (
        ({"image": str(image)}, "starts from text at speed turbo; leave it out, or write exact for the speed"),
        ({"num_inference_steps": 25}, "num_inference_steps=25: must be 4; leave it out"),
        ({"negative_prompt": "blurry"}, "has no effect with builtin at speed turbo"),
    ):
        with pytest.raises(RequestError, match=message):
            resolve(Request.of(prompt="a red circle", speed="turbo", **fields), tmp_path)
    assert resolve(Request.of(prompt="a red circle", speed="turbo"), tmp_path).num_inference_steps == 4


def test_another_model_does_not_stand_in_for_files_in_a_directory(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="sdxl-turbo makes the films of sdxl, and not of files in another directory"):
        flickbook.catalogue.find("sdxl").at(tmp_path).few_steps()
    assert flickbook.catalogue.find("sdxl").few_steps().name == "sdxl-turbo"
    assert flickbook.catalogue.find("animatelcm").few_steps().name == "animatelcm"


def test_turbo_needs_weights_of_few_steps() -> None:
    with pytest.raises(FlickbookError, match="cogvideox-2b has no few-step weights; write balanced or exact"):
        flickbook.generate("a cat", model="cogvideox-2b", speed="turbo")
