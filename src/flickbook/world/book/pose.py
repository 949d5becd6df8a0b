"""How each action moves a body: a pose for every moment of the film."""

from __future__ import annotations

import math
from dataclasses import dataclass

TURN = 2 * math.pi


@dataclass(frozen=True)
class Pose:
    """A moment of an action.

    `along` is the way covered since the middle of the film and `up` the height above the ground, in pixels of the
    frame; `tilt` is in radians, forwards; `squash` scales the height. `turn` is the phase of the step in radians and
    `beat` that of wings, tails and flames. `stride` is how far legs swing in radians, `air` (0..1) how far a jump has
    left the ground.
    """

    action: str
    time: float
    turn: float
    beat: float
    along: float = 0.0
    up: float = 0.0
    tilt: float = 0.0
    squash: float = 1.0
    stride: float = 0.0
    air: float = 0.0

    @property
    def asleep(self) -> bool:
        """Whether the eyes are closed."""
        return self.action == "sleeping"

    def wave(self, shift: float = 0.0) -> float:
        """The step's sine (-1..1), `shift` radians later."""
        return math.sin(self.turn + shift)

    def flap(self, shift: float = 0.0) -> float:
        """The sine (-1..1) of wings and tails."""
        return math.sin(self.beat + shift)


#: Steps and wing beats in a film, and the way covered in it in pixels.
_PACE = {
    "standing": (1.0, 1.0, 0.0),
    "walking": (2.0, 2.0, 18.0),
    "running": (3.0, 3.0, 28.0),
    "jumping": (2.0, 3.0, 16.0),
    "flying": (1.5, 4.0, 22.0),
    "swimming": (2.0, 3.0, 18.0),
    "surfing": (1.5, 2.0, 12.0),
    "dancing": (2.0, 3.0, 0.0),
    "sleeping": (1.0, 1.0, 0.0),
    "driving": (3.0, 3.0, 24.0),
}


def pose(action: str, time: float, phase: float) -> Pose:
    """The pose of `action` at `time` (0..1) of a film whose steps begin at `phase` (0..1). KeyError if unknown."""
    steps, beats, way = _PACE[action]
    turn, beat = TURN * (steps * time + phase), TURN * (beats * time + phase)
    along = way * (time - 0.5)
    wave = math.sin(turn)
    if action == "walking":
        return Pose(action, time, turn, beat, along, 0.7 * abs(math.cos(turn)), 0.03 * wave, 1.0, 0.55)
    if action == "running":
        return Pose(action, time, turn, beat, along, 2.2 * abs(math.cos(turn)), 0.12 + 0.05 * wave, 1.0, 1.0)
    if action == "jumping":
        part = (turn / TURN) % 1.0
        over = max(0.0, (part - 0.2) / 0.8)
        air = 4 * over * (1 - over)
        squash = 1.06 if part >= 0.2 else 1 - 0.2 * math.sin(math.pi * part / 0.2)
        return Pose(action, time, turn, beat, along, 13 * air, 0.3 * (over - 0.5) * (air > 0), squash, 0.0, air)
    if action == "flying":
        return Pose(action, time, turn, beat, along, 1.6 * wave, 0.08 * math.cos(turn))
    if action == "swimming":
        return Pose(action, time, turn, beat, along, 1.0 * wave, 0.07 * math.cos(turn), 1.0, 0.7)
    if action == "surfing":
        return Pose(action, time, turn, beat, along, 1.6 * wave, -0.1 + 0.16 * math.cos(turn))
    if action == "dancing":
        return Pose(action, time, turn, beat, 3.2 * wave, 1.8 * abs(math.cos(turn)), 0.22 * wave, 1.0, 0.3)
    if action == "sleeping":
        return Pose(action, time, turn, beat, squash=1 + 0.05 * wave)
    if action == "driving":
        return Pose(action, time, turn, beat, along, 0.35 * math.sin(2 * turn), 0.0)
    return Pose(action, time, turn, beat, squash=1 + 0.02 * wave)
