"""Distillation: each phase's target, what a student learns, and that a kill costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flickbook.diffusion.sampler import SamplerState, sample
from flickbook.diffusion.schedule import END
from flickbook.diffusion.text_to_video import TextToVideo, noise
from flickbook.diffusion.unet3d import UNet3D
from flickbook.errors import RequestError
from flickbook.learn import checkpoint
from flickbook.learn.distillation.distill import DistillConfig, Distiller, LatentFilms

SHAPE = (8, 4, 4, 4)
PROMPTS = ["a red circle", "a blue square", "a green star", "a small yellow ring"]
CONFIG = DistillConfig(steps=16, guidance_scale=3.0, iterations=6, batch=4, lr=1e-3)


@pytest.fixture(scope="module")
def teacher(published: Path) -> TextToVideo:
    return TextToVideo.load(published)


@pytest.fixture(scope="module")
def films(teacher: TextToVideo) -> LatentFilms:
    return LatentFilms.make(teacher, PROMPTS, CONFIG, SHAPE, 8.0, seed=0)


def ended(
    model: Callable[[Tensor, Tensor], Tensor], x: Tensor, timesteps: tuple[int, ...], teacher: TextToVideo
) -> Tensor:
    """The latents after DDIM steps at `timesteps`."""
    *_, last = sample(model, SamplerState.begin(x, timesteps), teacher.schedule.of_students())
    return last.latents


@pytest.mark.parametrize(("steps", "phases"), [(4, (32, 16, 8, 4)), (16, (32, 16)), (1, (32, 16, 8, 4, 2, 1))])
def test_each_phase_halves_the_steps(steps: int, phases: tuple[int, ...]) -> None:
    assert DistillConfig(steps).phases == phases


@pytest.mark.slow
def test_the_first_phase_may_be_longer(teacher: TextToVideo, films: LatentFilms, tmp_path: Path) -> None:
    config = DistillConfig(steps=16, iterations=1, guidance_iterations=3, batch=1)
    rows = list(Distiller(teacher, films, config, tmp_path).run(log_every=1))
    assert [row["steps"] for row in rows] == [32, 32, 32, 16]


@pytest.mark.parametrize("steps", [0, 3, 32, 64, -4])
def test_a_student_has_fewer_steps_than_its_teacher(steps: int) -> None:
    with pytest.raises(RequestError, match=rf"steps={steps}: must be one of 16, 8, 4, 2, 1"):
        DistillConfig(steps)


@pytest.mark.parametrize(
    "changes",
    [{"guidance_scale": float("nan")}, {"guidance_scale": 0.5}, {"lr": 0.0}, {"lr": float("nan")}, {"seed": 2**64}],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=f"^{next(iter(changes))}="):
        DistillConfig(**changes)  # type: ignore[arg-type]


def test_a_diverged_training_ends(teacher: TextToVideo, films: LatentFilms, tmp_path: Path) -> None:
    distiller = Distiller(teacher, films, CONFIG, tmp_path)
    next(distiller.student.parameters()).data.fill_(float("nan"))
    with pytest.raises(RequestError, match="lr=0.001: the loss of update 0 is not finite"):
        distiller.update()


def test_the_first_target_is_the_guided_estimate(teacher: TextToVideo, films: LatentFilms, tmp_path: Path) -> None:
    distiller = Distiller(teacher, films, CONFIG, tmp_path)
    grid, places = teacher.schedule.of_students().timesteps(32), torch.tensor([3, 20])
    chosen, x = torch.tensor([0, 2]), torch.randn(2, *SHAPE)
    with torch.no_grad():
        found = distiller.target(x, *distiller.times(places), films.context[chosen])
    for film in range(2):
        words, timestep = films.context[chosen[film] : chosen[film] + 1], grid[int(places[film])]
        one = x[film : film + 1]
        with torch.no_grad():
            guided = teacher.guided(words, films.negative, [3.0], [8.0])
            expected = teacher.schedule.x0_from(guided(one, torch.tensor(timestep)), one, timestep)
        torch.testing.assert_close(found[film : film + 1], expected, rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_copies_in_bfloat16_learn_nearly_the_same(teacher: TextToVideo, films: LatentFilms, tmp_path: Path) -> None:
    """What a GPU does, here for two updates of each of two phases."""
    losses = []
    for halves in (False, True):
        config = replace(CONFIG, guidance_iterations=2, iterations=2)
        distiller = Distiller(teacher, films, config, tmp_path / str(halves))
        distiller._halves = halves
        distiller._begin()
        losses.append([distiller.update()["loss"] for _ in range(4)])
    assert losses[1] == pytest.approx(losses[0], rel=0.15)


@pytest.mark.parametrize("place", [0, 7, 15])
@pytest.mark.slow
def test_one_step_to_a_later_target_ends_where_two_steps_end(
    place: int, teacher: TextToVideo, films: LatentFilms, tmp_path: Path
) -> None:
    distiller = Distiller(teacher, films, CONFIG, tmp_path)
    distiller.number = CONFIG.iterations  # the second phase: 16 steps learn from 32
    schedule = teacher.schedule.of_students()
    grid, fine = schedule.timesteps(16), schedule.timesteps(32)
    x = torch.randn(1, *SHAPE)
    with torch.no_grad():
        target = distiller.target(x, *distiller.times(torch.tensor([place])), films.context[:1])
    (a, s), (b, r) = schedule.level(grid[place]), schedule.level(grid[place + 1] if place < 15 else END)
    once = b * target + r / s * (x - a * target)
    with torch.no_grad():
        unguided = teacher.guided(films.context[:1], films.negative, [1.0], [8.0])
        states = list(sample(unguided, SamplerState.begin(x, fine[2 * place :]), schedule))
    torch.testing.assert_close(once, states[1].latents, rtol=0.03, atol=0.03)


@pytest.mark.slow
def test_a_student_makes_its_teachers_films_in_fewer_steps(
    teacher: TextToVideo, films: LatentFilms, tmp_path: Path
) -> None:
    config = DistillConfig(steps=16, guidance_scale=3.0, iterations=40, batch=4, lr=2e-3)
    distiller = Distiller(teacher, films, config, tmp_path)
    for _ in distiller.run():
        pass
    start, steps = noise(range(4), SHAPE), teacher.schedule.of_students().timesteps(16)

    def error(unet: UNet3D) -> float:
        def model(x: Tensor, timestep: Tensor) -> Tensor:
            found: Tensor = unet(x, timestep, films.context, torch.full((4,), 8.0))
            return found

        with torch.no_grad():
            return float((ended(model, start, steps, teacher) - films.latents.float()).square().mean())

    assert error(distiller.student) < 0.5 * error(teacher.unet)


@pytest.mark.slow
def test_a_resumed_distillation_has_the_same_bits(teacher: TextToVideo, films: LatentFilms, tmp_path: Path) -> None:
    whole = Distiller(teacher, films, CONFIG, tmp_path / "whole")
    for _ in whole.run():
        pass
    for stop in (4, 6, 9):  # inside a phase, and where one begins
        place = tmp_path / str(stop)
        killed = Distiller(teacher, films, CONFIG, place)
        while killed.number < stop:
            killed.update()
        killed.save()
        resumed = Distiller(teacher, films, CONFIG, place)
        newest = checkpoint.latest(place)
        assert newest is not None
        resumed.restore(newest)
        for _ in resumed.run():
            pass
        assert all(torch.equal(value, whole.average[name]) for name, value in resumed.average.items()), stop


def test_a_checkpoint_of_other_options_is_refused(teacher: TextToVideo, films: LatentFilms, tmp_path: Path) -> None:
    path = Distiller(teacher, films, CONFIG, tmp_path).save()
    other = Distiller(teacher, films, DistillConfig(steps=8, iterations=6), tmp_path)
    with pytest.raises(RequestError, match="holds a checkpoint of other options"):
        other.restore(path)
