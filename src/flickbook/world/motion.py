"""The motion word of a track: which curve explains how an object's centre, size and angle change over a film."""

from __future__ import annotations

import math

import numpy as np

UNCLEAR = "unclear"  #: what is read where no word fits
EXPLAINED = 0.75  #: share of a track's variance that one curve must explain
#: What a motion must reach: half of the least the world draws.
TRAVEL = 19.0  #: pixels of a line or a bounce
ORBIT = 12.0  #: pixels of radius of an orbit
GROWTH = 2.0  #: ratio of sizes from end to end
TURN = math.radians(10.8)  #: rotation a frame
STILL = 5.0  #: pixels of standard deviation under which an object stands
BREATH = 0.15  #: standard deviation of the size, as a share of it, under which an object keeps its size
COHERENCE = 0.75  #: how steady a rotation must be: 1 is a clock, 16 angles by lot give about 0.45

_SIZE_WEIGHT = 1.5  # a growing object changes its half-height by 27 pixels where a moving one travels 38 to 90


def _explained(curve: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Least squares of values (n,) on one curve (n,) and a constant: sum of squares explained, and the factor."""
    centred = curve - curve.mean()
    power = float(centred @ centred)
    if power < 1e-12:
        return 0.0, 0.0
    factor = float(centred @ values) / power
    return factor * factor * power, factor


def _line(time: np.ndarray, values: np.ndarray, words: tuple[str, str]) -> tuple[float, str]:
    """(explained, word): the first word where the values fall, the second where they rise."""
    gain, slope = _explained(time, values)
    travel = slope * float(np.ptp(time))
    return (gain, words[travel > 0]) if abs(travel) >= TRAVEL else (0.0, UNCLEAR)


def _bounce(time: np.ndarray, y: np.ndarray) -> tuple[float, str]:
    """Two leaps of |sin|, give or take half a leap, from any phase; y points down."""
    best = 0.0
    for leaps in (1.5, 2.0, 2.5):
        for phase in np.arange(0, 1, 0.05):
            gain, height = _explained(-np.abs(np.sin(math.pi * (leaps * time + phase))), y)
            if height >= TRAVEL:
                best = max(best, gain)
    return best, "bouncing"


def _orbit(time: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, str]:
    """One turn about a centre, give or take a quarter, either way round."""
    place = x + 1j * y
    best = 0.0
    for turns in (-1.25, -1.0, -0.75, 0.75, 1.0, 1.25):
        wave = np.exp(2j * math.pi * turns * time)
        wave = wave - wave.mean()
        power = float(np.vdot(wave, wave).real)
        radius = abs(np.vdot(wave, place)) / max(power, 1e-12)
        if radius >= ORBIT:
            best = max(best, radius * radius * power)
    return best, "circling"


def _spins(angle: np.ndarray, period: float) -> bool:
    """Whether angles (n,) in radians, known up to `period`, turn steadily: the peak of their periodogram."""
    if not period or len(angle) < 4:
        return False
    rates = np.linspace(-period / 2, period / 2, 65)
    waves = np.exp(2j * math.pi / period * (angle[None, :] - rates[:, None] * np.arange(len(angle))))
    strength = np.abs(waves.mean(1))
    best = int(strength.argmax())
    return bool(strength[best] >= COHERENCE and abs(rates[best]) >= TURN)


def read(time: np.ndarray, x: np.ndarray, y: np.ndarray, radius: np.ndarray, angle: np.ndarray, period: float) -> str:
    """One of the motion words, "none" for an object that stands, or "unclear".

    All arrays are (n,): `time` in 0..1 over the film, centre and half-height `radius` in pixels, `angle` in radians,
    known up to `period` (0 where a turn cannot be seen). The curve that explains most of the variance gives the word.
    """
    if len(time) < 2:
        return "none"
    size = _SIZE_WEIGHT * radius
    x, y, size = x - x.mean(), y - y.mean(), size - size.mean()
    total = float(x @ x + y @ y + size @ size)
    gain, slope = _explained(time, size / _SIZE_WEIGHT)
    start, end = (max(float(radius.mean()) + slope * (t - float(time.mean())), 1.0) for t in (time[0], time[-1]))
    ratio = max(end / start, start / end)
    found = [
        _line(time, x, ("left", "right")),
        _line(time, y, ("up", "down")),
        _bounce(time, y),
        _orbit(time, x, y),
        (gain * _SIZE_WEIGHT**2 if ratio >= GROWTH else 0.0, "growing" if end > start else "shrinking"),
    ]
    share, word = max(found)
    if share >= EXPLAINED * total and share > 0:
        return word
    wanders = math.sqrt(float(x @ x + y @ y) / len(x)) > STILL
    if wanders or float(radius.std()) > BREATH * float(radius.mean()):
        return UNCLEAR
    return "spinning" if _spins(angle, period) else "none"
