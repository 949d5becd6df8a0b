"""The whole of it: ten films through OpenAI's client, everything killed twice while they run, and all ten are there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.crash.server_kill import port_of
from tests.crash.ward import environment

_PATIENCE: Final = 120.0
_FILMS: Final = 10
#: Steps of each film, so that it runs long enough to be killed in the middle.
_STEPS: Final = 25


@dataclass
class Outcome:
    """What was seen."""

    faults: list[str] = field(default_factory=list)
    films: int = 0
    equal: int = 0
    went_on: int = 0
    killed_running: int = 0
    seconds: float = 0.0


def run(place: Path, seed: int, films: int = _FILMS, kills: int = 2, workers: int = 2) -> Outcome:
    """Queue the films, kill service and workers, start again, and compare what comes out with uninterrupted twins."""
    place.mkdir(parents=True)
    chance, outcome, began = random.Random(f"{seed} shown"), Outcome(films=films), time.monotonic()
    ids: list[str] = []
    for attempt in range(kills + 1):
        last = attempt == kills
        with _service(place, attempt, workers) as (client, _):
            if not ids:
                ids = [_asked(client, number) for number in range(films)]
            if last:
                _wait(client, ids, "completed", films, films * 60.0 + 60)
                outcome.faults += _compared(client, place, ids, outcome)
            else:
                _wait(client, ids, "in_progress", min(workers, films), _PATIENCE)
                time.sleep(chance.uniform(1.0, 6.0))
                states = [client.videos.retrieve(id).status for id in ids]
                outcome.killed_running += states.count("in_progress")
    outcome.seconds = time.monotonic() - began
    return outcome


@contextmanager
def _service(place: Path, number: int, workers: int) -> Iterator[tuple[Any, int]]:
    """`flickbook serve`, and OpenAI's client of it; at the end everything is killed at once."""
    from openai import OpenAI

    command = [sys.executable, "-m", "flickbook", "serve", "--port", "0", "--workers", str(workers)]
    said = place / f"serve-{number}.txt"
    with open(said, "wb") as file:
        process = subprocess.Popen(
            command, stderr=file, cwd=place, env=environment(place), start_new_session=True, stdin=subprocess.DEVNULL
        )
    try:
        port = port_of(said, time.monotonic() + _PATIENCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=2, timeout=60.0), port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _gone(process.pid)


def _gone(group: int) -> None:
    """Wait until no process of the group is left."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)


def _asked(client: Any, number: int) -> str:
    more = {"seed": 100 + number, "num_inference_steps": _STEPS}
    prompt = f"a {('red', 'green', 'blue', 'white', 'yellow')[number % 5]} circle moving left on a black background"
    return str(client.videos.create(prompt=prompt, seconds="2", size="128x128", extra_body=more).id)


def _wait(client: Any, ids: list[str], status: str, count: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if sum(client.videos.retrieve(id).status == status for id in ids) >= count:
            return
        time.sleep(0.2)


def _compared(client: Any, place: Path, ids: list[str], outcome: Outcome) -> list[str]:
    """What is wrong with the films: each is downloaded, and its Plan is run again in one go."""
    from flickbook.spec import Sidecar

    faults, wanted = [], dict[str, Any]()
    for id in ids:
        video = client.videos.retrieve(id)
        if video.status != "completed":
            faults.append(f"{id} is {video.status}: {video.error}")
            continue
        film = client.videos.download_content(id).read()
        job = id.replace("video_", "job_")
        (beside,) = (place / "data" / "jobs" / job[-2:] / job).glob("film-*.json")
        sidecar = Sidecar.from_json(beside.read_text(encoding="utf-8"))
        assert sidecar.recipe is not None and sidecar.run is not None
        outcome.went_on += any("resumed from step" in note for note in sidecar.run.notes)
        wanted[id] = (sidecar.recipe, sha256(film).hexdigest())
    found = _twins([recipe.plan.to_json() for recipe, _ in wanted.values()], place)
    for (id, (recipe, file)), (frames, twin) in zip(wanted.items(), found, strict=True):
        equal = recipe.frames_sha256 == frames and file == twin
        outcome.equal += equal
        faults += [] if equal else [f"{id} differs from its uninterrupted twin"]
    return faults


def _twins(plans: list[str], place: Path) -> list[tuple[str, str]]:
    """What a process of its own, which nobody kills, makes of the same Plans: hashes of frames and file."""
    program = """
import json, sys
from pathlib import Path
from flickbook.engine.films import films
from flickbook.files import sha256
from flickbook.spec import Plan
for plan in json.load(sys.stdin):
    clip = next(films([Plan.from_json(plan)]))
    print(json.dumps([clip.recipe.frames_sha256, sha256(clip.save(Path(sys.argv[1]), overwrite=True))]), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(place / "twin.mp4")],
        input=json.dumps(plans),
        capture_output=True,
        text=True,
        check=True,
        env=environment(place),
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]
