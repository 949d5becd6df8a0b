"""Films of every common format: all frames, the first ones at another rate, and what the header says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from flickbook.errors import MediaError, RequestError
from flickbook.media.inspect import inspect
from flickbook.media.read import facts, read_frames, read_picture, read_video
from flickbook.media.untrusted.sniff import Limits
from flickbook.media.write import write

Encode = Callable[..., Path]
Steps = Callable[..., np.ndarray]
Numbers = Callable[[np.ndarray], list[int]]

FILMS = {
    "h264.mp4": "libx264",
    "hevc.mp4": "libx265",
    "mpeg4.mp4": "mpeg4",
    "av1.mp4": "libsvtav1",
    "vp9.mp4": "libvpx-vp9",
    "h264.mov": "libx264",
    "hevc.mov": "libx265",
    "vp8.webm": "libvpx",
    "vp9.webm": "libvpx-vp9",
    "av1.webm": "libsvtav1",
    "vp8.mkv": "libvpx",
    "vp9.mkv": "libvpx-vp9",
    "av1.mkv": "libsvtav1",
    "h264.mkv": "libx264",
    "hevc.mkv": "libx265",
    "ffv1.mkv": "ffv1",
    "mpeg4.avi": "mpeg4",
    "mjpeg.avi": "mjpeg",
    "h264.avi": "libx264",
    "frames.gif": "gif",
}
QUIET = {"libx265": {"x265-params": "log-level=none"}}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, encode: Encode, steps: Steps) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, codec in FILMS.items():
        encode(folder / name, steps(12), codec, options=QUIET.get(codec, {}))
    return folder


@pytest.mark.parametrize("name", FILMS)
def test_every_format_yields_all_frames(films: Path, steps: Steps, numbers: Numbers, name: str) -> None:
    frames, rate = read_video(films / name)
    assert (frames.shape, frames.dtype, rate) == ((12, 48, 64, 3), np.uint8, pytest.approx(8, rel=0.01))
    assert numbers(frames) == list(range(12))
    assert np.abs(frames.astype(int) - steps(12)).mean() < 3


@pytest.mark.parametrize("name", FILMS)
def test_facts_return_frames_size_and_rate(films: Path, name: str) -> None:
    assert facts(films / name) == (12, 64, 48, pytest.approx(8, rel=0.01))


@pytest.mark.parametrize("name", FILMS)
def test_first_frames_are_read_at_another_rate(films: Path, numbers: Numbers, name: str) -> None:
    assert numbers(read_frames(films / name, 5, 4)) == [0, 2, 4, 6, 8]
    assert numbers(read_frames(films / name, 4, 16)) == [0, 0, 1, 1]
    assert numbers(read_frames(films / name, 99, 8)) == list(range(12))


def test_the_nearest_frame_in_time_is_read(tmp_path: Path, encode: Encode, steps: Steps, numbers: Numbers) -> None:
    encode(tmp_path / "a.mp4", steps(24), fps=30)
    assert numbers(read_frames(tmp_path / "a.mp4", 6, 8)) == [0, 4, 7, 11, 15, 19]
    encode(tmp_path / "b.mkv", steps(6), fps=10, times=[0, 1, 2, 10, 11, 12])
    assert numbers(read_frames(tmp_path / "b.mkv", 13, 10)) == [0, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 5]


def test_frames_after_the_last_requested_one_are_not_decoded(
    tmp_path: Path, encode: Encode, steps: Steps, numbers: Numbers
) -> None:
    path = encode(tmp_path / "a.avi", steps(12), "mjpeg")
    data = path.read_bytes()
    at = data.rindex(b"\xff\xd8\xff")  # the last frame's first bytes
    end = data.rindex(b"idx1")
    path.write_bytes(data[:at] + bytes(end - at) + data[end:])
    assert numbers(read_frames(path, 8, 8)) == list(range(8))
    with pytest.raises(MediaError):
        read_video(path)


def test_invalid_counts_and_rates_are_refused(films: Path) -> None:
    for count, fps in ((0, 8.0), (-3, 8.0), (4, 0.0), (4, 1000.0), (4, float("nan"))):
        with pytest.raises(RequestError):
            read_frames(films / "h264.mp4", count, fps)


def test_the_beginning_of_a_film_above_the_limit_can_be_read(films: Path, numbers: Numbers) -> None:
    few = Limits(frames=6)
    for name in ("h264.mp4", "vp9.webm", "mpeg4.avi", "frames.gif"):
        assert numbers(read_frames(films / name, 4, 8, few)) == [0, 1, 2, 3]
        assert facts(films / name, few)[0] == 12
        with pytest.raises(MediaError, match="12 frames, more than the limit of 6"):
            read_video(films / name, few)
        with pytest.raises(MediaError, match="7 frames to decode"):
            read_frames(films / name, 4, 2, few)
        with pytest.raises(MediaError, match="7 frames, more than"):
            read_frames(films / name, 7, 8, few)


@pytest.mark.parametrize("name", FILMS)
def test_every_limit_applies_to_every_format(films: Path, name: str) -> None:
    size = 48 * 64
    for limits, reason in (
        (Limits(file_bytes=100), "bytes, more than"),
        (Limits(pixels=size - 1), f"{size} pixels a frame"),
        (Limits(frames=11), "12 frames"),
        (Limits(decoded_bytes=12 * size * 3 - 1), "once decoded"),
    ):
        for read in (read_video, inspect):
            with pytest.raises(MediaError, match=reason):
                read(films / name, limits)


@pytest.mark.parametrize("name", FILMS)
def test_a_truncated_film_is_refused(films: Path, tmp_path: Path, name: str) -> None:
    data = (films / name).read_bytes()
    path = tmp_path / name
    for share in range(20):
        path.write_bytes(data[: len(data) * share // 20])
        for read in (read_video, facts, inspect, lambda path: read_frames(path, 2, 8)):
            with pytest.raises(MediaError):
                read(path)


def test_h264_that_begins_between_keyframes_is_refused_for_its_missing_frames(
    tmp_path: Path, encode: Encode, steps: Steps
) -> None:
    """The decoder drops what comes before the first keyframe, and reports no error."""
    whole = encode(tmp_path / "whole.mp4", steps(24), options={"g": "6"})
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        stream = cut.add_stream_from_template(source.streams.video[0])
        for packet in [each for each in source.demux() if each.size][1:]:
            packet.stream = stream
            cut.mux(packet)
    with pytest.raises(MediaError, match="ends after 18 of 23 frames"):
        read_video(tmp_path / "cut.mp4")


def test_rotation_metadata_is_applied(tmp_path: Path, encode: Encode) -> None:
    picture = np.full((4, 48, 64, 3), 128, np.uint8)
    picture[:, :24, :32] = 255  # bright at the upper left
    for turned, corner in ((0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))):
        path = encode(tmp_path / f"{turned}.mp4", picture, turned=turned)
        frames, _ = read_video(path)
        height, width = (64, 48) if turned % 180 else (48, 64)
        assert frames.shape == (4, height, width, 3)
        assert facts(path)[1:3] == (width, height)
        assert frames[0][corner].mean() > 240 and frames[0].mean() < 170


def copied(source: Path, target: Path, shift: int, **options: str) -> Path:
    """The packets of a film in a new file, `shift` of its time units earlier."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream, packet.pts, packet.dts = stream, packet.pts - shift, packet.dts - shift
                made.mux(packet)
    return target


