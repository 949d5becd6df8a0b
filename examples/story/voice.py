"""Writes voice.wav, a voice that hums along with the story: `python examples/story/voice.py FILE SECONDS`.

A synthesised voice: pulses of a falling and rising pitch through the resonances of vowels (a source-filter model; the
frequencies are those of Peterson and Barney, 1952). The same file on every machine.
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np

RATE = 24_000
#: The first three resonances (Hz) of the vowels in "father", "heed", "who", "hawed" and "head", for an adult woman.
VOWELS = ((850, 1220, 2810), (310, 2790, 3310), (370, 950, 2670), (590, 920, 2710), (610, 2330, 2990))
#: A tune, as semitones above 220 Hz: one line for each shot.
TUNE = ((0, 4, 7), (7, 4, 2), (0, -3, -5), (0, 2, 4), (7, 9, 7), (4, 7, 11), (12, 14, 16), (12, 7, 12))


def hum(pitch: float, vowel: tuple[int, int, int], seconds: float) -> np.ndarray:
    """A sung vowel (n,) of a pitch in Hz, with a little vibrato, rising and falling in loudness."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * t))) / RATE
    sound = np.zeros_like(t)
    for number in range(1, int(RATE / 2 / pitch / 1.05)):
        # The spectrum of the voice falls by 12 dB an octave; each resonance lifts the harmonics near it.
        gain = sum(1 / (1 + ((number * pitch - centre) / 90) ** 2) / (place + 1) for place, centre in enumerate(vowel))
        sound += gain / number * np.sin(number * phase)
    return sound * np.sin(np.pi * np.arange(len(t)) / len(t)) ** 0.5


def main(path: Path, seconds: float) -> None:
    """Write the voice, 16-bit mono, `seconds` long."""
    line = seconds / len(TUNE)
    track = np.zeros(round(seconds * RATE))
    for number, notes in enumerate(TUNE):
        for place, note in enumerate(notes):
            sung = hum(220 * 2 ** (note / 12), VOWELS[(number + place) % len(VOWELS)], line * 0.28)
            start = round((number * line + place * line * 0.3) * RATE)
            track[start : start + len(sung)] += sung[: len(track) - start]
    samples = (track / np.abs(track).max() * 0.5 * 32767).round().astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
