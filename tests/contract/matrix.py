"""What each family can do, found out by doing it; `python -m tests.contract.matrix` writes docs/matrix.md anew."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tests.contract.cases import CASES, STEPS, Case, beginning

from flickbook import catalogue
from flickbook.engine import films
from flickbook.engine.checkpoint import Checkpointer
from flickbook.engine.engine import Engine
from flickbook.engine.sources import complete
from flickbook.errors import Cancelled
from flickbook.keyframes import Condition
from flickbook.media.clip import Clip
from flickbook.media.read import read_picture, read_video
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request, Step

PAGE = Path(__file__).parents[2] / "docs/matrix.md"
HEADER = """# What each family can do

The contract test (`tests/contract`) measures this on tiny random pipelines of the real classes. Every task below made a
file that was read back, reported each step, stopped when asked, and repeated itself from its seed. *Preview* means that
the film can be shown while it is still noise. *Resume* means that a film that is stopped after any of its steps is
continued in a new process, without a step being computed again, and ends in the same bits on a CPU.
`python -m tests.contract.matrix` writes this page.

| family | task | preview | cancel | resume |
|---|---|---|---|---|
"""

#: Which frame of the beginning each kind of image shows.
_SHOWN = {"image": 0, "conditions": 2, "reference_images": 1, "last_image": -1}


@contextmanager
def ready(case: Case) -> Iterator[str]:
    """The name under which the case's model stands in the catalogue while the block runs."""
    if not case.build:
        yield "builtin"
        return
    with TemporaryDirectory() as directory:
        model = case.model(Path(directory) / "model")
        case.save(Path(directory) / "model")
        catalogue.add(model)
        try:
            yield model.name
        finally:
            catalogue.remove(model.name)
            films.forget()


