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
    sound = _decoded(path, seconds, optional=False)
    assert sound is not None
    return sound


def film_sound(path: FilePath) -> Sound | None:
    """Return the sound of a film as `read_sound` does; None for a film without one, images and numbered frames.

    Raises MediaError for a file that is missing or damaged.
    """
    return _decoded(path, None, optional=True) if _may_sound(path) else None


def sound_facts(path: FilePath) -> dict[str, Any]:
    """Return codec, rate, channels, seconds, peak_dbfs, rms_dbfs (None for digital silence) and silent of a sound.

    All of it is decoded, so the facts are exact. Raises MediaError as `read_sound` does.
    """
    found = probe.ask("sound_facts", path, probe.IMAGE).value
    assert isinstance(found, dict)
    return found


def film_sound_facts(path: FilePath) -> dict[str, Any] | None:
    """Return the facts of `sound_facts` for a film; None if `film_sound` has none. Raises MediaError as that does."""
    if not _may_sound(path):
        return None
    found = probe.ask("sound_facts", path, probe.IMAGE, optional=True).value
    assert found is None or isinstance(found, dict)
    return found


def _decoded(path: FilePath, seconds: float | None, *, optional: bool) -> Sound | None:
    """Return the sound that the child process decodes; if it is `optional`, None for a video without one."""
    messages = probe.stream("sound", path, seconds=seconds, optional=optional)
    with closing(messages):
        head = next(messages).value
        if head is None:
            return None
        blocks = [
            np.frombuffer(message.data, np.float32).reshape(message.value["shape"])
            for message in messages
            if not message.answer
        ]
    samples = np.concatenate(blocks) if blocks else np.zeros((1, head["channels"]), np.float32)
    return Sound(samples, head["rate"])


def _may_sound(path: FilePath) -> bool:
    """Whether a file is of a format that can hold a sound. Raises MediaError."""
    if is_frames(path):
        return False
    with opened(path, None, "either") as (file, form, _):
        return bool(form.moves and sniff_sound(file.read(64)) is not None)
