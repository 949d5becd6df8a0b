"""Input files as arguments of a pipeline's call, and films of tiny pipelines that are guided by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.contract.cases import CASES
from tests.contract.matrix import request_of

from flickbook import catalogue
from flickbook.engine import films
from flickbook.engine.pipelines.inputs import Inputs, guided
from flickbook.engine.reproduction.reproduce import reproduce
from flickbook.engine.reproduction.rerun import varied
from flickbook.errors import RequestError
from flickbook.keyframes import Keyframe
from flickbook.resolution import resolve
from flickbook.spec import Request

PLAN = resolve(Request(prompt="a bird", model="wan-2.1-vace-1.3b", num_frames=5, width=256, height=256, seed=1))
SHA = "a" * 64


class WanVACEPipeline:
    """Stands for the pipeline, of which only the name is read."""


class LTX2ConditionPipeline:
    vae_temporal_compression_ratio = 8


def shade(level: int, width: int = 256, height: int = 256) -> Image.Image:
    return Image.new("RGB", (width, height), (level, level, level))


def levels(images: list[Image.Image]) -> list[int]:
    return [int(np.asarray(image.convert("L"))[0, 0]) for image in images]


def test_vace_gets_given_frames_in_grey_ones_and_a_mask_around_them() -> None:
    plan = PLAN.model_copy(update={"image": SHA, "last_image": SHA, "conditions": (Keyframe(image=SHA, frame=2),)})
    inputs = Inputs(shade(10), shade(30), ((shade(20), plan.conditions[0]),))
    found = guided(WanVACEPipeline(), plan, inputs, {})
    assert levels(found["video"]) == [10, 128, 20, 128, 30]
    assert levels(found["mask"]) == [0, 255, 0, 255, 0]
    assert found["image"] is None and "reference_images" not in found


def test_vace_keeps_a_video_outside_its_mask() -> None:
    plan = PLAN.model_copy(update={"video": SHA, "mask": SHA})
    mask = shade(0)
    mask.paste((255, 255, 255), (0, 0, 128, 256))
    found = guided(WanVACEPipeline(), plan, Inputs([shade(90)] * 5, mask=(mask,) * 5), {})
    frame = np.asarray(found["video"][3])
    assert (frame[:, :128] == 128).all() and (frame[:, 128:] == 90).all()
    assert np.array_equal(np.asarray(found["mask"][3]), np.asarray(mask))


def test_vace_is_steered_by_every_frame_of_a_control_video() -> None:
    plan = PLAN.model_copy(update={"control_video": SHA, "reference_images": (SHA,)})
    inputs = Inputs(control_video=tuple(shade(level) for level in range(5)), reference_images=(shade(7, 40, 80),))
    found = guided(WanVACEPipeline(), plan, inputs, {})
    assert levels(found["video"]) == [0, 1, 2, 3, 4] and levels(found["mask"]) == [255] * 5
    assert [image.size for image in found["reference_images"]] == [(40, 80)]


@pytest.mark.parametrize(("frame", "index"), [(0, 0), (1, 1), (8, 1), (9, 2), (96, 12)])
def test_ltx_2_holds_eight_frames_in_a_latent_one(frame: int, index: int) -> None:
    conditions = (Keyframe(image=SHA, frame=frame, strength=0.5),)
    plan = PLAN.model_copy(update={"num_frames": 97, "conditions": conditions})
    found = guided(LTX2ConditionPipeline(), plan, Inputs(conditions=((shade(1), conditions[0]),)), {"conditions": None})
    assert [(each.index, each.strength) for each in found["conditions"]] == [(index, 0.5)]


def test_an_input_that_the_class_does_not_read_is_refused() -> None:
    plan = PLAN.model_copy(update={"last_image": SHA})
    with pytest.raises(RequestError, match="last_image=.*LTX2ConditionPipeline takes none"):
        guided(LTX2ConditionPipeline(), plan, Inputs(last_image=shade(1)), {"prompt": None})


FLF = next(case for case in CASES if case.build == "wan_flf")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("flf")
    FLF.save(directory)
    return directory


@pytest.fixture
def asked(saved: Path, data: Path, tmp_path: Path) -> Iterator[Request]:
    """The request of a film from a first to a last image, of a tiny model that is then on the list."""
    catalogue.add(FLF.model(saved))
    yield request_of(FLF, "tiny-wan_flf", "image+last_image", tmp_path)
    films.forget()


def made(requests: list[Request]) -> list[np.ndarray]:
    plans = [resolve(each) for each in requests]
    options = [films.run_options_of(plan, each) for plan, each in zip(plans, requests, strict=True)]
    return [clip.frames for clip in films.films(plans, options[0].merged(options[1:]))]


@pytest.mark.slow
def test_films_of_a_batch_end_with_their_own_images(asked: Request, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    other = asked.model_copy(update={"last_image": str(tmp_path / "white.png")})
    together = made([asked, other])
    assert not np.array_equal(*together), "another last image makes another film"
    assert all(np.array_equal(one, made([each])[0]) for one, each in zip(together, (asked, other), strict=True))


@pytest.mark.slow
def test_a_film_with_a_last_image_is_reproduced_and_varied(asked: Request, tmp_path: Path) -> None:
    plan = resolve(asked)
    options = films.run_options_of(plan, asked)
    assert set(options.inputs) == {plan.image, plan.last_image}
    path = next(films.films([plan], options)).save(tmp_path / "film.mp4")
    assert reproduce(path).identical_files
    request, _ = varied(path, {"seed": 9})
    assert (request.image, request.last_image, request.seed) == (asked.image, asked.last_image, 9)
    (tmp_path / "last_image.png").unlink()
    (tmp_path / "film.mp4.json").unlink()
    assert "the last image with SHA-256" in " ".join(reproduce(path).causes)