def request_of(case: Case, model: str, begins: str, directory: Path, **changes: object) -> Request:
    """The request of a short film that begins from `begins`, whose file is written to `directory`."""
    frames = beginning(case)
    values: dict[str, object] = dict(prompt="a red circle", model=model, seed=3, num_inference_steps=STEPS)
    values |= {"num_frames": case.frames, "width": case.side, "height": case.side}
    start, *guides = begins.split("+")
    for name in {start, *guides} & {"image", "last_image", "conditions", "reference_images"}:
        path = directory / f"{name}.png"
        Image.fromarray(frames[_SHOWN[name]]).save(path)
        values[name] = {
            "conditions": (Condition(image=str(path), frame=case.frames // 2),),
            "reference_images": (str(path),),
        }.get(name, str(path))
    for name in {start, *guides} & {"video", "control_video", "face_video", "mask"}:
        shown = frames if name != "mask" else np.where(frames > 200, np.uint8(255), np.uint8(0))
        values[name] = str(Clip(shown, 8.0).save(directory / f"{name}.mp4", overwrite=True))
    return complete(Request.of(**{**values, **changes}))


def film(plan: Plan, request: Request, steps: list[Step] | None = None) -> Clip:
    """The film of a plan; `steps` collects its steps, with previews."""
    run_options = films.run_options_of(plan, request)
    made = films.films([plan], run_options, previews=steps is not None, on_step=None if steps is None else steps.append)
    return next(made)


def row(case: Case, model: str, begins: str, directory: Path) -> str:
    """One line of the matrix, after everything in it was tried. Raises AssertionError for a promise that is broken."""
    request = request_of(case, model, begins, directory)
    plan = resolve(request)
    steps: list[Step] = []
    clip = film(plan, request, steps)
    denoised = [step for step in steps if step.phase == "denoise"]
    assert [step.index for step in denoised] == list(range(1, denoised[-1].total + 1)), "every step is reported"
    assert steps[-1].phase == "decode" and steps[-1].index == steps[-1].total
    _playable(clip, plan, directory)
    engine = films.engine_of(plan, films.run_options_of(plan, request))
    shown = _shown(engine, denoised, plan)
    preview = "no" if shown is None else "yes"
    _cancels(request_of(case, model, begins, directory, seed=4), clip, shown)
    made = "picture" if plan.task == "picture" else "film"
    # The sampler of our own networks is stopped after each of its steps in tests of its own.
    stops = denoised[-1].total if case.family == "pipeline" else 1
    resume = "yes" if _resumes(plan, request, clip, directory / "state.safetensors", stops) else "no"
    if resume == "no":  # else every step was made twice, and the same frames were decoded from the last one
        assert np.array_equal(clip.frames, film(plan, request).frames), "a fixed seed repeats itself"
    task = begins.replace("+", " and ").replace("_", " ")
    return f"| {case.name} | {task} to {made} | {preview} | yes | {resume} |"


def _playable(clip: Clip, plan: Plan, directory: Path) -> None:
    path = clip.save(directory / f"film.{plan.container}", overwrite=True)
    if plan.container == "png":
        assert read_picture(path).shape == (plan.height, plan.width, 3)
    else:
        frames, fps = read_video(path)
        assert frames.shape == (plan.num_frames, plan.height, plan.width, 3) and fps == plan.fps


def _shown(engine: Engine, steps: list[Step], plan: Plan) -> np.ndarray | None:
    """The preview of the first step, which is pictures of the film's size; None unless every step had one."""
    if any(step.preview is None for step in steps):
        return None
    shown = engine.loaded().show(steps[0].preview[0])
    assert shown.shape[1:] == (plan.height, plan.width, 3) and shown.dtype == np.uint8
    return shown


def _resumes(plan: Plan, request: Request, whole: Clip, path: Path, stops: int) -> bool:
    """Whether a film that is stopped after each of its first `stops` steps is continued, each time by an engine that is
    loaded for it, to the same bits, without a step that was done being done again. Its state is kept in `path`."""
    run_options = films.run_options_of(plan, request)
    for stop in range(1, stops + 1):
        total, steps = _stopped(plan, run_options, stop, path)
        if steps != list(range(max(1, stop - 1), stop + 1)):
            return False
        films.forget()
    last: list[Step] = []
    clip = next(films.films([plan], run_options, keep=partial(_checkpointer, path), on_step=last.append))
    denoised = [step.index for step in last if step.phase == "denoise"]
    return denoised == list(range(stops, total + 1)) and np.array_equal(whole.frames, clip.frames)


def _stopped(plan: Plan, run_options: films.RunOptions, stop: int, path: Path) -> tuple[int, list[int]]:
    """Stop a film after step `stop`, its state kept in the file `path`; returns how many steps it would take, and the
    steps that were reported: the one that it was continued after, and those that were made."""

    def count(step: Step) -> None:
        if step.phase == "denoise":
            seen.append(step)
            if step.index == stop:
                raise Cancelled

    seen: list[Step] = []
    try:
        next(films.films([plan], run_options, keep=partial(_checkpointer, path), on_step=count))
    except Cancelled:
        return seen[-1].total, [step.index for step in seen]
    raise AssertionError("the film was made to its end")


def _checkpointer(path: Path, plans: Sequence[Plan]) -> Checkpointer:
    return Checkpointer(path)


def _cancels(other: Request, clip: Clip, shown: np.ndarray | None) -> None:
    """Told to stop after the first step, a film stops there. It has another seed than `clip`, whose first step looked
    as in `shown`, and looks different; where steps cannot be shown, this is asked of the whole film."""
    plan, seen = resolve(other), list[Step]()
    run_options = films.run_options_of(plan, other)
    made = films.films(
        [plan],
        run_options,
        on_step=seen.append,
        previews=True,
        cancel=lambda: any(step.phase == "denoise" for step in seen),
    )
    try:
        next(made)
    except Cancelled:
        (step,) = (step for step in seen if step.phase == "denoise")
    else:
        raise AssertionError("the film was made to its end")
    if shown is None:
        one, another = clip.frames, film(plan, other).frames
    else:
        assert step.preview is not None
        one, another = shown, films.engine_of(plan, run_options).loaded().show(step.preview[0])
    assert not np.array_equal(one, another), "another seed makes another film"


def _empty(directory: Path) -> Path:
    directory.mkdir()
    return directory


def rows(case: Case) -> list[str]:
    """The lines of one case."""
    with ready(case) as model, TemporaryDirectory() as directory:
        return [row(case, model, begins, _empty(Path(directory) / begins)) for begins in case.begins]


def main() -> None:
    """Write docs/matrix.md."""
    with TemporaryDirectory() as home:
        os.environ |= {"FLICKBOOK_DATA_DIR": home, "FLICKBOOK_CACHE_DIR": home}
        lines = []
        for case in CASES:
            lines += rows(case)
            print(*lines[-len(case.begins) :], sep="\n", file=sys.stderr)
    PAGE.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
