"""A whole distillation: a model's directory with a student, which `--speed turbo` runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import flickbook
from flickbook.engine.memory.machine import Machine
from flickbook.errors import FlickbookError, MediaError, RequestError
from flickbook.hub.manifest import verify
from flickbook.learn.distillation import student
from flickbook.learn.distillation.distill import DistillConfig

CONFIG = DistillConfig(iterations=2, batch=2, guidance_scale=2.0)


def distilled(teacher: Path, out: Path, **changes: object) -> Path:
    for _ in student.main(str(teacher), out, CONFIG, num_films=3, **changes):  # type: ignore[arg-type]
        pass
    return out / "model"


@pytest.mark.slow
def test_a_student_is_made_beside_its_teacher_and_runs(published: Path, tmp_path: Path) -> None:
    before = verify(published)
    parts: list[tuple[str, int, int]] = []
    model = distilled(published, tmp_path / "out", progress=lambda *row: parts.append(row))
    assert parts[:2] == [("films", 2, 3), ("films", 3, 3)] and parts[-1] == ("distill", 8, 8)
    found = verify(model)
    assert found.items() >= before.items() and set(found) - set(before) == {"turbo/diffusion_pytorch_model.safetensors"}
    assert verify(published) == before, "the teacher's files stay"

    exact = flickbook.generate("a red circle", model_dir=model, seed=1)
    turbo = flickbook.generate("a red circle", model_dir=model, seed=1, speed="turbo")
    plan = turbo.recipe.plan
    assert (plan.num_inference_steps, plan.guidance_scale, plan.scheduler) == (4, 1.0, "ddim")
    assert "turbo/diffusion_pytorch_model.safetensors" in turbo.recipe.weights
    assert "unet/diffusion_pytorch_model.safetensors" not in turbo.recipe.weights
    assert "turbo/diffusion_pytorch_model.safetensors" not in exact.recipe.weights
    assert turbo.recipe.frames_sha256 != exact.recipe.frames_sha256

    films = sorted((tmp_path / "out" / "films").iterdir())
    stamps = [path.stat().st_mtime_ns for path in films]
    assert verify(distilled(published, tmp_path / "out")) == found, "nothing is trained again"
    assert [path.stat().st_mtime_ns for path in films] == stamps


def test_a_teacher_of_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"model=wan-2.1-1.3b: is not of the 3D U-Net family; name one of builtin"):
        distilled(Path("wan-2.1-1.3b"), tmp_path)
    assert list(tmp_path.iterdir()) == []


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


def test_turbo_needs_weights_of_few_steps() -> None:
    with pytest.raises(FlickbookError, match="wan-2.1-1.3b has no few-step weights; write balanced or exact"):
        flickbook.generate("a cat", model="wan-2.1-1.3b", speed="turbo")
