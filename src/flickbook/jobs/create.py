"""Creates Jobs from Requests. The Plan is resolved here, so that an invalid request is refused before it is queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flickbook import formats
from flickbook.engine.polish import PolishOptions, finished, parse_polish
from flickbook.engine.sequences.sequence import DRIFT, FRAMES_PER, plan_of
from flickbook.engine.shots.plan import plan_of as shots_plan_of
from flickbook.engine.shots.plan import shooting
from flickbook.engine.shots.shot_list import ShotList
from flickbook.engine.soundtrack import tracks
from flickbook.engine.sources import complete
from flickbook.errors import RequestError
from flickbook.jobs import queue
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request
from flickbook.store.base import Job, Kind, Tuning


def ordered(
    request: Request,
    polish_options: PolishOptions | None = None,
    *,
    kind: Kind | None = None,
    model_dir: Path | None = None,
    **fields: Any,
) -> Job:
    """Creates the Job of a Request, with polish options if any; `fields` are other fields of the Job.

    Files that the Request names must already exist. Raises the errors of `resolve`, MediaError, RequestError.
    """
    request = complete(request)
    plan = resolve(request, model_dir)
    networks: dict[str, str] = {}
    if polish_options:
        polish, files = parse_polish(plan.num_frames, plan.fps, polish_options)
        request = request.model_copy(update={"polish": polish})
        plan = plan.model_copy(update={"polish": polish})
        networks = {digest: str(path) for digest, path in files.items()}
    if kind == "draft" and plan.num_frames == 1:
        raise RequestError("num_frames", 1, "a draft needs 2 frames or more", "ask for more frames")
    return _job(plan, request, model_dir, kind=kind, networks=networks, **fields)


def sequenced(
    prompts: Sequence[str],
    request: Request,
    *,
    frames_per: int = FRAMES_PER,
    drift: float = DRIFT,
    feedback: float = 0.0,
    model_dir: Path | None = None,
    **fields: Any,
) -> Job:
    """Creates the Job of a sequence that shows each of `prompts` for `frames_per` frames; `fields` are other fields of
    the Job.

    All other options come from `request`, as in `plan_of`, whose errors are raised. The Plan holds all that a worker
    needs.
    """
    how: dict[str, Any] = {"frames_per": frames_per, "drift": drift, "feedback": feedback, "model_dir": model_dir}
    plan = plan_of(prompts, request, **how)
    request = request.model_copy(update={"prompt": plan.prompt})
    return _job(plan, request, model_dir, kind="sequence", **fields)


def shot(
    shot_list: ShotList,
    common: Mapping[str, Any],
    encoding: Mapping[str, Any] | None = None,
    *,
    model_dir: Path | None = None,
    **fields: Any,
) -> Job:
    """Creates the Job of a film of several shots; `fields` are other fields of the Job. The other arguments and the
    errors are those of `shooting`.
    """
    found = shooting(shot_list, common, encoding, model_dir)
    networks = {digest: str(path) for digest, path in found.networks.items()}
    return _job(found.plan, found.request, model_dir, kind="shots", networks=networks, **fields)


def shot_again(request: Request, *, model_dir: Path | None = None, **fields: Any) -> Job:
    """Creates the Job of a Request that has shots. `fields` are other fields of the Job."""
    return _job(shots_plan_of(request, model_dir), request, model_dir, kind="shots", **fields)


def tuning(
    plan: Plan,
    request: Request,
    how: Mapping[str, Any],
    model_dir: Path | None = None,
    output: Path | None = None,
    **fields: Any,
) -> Job:
    """Creates the Job of a training: `how` are the fields of its `Tuning`, `plan` and `request` those of its samples,
    and `fields` are other fields of the Job.

    With `output`, the directory of the result, the job is one of a command.
    """
    fields |= {"tuning": Tuning.of(**how)}
    if output is not None:
        film = str((output / "with.mp4").absolute())
        fields |= {"home": "command", "output": film, "overwrite": 1}
    return _job(plan, request, model_dir, kind="tune", **fields)


def _job(plan: Plan, request: Request, model_dir: Path | None, **fields: Any) -> Job:
    """The Job of a Plan whose finished film its file format can hold. Raises RequestError, MediaError for its track."""
    size = finished(plan)
    formats.encoding(
        plan.container, plan.codec, plan.quality, plan.pixel_format, num_frames=size.num_frames, fps=size.fps
    )
    tracks(plan, request.audio)  # refuses a track that is longer than the film
    # Store the drawn seed, so that every worker uses the same one.
    request = request.model_copy(update={"seed": plan.seed})
    return queue.job(plan, request, model_dir="" if model_dir is None else str(model_dir.absolute()), **fields)
