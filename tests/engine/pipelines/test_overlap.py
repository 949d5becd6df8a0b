"""Pipelines that continue a film from its kept latents: Wan and LTX, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.cases import CASES, Case
from tests.contract.matrix import request_of

from flickbook import catalogue
from flickbook.catalogue import Whole, find
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.engine import Engine, Frames
from flickbook.engine.films import RunOptions, films, forget, run_options_of
from flickbook.engine.kept_latents import KeptLatents
from flickbook.errors import MediaError, RequestError
from flickbook.media.clip import Clip
from flickbook.media.metrics.similarity import psnr
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Step

BUILDS = ("wan", "ltx", "ltx_cond")
#: Frames of the first film, of the one that continues it, and of one latent frame of the tiny models.
FIRST, WHOLE, EVERY = 17, 33, 4


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny models on the disk."""
    found = {build: tmp_path_factory.mktemp(build) for build in BUILDS}
    for build, directory in found.items():
        case_of(build).save(directory)
    return found


def case_of(build: str) -> Case:
    return next(case for case in CASES if case.build == build)


@pytest.fixture(params=BUILDS)
def continued(request: pytest.FixtureRequest, directories: dict[str, Path], data: Path, tmp_path: Path) -> Any:
    """A finished film, and a function that plans the film that continues it: (clip, plan of changes and latents)."""
    build = request.param
    case = case_of(build)
    model = case.model(directories[build])
    lengths = Whole(range=(1, 129), default=FIRST, every=EVERY)
    catalogue.add(model.model_copy(update={"overlap": WHOLE, "num_frames": lengths}))
    forget()

    def planned(latents: bytes | None, **changes: Any) -> tuple[Plan, RunOptions]:
        fields: dict[str, Any] = {"num_frames": FIRST, **changes}
        if latents is not None:
            path = tmp_path / "kept.safetensors"
            path.write_bytes(latents)
            fields |= {"latents": str(path), "overlap": FIRST, "num_frames": WHOLE}
        asked = request_of(case, model.name, "text", tmp_path, **fields)
        plan = resolve(asked)
        return plan, run_options_of(plan, asked)

    return next(films(*_listed(planned(None)))), planned


def _listed(found: tuple[Plan, RunOptions]) -> tuple[list[Plan], RunOptions]:
    return [found[0]], found[1]


@pytest.mark.slow
def test_the_kept_latents_are_the_first_ones_of_the_new_film_to_the_bit(continued: Any) -> None:
    clip, planned = continued
    kept = KeptLatents.from_bytes(clip.latents)
    longer = next(films(*_listed(planned(clip.latents))))
    there = KeptLatents.from_bytes(longer.latents)
    count = kept.latents.shape[1]
    assert there.latents.shape[1] == 2 * count - 1
    assert np.array_equal(there.latents[:, :count], kept.latents)
    # Decoded in one piece with what follows, they show the film that they were kept from.
    same = psnr(longer.frames[: len(clip.frames) - 8], clip.frames[:-8])
    other = psnr(longer.frames[-len(clip.frames) + 8 :], clip.frames[:-8])
    assert same > 20 and same > other + 6, (same, other)


@pytest.mark.slow
def test_other_latents_make_another_continuation(continued: Any) -> None:
    clip, planned = continued
    longer = next(films(*_listed(planned(clip.latents))))
    other = next(films(*_listed(planned(None, seed=5))))
    elsewhere = next(films(*_listed(planned(other.latents))))
    assert not np.array_equal(longer.frames[-4:], elsewhere.frames[-4:])


@pytest.mark.slow
def test_a_stopped_continuation_is_resumed_to_the_bit(continued: Any, tmp_path: Path) -> None:
    clip, planned = continued
    plan, options = planned(clip.latents, num_inference_steps=4)
    whole, path = next(films([plan], options)), tmp_path / "checkpoint"
    how = {"sources": options.sources}
    events = Engine(find(plan.model), Placement()).run([plan], checkpointer=Checkpointer(path), **how)
    for event in events:
        if isinstance(event, Step) and event.phase == "denoise" and event.index == 2:
            break
    events.close()
    engine = Engine(find(plan.model), Placement())
    made = list(engine.run([plan], checkpointer=Checkpointer(path), **how))
    steps = [event.index for event in made if isinstance(event, Step) and event.phase == "denoise"]
    assert steps == [2, 3, 4]
    assert np.array_equal(next(event.frames for event in made if isinstance(event, Frames)), whole.frames)
    assert KeptLatents.of(plan, engine.ends[0], whole.recipe.frames_sha256).to_bytes() == whole.latents


def test_latents_of_another_size_and_damaged_ones_are_refused(continued: Any) -> None:
    clip, planned = continued
    assert isinstance(clip, Clip) and clip.latents is not None
    plan, _ = planned(None)
    kept = KeptLatents.from_bytes(clip.latents)
    other = KeptLatents.of(plan.model_copy(update={"width": 2 * plan.width}), kept.latents, "0" * 64)
    with pytest.raises(RequestError, match="of another model, size or length"):
        planned(other.to_bytes())
    damaged = bytearray(clip.latents)
    damaged[-1] ^= 1
    with pytest.raises(MediaError, match="is damaged"):
        planned(bytes(damaged))
