"""The films that these tests make: small ones of the built-in model, and what each is when nobody interrupts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flickbook.engine.films import films
from flickbook.files import sha256
from flickbook.jobs.create import ordered
from flickbook.spec import Request
from flickbook.store.base import Job, new_id

#: Frames, steps, guidance, prompt. The first ones take 0.15 s each once the model is warm, the last ones three times
#: as long.
_FILMS: Final = (
    (2, 3, 1.0, "a red circle moving left on a blue background"),
    (2, 4, 1.0, "a yellow square moving right on a green background"),
    (2, 3, 1.0, "a white star on a black background"),
    (3, 4, 1.0, "a green star on a black background"),
    (2, 8, 1.0, "a blue circle moving up on a white background"),
    (4, 6, 2.5, "a red square on a green background"),
)
#: A film of usual length, whose steps are long enough to be stopped at.
LONG: Final = Request(prompt="a red circle moving left on a blue background", num_inference_steps=25, seed=5)


@dataclass(frozen=True)
class Twin:
    """What an uninterrupted run made of a Plan: the SHA-256 of its frames, and of its file."""

    frames: str
    file: str


def requests() -> list[Request]:
    """One Request for each film."""
    return [
        Request(prompt=prompt, num_frames=frames, num_inference_steps=steps, guidance_scale=guidance, seed=seed)
        for seed, (frames, steps, guidance, prompt) in enumerate(_FILMS)
    ]


def templates() -> list[Job]:
    """One job for each film; `fresh` gives it an id of its own."""
    return [ordered(request) for request in requests()]


def fresh(template: Job) -> Job:
    """A job like `template`, to be submitted."""
    return template.model_copy(update={"id": new_id("job")})


def twin(job: Job, place: Path) -> Twin:
    """The film of a job, made in one go and written below `place`."""
    clip = next(films([job.plan]))
    assert clip.recipe is not None
    path = clip.save(place / f"{job.id}.mp4", overwrite=True)
    return Twin(clip.recipe.frames_sha256, sha256(path))
