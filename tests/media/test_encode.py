"""Films through FFmpeg: each codec in each container comes back as it should, to the bit where that is promised."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from flickbook.errors import RequestError
from flickbook.formats import CODECS, FORMS, encoding
from flickbook.media.encode import check_encoder, writable_codecs
from flickbook.media.read import read_video
from flickbook.media.write import write
from flickbook.spec import Encoding

SOFTWARE = [
    ("mp4", "h264"),
    ("mp4", "h265"),
    ("mp4", "av1"),
    ("webm", "vp9"),
    ("webm", "av1"),
    ("mkv", "ffv1"),
    ("mkv", "h264"),
    ("mkv", "h265"),
    ("mkv", "vp9"),
    ("mkv", "av1"),
]
LOSSLESS = [("mp4", "h264"), ("mkv", "h264"), ("mp4", "h265"), ("webm", "vp9"), ("mkv", "ffv1")]
NAMES = {"h265": "hevc"}
COMMENT = '{"prompt": "snow ❄ “quoted”"}'


def soft(frames: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    """A soft diagonal ramp that moves, (frames, height, width, 3) uint8."""
    t, y, x = np.ogrid[:frames, :height, :width]
    planes = [x * 2 + 0 * (t + y), y * 3 + t * 2 + 0 * x, 200 - x - t * 4 + 0 * y]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def noise(frames: int = 3, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def saved(path: Path, how: Encoding, frames: np.ndarray, comment: str | None = COMMENT) -> Path:
    write(path, frames, 8, comment, encoding=how, overwrite=True)
    return path


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)])


def skip_unless_here(how: Encoding) -> None:
    try:
        check_encoder(how, 64, 64)
    except RequestError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("container", "codec"), SOFTWARE)
def test_encoded_frames_keep_order_times_and_quality(tmp_path: Path, container: Any, codec: str) -> None:
    path = saved(tmp_path / f"film.{container}", encoding(container, codec), soft())
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.codec.canonical_name == NAMES.get(codec, codec)
        assert stream.average_rate == 8
        tags = {name.lower(): value for name, value in file.metadata.items()}
        assert tags["comment"] == COMMENT
    back = decoded(path)
    assert back.shape == soft().shape
    assert all(psnr(*pair) > 35 for pair in zip(back, soft(), strict=True))


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (160, 32, 240)])
def test_flat_colours_are_preserved(tmp_path: Path, codec: str, colour: tuple[int, int, int]) -> None:
    path = saved(tmp_path / "flat.mkv", encoding("mkv", codec), np.full((2, 32, 32, 3), colour, np.uint8))
    assert np.abs(decoded(path).astype(int) - colour).max() <= 3


@pytest.mark.parametrize(("container", "codec"), LOSSLESS)
@pytest.mark.parametrize("size", [(48, 64), (17, 35)])
def test_lossless_codecs_keep_every_bit(tmp_path: Path, container: Any, codec: str, size: tuple[int, int]) -> None:
    frames = noise(3, *size)
    path = saved(tmp_path / f"film.{container}", encoding(container, codec, "lossless"), frames)
    assert np.array_equal(decoded(path), frames)


@pytest.mark.parametrize("width", [16, 34, 48, 62])
def test_narrow_films_are_encoded_in_h265(tmp_path: Path, width: int) -> None:
    """x265 can write past its buffers for these, and the process ends when the encoder is closed."""
    frames = soft(4, 64, width)
    assert psnr(decoded(saved(tmp_path / "film.mp4", encoding("mp4", "h265"), frames)), frames) > 30


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_ten_bit_formats_store_10_bits(tmp_path: Path, codec: str) -> None:
    how = encoding("mkv", codec, None, "yuv420p10le")
    skip_unless_here(how)
    path = saved(tmp_path / "film.mkv", how, soft())
    with av.open(str(path)) as file:
        assert next(file.decode(video=0)).format.name == "yuv420p10le"
    assert psnr(decoded(path), soft()) > 35


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9"])
def test_full_chroma_preserves_thin_colour_lines(tmp_path: Path, codec: str) -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    frames[:, :, ::2] = (255, 0, 0)
    kept = decoded(saved(tmp_path / "full.mkv", encoding("mkv", codec, 80, "yuv444p"), frames))
    halved = decoded(saved(tmp_path / "half.mkv", encoding("mkv", codec, 80), frames))
    assert psnr(kept, frames) > psnr(halved, frames) + 6


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (33, 64), (64, 33)])
@pytest.mark.parametrize(("container", "codec"), [("mp4", "h264"), ("mp4", "h265"), ("webm", "vp9"), ("mp4", "av1")])
def test_odd_and_tiny_sizes_grow_by_their_last_row_or_column(
    tmp_path: Path, size: tuple[int, int], container: Any, codec: str
) -> None:
    height, width = size
    frames = soft(2, height, width)
    back = decoded(saved(tmp_path / f"odd.{container}", encoding(container, codec), frames))
    least = {"h265": 16, "av1": 4}.get(codec, 2)
    assert back.shape == (2, max(least, height + height % 2), max(least, width + width % 2), 3)
    assert psnr(back[:, :height, :width], frames) > 30
    if max(size) > 16:
        assert np.abs(back[:, -1, -1].astype(int) - frames[:, -1, -1]).max() <= 12


@pytest.mark.parametrize(("container", "codec"), SOFTWARE[:6])
@pytest.mark.parametrize("quality", [None, "lossless"])
@pytest.mark.slow
def test_equal_films_are_equal_files(tmp_path: Path, container: Any, codec: str, quality: Any) -> None:
    if quality and not CODECS[codec].lossless:
        pytest.skip("it cannot be lossless")
    how, frames = encoding(container, codec, quality), noise(10, 96, 128)
    first = saved(tmp_path / f"a.{container}", how, frames).read_bytes()
    assert saved(tmp_path / f"other.{container}", how, np.asfortranarray(frames)).read_bytes() == first
    assert b"Lavf6" not in first, "the muxer's version would tie the bytes to it"


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_more_quality_is_more_bytes_and_closer(tmp_path: Path, codec: str) -> None:
    frames = np.repeat(noise(3)[..., :1], 3, axis=-1)  # grey, as halved chroma would be the limit
    paths = [saved(tmp_path / f"{q}.mkv", encoding("mkv", codec, q), frames) for q in (0, 50, 100)]
    sizes = [path.stat().st_size for path in paths]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    likeness = [psnr(decoded(path), frames) for path in paths]
    assert likeness == sorted(likeness) and likeness[-1] > likeness[0] + 10


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_an_mp4_has_its_index_first_and_a_known_codec_tag(tmp_path: Path, codec: str) -> None:
    path = saved(tmp_path / "film.mp4", encoding("mp4", codec), soft(20))
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.codec_tag == {"h264": "avc1", "h265": "hvc1", "av1": "av01"}[codec]
        packets = [packet for packet in file.demux(stream) if packet.size]
    assert packets[0].pts == 0
    keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert keys[0] == 0 and max(np.diff([*keys, len(packets)])) <= 8, "a keyframe at least every second"


@pytest.mark.parametrize("container", ["webm", "mkv"])
@pytest.mark.parametrize("fps", [7.5, 24000 / 1001, 60])
def test_matroska_keeps_the_frame_rate(tmp_path: Path, container: str, fps: float) -> None:
    write(tmp_path / f"film.{container}", soft(6, 16, 16), fps)
    with av.open(str(tmp_path / f"film.{container}")) as file:
        assert file.streams.video[0].average_rate == Fraction(fps).limit_denominator(1001)


def test_encoders_print_nothing(tmp_path: Path) -> None:
    program = """
