"""Films that are encoded while they are made: the same bytes, and of no other frames."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.media.test_clip import clip

from flickbook.formats import encoding
from flickbook.media.background_encoder import Ahead
from flickbook.media.clip import Clip, frames_sha256

H264 = encoding("mp4")


def fed(made: Clip, pieces: int = 3, kind: str = "mp4") -> Clip:
    """The clip with its frames encoded in pieces, as its Plan says."""
    assert made.recipe is not None
    how = encoding("mkv") if kind == "mkv" else encoding("webm") if kind == "webm" else H264
    ahead = Ahead(how, made.frames.shape, Fraction(8))
    for piece in np.array_split(made.frames, pieces):
        ahead.add(piece)
    ahead.end()
    return replace(made, recipe=made.recipe.encoded(how), ahead=ahead)


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv"])
def test_the_file_has_the_same_bytes(tmp_path: Path, kind: str) -> None:
    made = fed(clip(12), kind=kind)
    assert made.ahead is not None and made.recipe is not None
    how = made.recipe.plan.encoding()
    assert how is not None and made.ahead.packets(how, made.recipe.frames_sha256), "so there are packets to write"
    made.save(tmp_path / f"ahead.{kind}")
    replace(made, ahead=None).save(tmp_path / f"after.{kind}")
    assert (tmp_path / f"ahead.{kind}").read_bytes() == (tmp_path / f"after.{kind}").read_bytes()


def test_a_clip_can_be_saved_twice_and_in_other_formats(tmp_path: Path) -> None:
    made = fed(clip(12))
    files = [made.save(tmp_path / name) for name in ("one.mp4", "two.mp4")]
    assert files[0].read_bytes() == files[1].read_bytes()
    for name, options in (("best.mp4", {"quality": 95}), ("film.gif", {})):
        made.save(tmp_path / name, **options)  # type: ignore[arg-type]
        replace(made, ahead=None).save(tmp_path / f"after-{name}", **options)  # type: ignore[arg-type]
        assert (tmp_path / name).read_bytes() == (tmp_path / f"after-{name}").read_bytes()


def test_packets_are_not_used_for_other_frames(tmp_path: Path) -> None:
    made = fed(clip(12))
    other = replace(made, frames=255 - made.frames, recipe=None)
    other.save(tmp_path / "other.mp4")
    replace(other, ahead=None).save(tmp_path / "after.mp4")
    assert (tmp_path / "other.mp4").read_bytes() == (tmp_path / "after.mp4").read_bytes()


def test_a_cancelled_film_leaves_no_packets() -> None:
    frames = clip(12).frames
    part, none = (Ahead(H264, frames.shape, Fraction(8)) for _ in range(2))
    part.add(frames[:4])
    for ahead in (part, none):
        ahead.end()
        assert ahead.packets(H264, frames_sha256(frames)) is None


def test_a_failing_encoder_does_not_block(tmp_path: Path) -> None:
    made = clip(12)
    how = H264.model_copy(update={"codec": "h264_nothing"})
    ahead = Ahead(how, made.frames.shape, Fraction(8))
    for frame in made.frames:
        ahead.add(frame[None])
    ahead.end()
    assert ahead.packets(how, frames_sha256(made.frames)) is None
    replace(made, ahead=ahead).save(tmp_path / "film.mp4")