def test_frames_outside_the_edit_list_are_skipped(
    tmp_path: Path, encode: Encode, steps: Steps, numbers: Numbers
) -> None:
    encode(tmp_path / "a.mp4", steps(12), options={"bf": "0"})
    with av.open(str(tmp_path / "a.mp4")) as container:
        unit = round(1 / 8 / container.streams.video[0].time_base)
    path = copied(tmp_path / "a.mp4", tmp_path / "b.mp4", 5 * unit, avoid_negative_ts="disabled")
    assert numbers(read_video(path)[0]) == list(range(5, 12))
    assert facts(path)[0] == 7
    assert numbers(read_frames(path, 3, 8)) == [5, 6, 7]


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", {"movflags": "frag_keyframe+empty_moov"}), ("a.webm", {"live": "1"}), ("a.mkv", {"live": "1"})],
)
def test_films_without_an_index_are_read(
    tmp_path: Path, encode: Encode, steps: Steps, numbers: Numbers, name: str, options: dict[str, str]
) -> None:
    codec = "libx264" if name == "a.mp4" else "libvpx"
    encode(tmp_path / name, steps(12), codec, muxer=options)
    assert numbers(read_video(tmp_path / name)[0]) == list(range(12))
    assert facts(tmp_path / name) == (12, 64, 48, 8.0)


