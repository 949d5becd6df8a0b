"""Decoding of the sound of audio files and videos, in a child process with limits of memory and time."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from flickbook.formats import is_frames
from flickbook.media.sound.samples import Sound
from flickbook.media.untrusted import probe
from flickbook.media.untrusted.sniff import opened, sniff_sound
from flickbook.media.write import FilePath


def read_sound(path: FilePath, seconds: float | None = None) -> Sound:
    """Return the sound of an audio file, or the first one of a video; of the first `seconds` only, if given.

    It begins with the film, at the file's own rate; more than two channels are mixed to two. Raises MediaError for a
    file that is missing, damaged, without sound, longer than an hour, or of an unsupported format.
    """
    messages = probe.stream("sound", path, seconds=seconds)
    with closing(messages):
        head = next(messages).value
        blocks = [
            np.frombuffer(message.data, np.float32).reshape(message.value["shape"])
            for message in messages
            if not message.answer
        ]
    samples = np.concatenate(blocks) if blocks else np.zeros((1, head["channels"]), np.float32)
    return Sound(samples, head["rate"])


def sound_facts(path: FilePath) -> dict[str, Any]:
    """Return codec, rate, channels, seconds, peak_dbfs, rms_dbfs (None for digital silence) and silent of a sound.

    All of it is decoded, so the facts are exact. Raises MediaError as `read_sound` does.
    """
    found = probe.ask("sound_facts", path, probe.IMAGE).value
    assert isinstance(found, dict)
    return found


def has_sound(path: FilePath) -> bool:
    """Whether a file is a video with sound, or an audio file; False for images and numbered frames.

    Raises MediaError for a file that is missing or damaged.
    """
    if is_frames(path):
        return False
    with opened(path, None, "either") as (file, form, _):
        if not form.moves or sniff_sound(file.read(64)) is None:
            return False
    return bool(probe.ask("has_sound", path).value)
