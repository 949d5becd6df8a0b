"""From what was asked for to a job: resolved, polished and refused before it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from flickbook.engine.films import films
from flickbook.errors import FlickbookError, MediaError, ModelNotFound, RequestError
from flickbook.files import sha256
from flickbook.jobs.create import ordered, sequenced
from flickbook.spec import Polish, Request
from flickbook.store.base import Job

PROMPT = "a red circle moving left"


def test_a_job_holds_every_choice() -> None:
    job = ordered(Request.of(prompt=PROMPT), {"interpolate": "2x"}, owner="ada", priority=3)
    assert job.plan.polish == Polish(interpolate=2) == job.request.polish
    # The seed that was drawn is the job's, whoever runs it and however often.
    assert job.request.seed == job.plan.seed
    assert (job.owner, job.priority, job.kind, job.state, job.home) == ("ada", 3, "film", "queued", "queue")
    assert ordered(Request.of(prompt=PROMPT, num_frames=1)).kind == "picture"


def test_the_plan_has_the_hash_of_the_input_image(tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    next(films([ordered(Request.of(prompt=PROMPT, num_frames=1, num_inference_steps=1)).plan])).save(picture)
    job = ordered(Request.of(prompt=PROMPT, image=str(picture)))
    assert job.plan.image == sha256(picture) and job.request.image == str(picture)


@pytest.mark.parametrize(
    ("fields", "polish_options", "error"),
    [
        ({"model": "no-such-model"}, {}, ModelNotFound),
        ({"num_frames": 0}, {}, RequestError),
        ({"image": "/nowhere.png"}, {}, FlickbookError),
        ({"video": "/nowhere.mp4"}, {}, MediaError),
        ({}, {"interpolate": "99x"}, RequestError),
        ({}, {"loop": "never"}, RequestError),
        ({"container": "mp4", "codec": "vp9"}, {}, RequestError),
    ],
)
def test_an_invalid_request_is_refused_before_it_is_stored(
    fields: dict[str, object], polish_options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ordered(Request.of(prompt=PROMPT, **fields), polish_options)  # type: ignore[arg-type]


def test_the_job_of_a_sequence_has_a_complete_plan() -> None:
    request = Request.of(prompt="", num_inference_steps=2, container="webm")
    job = sequenced(["a red circle", "a blue square"], request, frames_per=5, drift=0.5, owner="ada", priority=-3)
    assert (job.kind, job.state, job.owner, job.priority) == ("sequence", "queued", "ada", -3)
    assert (job.plan.task, job.plan.num_frames, job.plan.drift) == ("sequence", 10, 0.5)
    assert (job.plan.prompt, job.plan.prompt_at) == ("a red circle", ((9, "a blue square"),))
    assert job.request.seed == job.plan.seed
    assert Job.from_row(job.to_row()) == job


@pytest.mark.parametrize(
    ("fields", "how", "field"),
    [
        ({"container": "png"}, {}, "container"),
        ({"container": "gif", "fps": 60.0}, {}, "fps"),
        ({"model": "wan-2.1-1.3b"}, {}, "model"),
        ({}, {"frames_per": 5001}, "frames_per"),
        ({}, {"drift": 2.0}, "drift"),
    ],
)
def test_an_invalid_sequence_is_refused_with_its_field(
    fields: dict[str, object], how: dict[str, object], field: str
) -> None:
    with pytest.raises(RequestError) as refused:
        sequenced(["a", "b"], Request.of(prompt="", **fields), **how)  # type: ignore[arg-type]
    assert refused.value.field == field