import sys, threading
import numpy as np
from flickbook.formats import encoding
from flickbook.media.write import write
frames = np.zeros((6, 64, 64, 3), np.uint8)
def save(name, container, codec):
    write(f"{sys.argv[1]}/{name}", frames, 8, encoding=encoding(container, codec))
kinds = (("a.webm", "webm", "av1"), ("b.mp4", "mp4", "av1"), ("c.mp4", "mp4", "h265"), ("d.mp4", "mp4", "h264"))
threads = [threading.Thread(target=save, args=each) for each in kinds]
[each.start() for each in threads]
[each.join() for each in threads]
"""
    # In a process of its own: what else a test process prints is not the encoders'.
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert len(list(tmp_path.iterdir())) == 4


def test_missing_hardware_encoders_are_refused_in_one_line(tmp_path: Path) -> None:
    here = writable_codecs()
    absent = [name for name, reason in here.items() if reason]
    assert set(here) == {name for form in ("mp4", "webm", "mkv") for name in FORMS[form].codecs}  # type: ignore[index]
    assert not {"h264", "h265", "av1", "vp9", "ffv1"} & set(absent)
    for name in absent:
        assert CODECS[name].hardware
        how = encoding("mp4", name)
        with pytest.raises(RequestError, match=f"^codec={name}: .*choose h264$") as refused:
            check_encoder(how, 128, 128)
        assert "\n" not in str(refused.value)
        with pytest.raises(RequestError, match=f"^codec={name}:"):
            write(tmp_path / "new" / "film.mp4", soft(), 8, encoding=how)
    assert list(tmp_path.iterdir()) == []


def test_available_hardware_encoders_write_films(tmp_path: Path) -> None:
    here = [name for name, reason in writable_codecs().items() if not reason and CODECS[name].hardware]
    if not here:
        pytest.skip("this machine has no hardware encoder")
    for name in here:
        frames = soft(6, 144, 256)
        back = decoded(saved(tmp_path / "film.mp4", encoding("mp4", name), frames))
        assert back.shape == frames.shape and psnr(back, frames) > 30, name


def test_an_unsupported_pixel_format_is_refused() -> None:
    how = encoding("webm", "vp9", None, "yuv420p10le")
    try:
        check_encoder(how, 64, 64)
    except RequestError as error:
        assert str(error).startswith("pixel_format=yuv420p10le: libvpx-vp9") and "choose yuv420p" in str(error)
        assert writable_codecs()["vp9"] == ""


def probe(path: Path) -> dict[str, Any]:
    words = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", str(path)]
    return dict(json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout))


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe here")
@pytest.mark.parametrize(("container", "codec"), [*SOFTWARE, ("gif", "gif"), ("apng", "apng")])
@pytest.mark.parametrize("quality", [None, "lossless"])
def test_the_system_ffprobe_reads_the_films(tmp_path: Path, container: Any, codec: str, quality: Any) -> None:
    """The films are checked by a program of its own, of whatever version the system has."""
    if quality and not CODECS[codec].lossless:
        pytest.skip("it cannot be lossless")
    how = encoding(container, codec, quality)
    report = probe(saved(tmp_path / f"film.{container}", how, soft()))
    (stream,) = report["streams"]
    assert stream["codec_name"] == NAMES.get(codec, codec)
    assert (stream["width"], stream["height"], stream["nb_read_frames"]) == (64, 48, "6")
    expected = {"gif": "bgra", "apng": "rgb24", "rgb24": "gbrp"}
    pixels = expected.get(codec) or expected.get(how.pixel_format, how.pixel_format)
    assert stream["pix_fmt"] == pixels
    if container in ("mp4", "webm", "mkv"):
        assert stream["r_frame_rate"] == "8/1"
        assert stream["color_range"] == ("pc" if how.quality == "lossless" else "tv")
        assert stream["color_space"] == ("gbr" if how.quality == "lossless" else "bt709")
    if container != "apng":
        tags = {name.lower(): value for name, value in report["format"]["tags"].items()}
        assert tags["comment"] == COMMENT


def test_written_films_are_read_back(tmp_path: Path) -> None:
    for container, codec in (("mp4", "h265"), ("mp4", "av1"), ("webm", "vp9"), ("mkv", "h264")):
        frames, fps = read_video(saved(tmp_path / f"{codec}.{container}", encoding(container, codec), soft()))  # type: ignore[arg-type]
        assert (frames.shape, fps) == (soft().shape, 8.0)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no scheduling policies")
def test_encoders_do_not_change_the_scheduling_policy(tmp_path: Path) -> None:
    """SVT-AV1 makes the process that runs it as root a real-time one."""
    before = os.sched_getscheduler(0)
    write(tmp_path / "film.mp4", np.zeros((2, 64, 64, 3), np.uint8), 8, encoding=encoding("mp4", "av1"))
    assert os.sched_getscheduler(0) == before
    assert {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")} == {before}
