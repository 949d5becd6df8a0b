"""How many workers a queue needs, and which of them have been idle for too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Seconds after which an idle worker that the queue does not need is stopped. Its model must be loaded again later.
IDLE_AFTER: Final = 60.0


@dataclass(frozen=True)
class ActorState:
    """One worker: whether it responds, the seconds since its last job ended, 0 while it runs one, and its name."""

    ready: bool = False
    idle: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class Change:
    """How many workers to start, and the positions of those to stop."""

    start: int = 0
    stop: tuple[int, ...] = ()


def change(
    actors: Sequence[ActorState],
    queued: int,
    running: int,
    most: int,
    elsewhere: int = 0,
    idle_after: float = IDLE_AFTER,
) -> Change:
    """What to do for a queue of `queued` and `running` jobs with at most `most` workers, of which `elsewhere` belong to
    other servers and machines.

    There is a worker for each job, and one while there are none, so that the next film begins at once. Workers that the
    queue does not need stay for `idle_after` seconds. Those that were not placed yet are stopped first.
    """
    needed = max(1, min(most, queued + running)) - elsewhere
    surplus = len(actors) - max(needed, 0 if elsewhere else 1)
    if surplus <= 0:
        return Change(start=max(0, needed - len(actors)))
    waiting = [number for number, actor in enumerate(actors) if not actor.ready]
    idle = [number for number, actor in enumerate(actors) if actor.ready and actor.idle > idle_after]
    idle.sort(key=lambda number: -actors[number].idle)
    return Change(stop=tuple((waiting + idle)[:surplus]))