def with_sound(path: Path, film: np.ndarray | None, cover: bool = False) -> Path:
    with av.open(str(path), "w") as container:
        stream = (
            None if film is None else container.add_stream("libx264" if path.suffix == ".mp4" else "libvpx", rate=8)
        )
        if stream is not None:
            stream.width, stream.height, stream.pix_fmt = film.shape[2], film.shape[1], "yuv420p"
        audio: Any = container.add_stream("aac" if path.suffix == ".mp4" else "libopus", rate=48000)
        if cover:
            still: Any = container.add_stream("png")
            still.width = still.height = 16
            still.pix_fmt, still.disposition = "rgb24", av.stream.Disposition.attached_pic
            container.mux(still.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 48000), np.float32), format="fltp", layout="stereo")
        silence.sample_rate, silence.pts = 48000, 0
        for frame in [silence, None]:
            container.mux(audio.encode(frame))
        for picture in [] if film is None else [*film, None]:
            container.mux(stream.encode(picture if picture is None else av.VideoFrame.from_ndarray(picture)))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_audio_is_ignored(tmp_path: Path, steps: Steps, numbers: Numbers, suffix: str) -> None:
    path = with_sound(tmp_path / f"a{suffix}", steps(6))
    assert numbers(read_video(path)[0]) == list(range(6))
    assert facts(path)[0] == 6
    for read in (read_video, facts, inspect):
        with pytest.raises(MediaError, match="holds no film"):
            read(with_sound(tmp_path / f"sound{suffix}", None))


def test_cover_art_is_not_a_film(tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mp4", None, cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(MediaError, match="holds no film"):
        facts(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg2video"), ("a.mkv", "mpeg2video"), ("a.avi", "mpeg2video")])
def test_other_codecs_are_refused_by_name(tmp_path: Path, encode: Encode, steps: Steps, name: str, codec: str) -> None:
    encode(tmp_path / name, steps(3), codec, fps=25)
    with pytest.raises(MediaError, match=f"its codec is {codec}, none of"):
        read_video(tmp_path / name)


def hidden(path: Path, count: int) -> Path:
    """The film at `path` with its first packet `count` more times, each time marked as not shown (RFC 6386, 9.1)."""
    target = path.with_name(f"hidden-{path.name}")
    with av.open(str(path)) as given, av.open(str(target), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        whole = [packet for packet in given.demux(given.streams.video[0]) if packet.size]
        early = av.Packet(bytes([bytes(whole[0])[0] & ~0x10]) + bytes(whole[0])[1:])
        for at, packet in enumerate([early] * count + whole):
            copy = av.Packet(bytes(packet))
            copy.pts = copy.dts = at
            copy.time_base, copy.stream, copy.is_keyframe = given.streams.video[0].time_base, stream, at == 0
            made.mux(copy)
    return target


def test_decoding_of_hidden_frames_is_bounded(tmp_path: Path, encode: Encode, steps: Steps, numbers: Numbers) -> None:
    path = encode(tmp_path / "a.webm", steps(6), "libvpx", options={"auto-alt-ref": "0", "lag-in-frames": "0"})
    assert numbers(read_frames(hidden(path, 50), 1, 8)) == [0]
    few = Limits(decoded_bytes=20 * 48 * 64 * 3)
    for read in (lambda path: read_frames(path, 1, 8, few), lambda path: facts(path, few)):
        with pytest.raises(MediaError, match="85 frames that are not shown, more than the limit of 84"):
            read(hidden(path, 200))


def test_a_gif_is_a_film_and_a_picture(films: Path, steps: Steps) -> None:
    assert np.abs(read_picture(films / "frames.gif").astype(int) - steps(1)[0]).max() < 3


def test_a_film_of_one_frame_is_read(tmp_path: Path, encode: Encode, steps: Steps, numbers: Numbers) -> None:
    write(tmp_path / "a.mp4", steps(1), 8)
    for path in (tmp_path / "a.mp4", encode(tmp_path / "a.gif", steps(1), "gif"), encode(tmp_path / "a.mkv", steps(1))):
        assert facts(path)[:3] == (1, 64, 48)
        assert set(numbers(read_frames(path, 4, 8))) == {0}
