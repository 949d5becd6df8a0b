"""Writing: the colours come back, equal films are equal files, and a failure leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import flickbook
from flickbook.errors import OutputError, RequestError
from flickbook.media.inspect import read_comment
from flickbook.media.read import read_any
from flickbook.media.write import (
    MAX_COMMENT_BYTES,
    check_film,
    check_target,
    staged,
    staged_film,
    write,
    write_png,
)


def film(frames: int = 16, height: int = 64, width: int = 96) -> np.ndarray:
    """A soft diagonal ramp that moves, (frames, height, width, 3) uint8."""
    t, y, x = np.ogrid[:frames, :height, :width]
    planes = [x * 2 + 0 * (t + y), y * 3 + t * 2 + 0 * x, 200 - x - t * 4 + 0 * y]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)])


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (160, 32, 240)])
def test_flat_colours_are_preserved(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    write(tmp_path / "flat.mp4", np.full((3, 32, 32, 3), colour, np.uint8), 8)
    assert np.abs(decoded(tmp_path / "flat.mp4").astype(int) - colour).max() <= 3


def test_a_moving_film_keeps_order_and_quality(tmp_path: Path) -> None:
    frames = film()
    write(tmp_path / "film.mp4", frames, 8)
    back = decoded(tmp_path / "film.mp4")
    assert back.shape == frames.shape
    error = np.mean((back.astype(float) - frames) ** 2, axis=(1, 2, 3))
    assert (10 * np.log10(255**2 / error) > 35).all()


def test_the_mp4_is_playable_in_browsers_and_quicktime(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write(path, film(20), 8)
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat"), "the index must come first"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.codec_tag, context.pix_fmt) == ("h264", "avc1", "yuv420p")
        facts = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        assert facts == (1, 1, 1, 1), "limited range and BT.709 throughout"
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets], "no reordering"
    assert packets[0].pts == 0
    keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert keys[0] == 0 and max(np.diff([*keys, len(packets)])) <= 8, "a keyframe at least every second"


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (8, Fraction(8)),
        (7.5, Fraction(15, 2)),
        (24000 / 1001, Fraction(24000, 1001)),
        (0.5, Fraction(1, 2)),
        (240, Fraction(240)),
    ],
)
@pytest.mark.parametrize("count", [1, 5])
def test_rate_and_duration_are_exact(tmp_path: Path, fps: float, rate: Fraction, count: int) -> None:
    write(tmp_path / "film.mp4", film(count, 16, 16), fps)
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate
        assert stream.duration is not None and stream.time_base is not None
        assert stream.duration * stream.time_base == count / rate, "the last frame must last as long as the others"


@pytest.mark.parametrize("fps", [0, -1, 0.01, 241, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(RequestError, match=r"^fps=.*0\.1 to 240"):
        write(tmp_path / "film.mp4", film(2), fps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(1, 1), (33, 64), (64, 33), (35, 37)])
def test_odd_sizes_grow_by_their_last_row_or_column(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    frames = film(2, height, width)
    frames[:, -8:, -8:] = (0, 0, 250)
    write(tmp_path / "odd.mp4", frames, 8)
    back = decoded(tmp_path / "odd.mp4")
    assert back.shape == (2, height + height % 2, width + width % 2, 3)
    assert np.abs(back[:, -1, -1].astype(int) - (0, 0, 250)).max() <= 8


def test_equal_films_are_equal_files(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
    write(tmp_path / "a.mp4", frames, 8, '{"seed":7}')
    write(tmp_path / "other-name.mp4", np.asfortranarray(frames), 8, '{"seed":7}')
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "other-name.mp4").read_bytes()
    assert b"Lavf" not in (tmp_path / "a.mp4").read_bytes(), "the muxer's version would tie the bytes to it"
    write_png(tmp_path / "a.png", frames[0], "x")
    write_png(tmp_path / "b.png", frames[0], "x")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_png_keeps_pixels_and_comment(tmp_path: Path) -> None:
    frame = film(1)[0]
    write_png(tmp_path / "still.png", frame, "snow ❄ “quoted”")
    with Image.open(tmp_path / "still.png") as image:
        assert image.text["comment"] == "snow ❄ “quoted”"
        assert np.array_equal(np.asarray(image), frame)


@pytest.mark.parametrize("comment", ["x" * (MAX_COMMENT_BYTES + 1), "a\0b", "\ud800"])
def test_a_comment_that_cannot_be_stored_is_refused(tmp_path: Path, comment: str) -> None:
    with pytest.raises(OutputError, match="comment"):
        write(tmp_path / "film.mp4", film(2), 8, comment)
    with pytest.raises(OutputError, match="comment"):
        write_png(tmp_path / "still.png", film(1)[0], comment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frames",
    [
        film(2).astype(np.float32),
        film(2).tolist(),
        film(2)[0],
        film(2)[..., :1],
        film(2)[:0],
        film(2)[:, :0],
    ],
)
def test_frames_of_other_shapes_and_types_are_refused(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(RequestError, match="^frames="):
        write(tmp_path / "new" / "film.mp4", frames, 8)
    with pytest.raises(RequestError, match="^frames="):
        write_png(tmp_path / "new" / "still.png", frames if isinstance(frames, list) else frames[None])
    assert list(tmp_path.iterdir()) == [], "neither part nor directory may stay"


def test_an_existing_file_is_refused_before_writing_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="film.mp4: exists already"):
        write(path, film(2), 8)
    assert path.read_bytes() == b"precious"
    write(path, film(2), 8, overwrite=True)
    assert len(decoded(path)) == 2
    assert os.listdir(tmp_path) == ["film.mp4"]


def test_failed_overwriting_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(RequestError):
        write(path, film(2), -1, overwrite=True)
    assert path.read_bytes() == b"precious"


def test_missing_directories_are_made(tmp_path: Path) -> None:
    write_png(tmp_path / "a" / "b" / "still.png", film(1)[0])
    assert (tmp_path / "a" / "b" / "still.png").is_file()


def test_targets_that_cannot_be_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in [tmp_path, tmp_path / "file" / "film.mp4", tmp_path / ("n" * 300 + ".mp4"), "", "a\0b.mp4"]:
        with pytest.raises(OutputError):
            write(target, film(2), 8)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="no permission"):
        check_target(locked / "film.mp4")


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [100, 5000])
def test_a_full_disk_leaves_no_files(tmp_path: Path, limit: int) -> None:
    script = f"""
        import resource
        import numpy as np
        from flickbook.errors import OutputError
        from flickbook.media.write import write, write_png
        frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        for write, name, *what in ((write, "new/film.mp4", frames, 8), (write_png, "still.png", frames[0])):
            try:
                write(name, *what)
            except OutputError as error:
                print(error)
        """
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__path__[0]).parent)}
    words = [sys.executable, "-c", textwrap.dedent(script)]
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["new/film.mp4", "still.png"], result.stderr
    assert all("larger than" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_staged_publishes_all_files_or_none(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(OutputError, match="second: "), staged(first, second) as parts:
        for part in parts:
            part.write_text("new")
        second.write_text("someone else's")
    assert os.listdir(tmp_path) == ["second"]
    assert second.read_text() == "someone else's"


def test_staged_does_not_replace_a_file_that_appears_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"), staged(tmp_path / "film") as (part,):
        part.write_text("new")
        (tmp_path / "film").write_text("someone else's")
    assert (tmp_path / "film").read_text() == "someone else's"


def test_the_first_frame_is_published_last(tmp_path: Path) -> None:
    write(tmp_path / "f-%d.png", film(3, 8, 8), 8, "the old recipe")
    third, beside = tmp_path / "f-3.png", tmp_path / "beside"
    with (
        pytest.raises(OutputError, match="f-3.png"),
        staged_film(tmp_path / "f-%d.png", 3, beside, overwrite=True) as parts,
    ):
        for part, text in zip(parts, ("1", "2", "3", "beside"), strict=True):
            part.write_text(text)
        third.unlink()
        (third / "in the way").mkdir(parents=True)
    # The recipe of the new film would say that all of it is there.
    assert read_comment(tmp_path / "f-1.png") == "the old recipe" and (tmp_path / "f-2.png").read_text() == "2"
    assert sorted(os.listdir(tmp_path)) == ["f-1.png", "f-2.png", "f-3.png"]
    (third / "in the way").rmdir()
    third.rmdir()
    with staged_film(tmp_path / "f-%d.png", 3, beside, overwrite=True) as parts:
        for part, text in zip(parts, ("1", "2", "3", "beside"), strict=True):
            part.write_text(text)
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["beside", "1", "2", "3"]


def test_a_shorter_film_leaves_no_frames_of_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "f-%02d.png"
    write(path, film(6, 8, 8), 8)
    # What does not follow without a gap is read as no frame, and stays.
    for name in ("f-08.png", "f-7.png", "g-07.png"):
        (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(OutputError, match="f-01.png: exists already"):
        write(path, film(2, 8, 8), 8)
    write(path, film(2, 8, 8), 8, overwrite=True)
    assert np.array_equal(read_any(path)[0], film(2, 8, 8))
    assert sorted(os.listdir(tmp_path)) == ["f-01.png", "f-02.png", "f-08.png", "f-7.png", "g-07.png"]


def test_failed_overwriting_keeps_all_frames_of_the_longer_film(tmp_path: Path) -> None:
    path = tmp_path / "f-%d.png"
    write(path, film(4, 8, 8), 8)
    with pytest.raises(RequestError):
        write(path, film(2, 8, 8), -1, overwrite=True)
    assert np.array_equal(read_any(path)[0], film(4, 8, 8))


def test_only_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "f-3.png").mkdir()
    (tmp_path / "f-4.png").write_bytes(b"precious")
    write(tmp_path / "f-%d.png", film(2, 8, 8), 8, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["f-1.png", "f-2.png", "f-3.png", "f-4.png"]


def test_frames_next_to_those_of_another_film_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f-3.png").write_bytes(b"precious")
    with pytest.raises(OutputError, match="f-3.png: exists already"):
        write(tmp_path / "f-%d.png", film(2, 8, 8), 8)
    with pytest.raises(OutputError, match="f-3.png: exists already"):
        check_film(tmp_path / "f-%d.png", 2, tmp_path / "beside")
    assert os.listdir(tmp_path) == ["f-3.png"]
    check_film(tmp_path / "f-%d.png", 2, overwrite=True)
    write(tmp_path / "f-%d.png", film(1, 8, 8), 8)  # f-2.png is not there, so it ends here
    assert len(read_any(tmp_path / "f-%d.png")[0]) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_frame_of_number_0_is_not_taken_for_part_of_a_new_film(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "f-0.png").write_bytes(b"of somebody")
    with pytest.raises(OutputError, match=r"f-0\.png.*first frame of this film.*another name"):
        write(tmp_path / "f-%d.png", film(2, 8, 8), 8, overwrite=overwrite)
    assert (tmp_path / "f-0.png").read_bytes() == b"of somebody"


def test_an_interrupt_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "new" / "film") as (part,):
        part.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_files_get_the_permissions_of_ordinary_files(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    write(tmp_path / "film.mp4", film(1), 8)
    assert (tmp_path / "film.mp4").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
