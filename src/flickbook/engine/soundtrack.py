"""The sound of a finished film: the track of a Plan, fitted to it, or the film's own sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from flickbook.engine.polish import finished
from flickbook.errors import MediaError, RequestError
from flickbook.files import sha256
from flickbook.media.read_sound import read_sound, sound_facts
from flickbook.media.sound import mix
from flickbook.media.sound.samples import Sound, samples_in
from flickbook.spec import NO_AUDIO, Plan, Treatment

#: SHA-256 of a file -> its sound, for as long as the film needs it.
Tracks = Mapping[str, Sound]
#: Seconds by which a track may be longer than the film: encoders fill their last block.
_EXCESS: Final = 0.05


def tracks(plan: Plan | Treatment, path: str | None) -> Tracks:
    """Read the track of `plan` from the file at `path`, by its SHA-256; empty if the plan has none.

    Raises MediaError for a file that is unreadable or has changed since, RequestError for a track that is longer than
    the finished film, unless it may be cut.
    """
    digest = plan.track()
    if not digest or path is None:
        return {}
    size = finished(plan)
    seconds = size.num_frames / size.fps
    # The rest of the file is never heard.
    sound = read_sound(path, seconds + 2 * _EXCESS)
    if plan.audio_fit == "pad" and sound.seconds > seconds + _EXCESS:
        length = sound_facts(path)["seconds"]
        limit = f"lasts {length:.3g} seconds, and the film {seconds:.3g}"
        remedy = "set the audio fit to trim to cut it, or make a longer film"
        raise RequestError("audio", Path(path).name, limit, remedy)
    if sha256(path) != digest:
        raise MediaError(path, "was changed while it was read", "start again")
    return {digest: sound}


def soundtrack(
    plan: Plan | Treatment, frames: np.ndarray, fps: float, own: Sound | None, found: Tracks
) -> Sound | None:
    """Return the sound of the finished film `frames` (n, h, w, 3) at `fps`, of exactly its duration; None for silence.

    `own` is the sound that the model made or that the joined films have, already polished. A track replaces it, and
    begins with the finished film. Raises RequestError if the track is not among those `found`.
    """
    if plan.audio == NO_AUDIO:
        return None
    if not plan.audio:
        return own
    sound = found.get(plan.audio)
    if sound is None:
        limit = f"its file with SHA-256 {plan.audio} is not on this machine"
        raise RequestError("audio", plan.audio[:12], limit, "name the file")
    return fitted(sound, plan, len(frames), fps)


def fitted(sound: Sound, plan: Plan | Treatment, num_frames: int, fps: float) -> Sound:
    """Return a track, repeated, cut or followed by silence to the duration of the film, and faded."""
    wanted, held = samples_in(num_frames, fps, sound.rate), len(sound.samples)
    if held < wanted and plan.audio_fit != "loop":
        # The fade ends with the track, not with the silence after it.
        return mix.cut(mix.faded(sound, plan.audio_fade), 0, wanted)
    whole = mix.repeated(sound, wanted)
    return mix.faded(whole, plan.audio_fade) if plan.audio_fade or held == wanted else mix.softened(whole)
