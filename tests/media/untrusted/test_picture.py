"""Pictures of every common format become RGB, upright and on white."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.media.bombs import apng

from flickbook.errors import MediaError
from flickbook.media.read import facts, read_frames, read_picture, read_video
from flickbook.media.untrusted import probe
from flickbook.media.write import write


def photo(height: int = 40, width: int = 56) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).clip(0, 255).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("lzw.tif", {"compression": "tiff_lzw"}),
        ("deflate.tif", {"compression": "tiff_adobe_deflate"}),
        ("packed.tif", {"compression": "packbits"}),
        ("a.webp", {"lossless": True}),
    ],
)
def test_lossless_images_are_read_exactly(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    Image.fromarray(photo()).save(tmp_path / name, **options)
    found = read_picture(tmp_path / name)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.array_equal(found, photo())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.avif", {}),
        ("deep.avif", {"subsampling": "4:4:4"}),
        ("a.jpg", {}),
        ("progressive.jpg", {"progressive": True}),
        ("a.webp", {}),
        ("a.tif", {"compression": "jpeg"}),
    ],
)
def test_lossy_images_are_read_closely(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    Image.fromarray(photo()).save(tmp_path / name, quality=95, **options)
    assert np.abs(read_picture(tmp_path / name).astype(int) - photo()).mean() < 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, turned: int) -> None:
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[274] = turned
    lossless = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(photo()).save(path, exif=exif, **lossless)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(read_picture(path), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_colours_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(photo()).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    assert np.array_equal(read_picture(path), np.asarray(image.convert("RGB")))


def test_a_cmyk_jpeg_has_the_colours_it_was_saved_with(tmp_path: Path) -> None:
    Image.fromarray(photo()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - photo()).mean() < 4


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_images_keep_the_upper_8_bits(tmp_path: Path, suffix: str) -> None:
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(deep).save(tmp_path / f"a{suffix}")
    assert np.array_equal(
        read_picture(tmp_path / f"a{suffix}"), np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, 2)
    )


def test_sixteen_bit_colour_images_are_read(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8, 3)).astype(">u2")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert np.array_equal(read_picture(path), (deep >> 8).astype(np.uint8))


def test_float_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match="mode F"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "palette.png", "grey.png", "a.gif", "a.avif"])
def test_transparency_is_composited_on_white(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(photo()).convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat([[0, 255]], 40, 0).repeat(28, 1).astype(np.uint8)))
    if name == "palette.png":
        image = image.quantize(64)
    elif name == "grey.png":
        image = image.convert("LA")
    image.save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    found = read_picture(tmp_path / name)
    assert found[:, : 28 if name != "a.avif" else 24].min() == 255  # what is lossy is soft at the edge
    assert found[:, 28:].std() > 10


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_the_first_of_several_images_is_read(tmp_path: Path, suffix: str) -> None:
    several = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    several[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=several[1:])
    assert np.abs(read_picture(tmp_path / f"a{suffix}").astype(int) - (255, 0, 0)).max() < 16


def test_data_appended_to_a_jpeg_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.jpg", quality=95)
    plain = read_picture(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data + b"\xff\xda" * 1000 + bytes(5000))
    assert np.array_equal(read_picture(tmp_path / "b.jpg"), plain)
    Image.fromarray(photo()).save(tmp_path / "c.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert read_picture(tmp_path / "c.jpg").shape == plain.shape


def test_images_may_have_more_pixels_than_films(tmp_path: Path) -> None:
    Image.new("L", (8192, 2050)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").shape == (2050, 8192, 3)


def test_an_animated_webp_is_a_film(tmp_path: Path) -> None:
    colours = [(40 * each, 0, 255 - 40 * each) for each in range(5)]
    several = [Image.new("RGB", (16, 16), colour) for colour in colours]
    path = tmp_path / "a.webp"
    several[0].save(path, save_all=True, append_images=several[1:], duration=125, lossless=True)
    assert facts(path) == (5, 16, 16, 8.0)
    frames, rate = read_video(path)
    assert rate == 8.0 and np.array_equal(frames[:, 3, 3], colours)
    assert np.array_equal(read_frames(path, 3, 4)[:, 3, 3], colours[::2])
    several[0].save(tmp_path / "still.webp")
    with pytest.raises(MediaError, match="a picture, not a film"):
        read_video(tmp_path / "still.webp")


COLOURS = [(40 * each, 0, 255 - 40 * each) for each in range(5)]


def flat(colour: tuple[int, ...]) -> Image.Image:
    return Image.new("RGB" if len(colour) == 3 else "RGBA", (16, 16), colour)


def test_an_apng_is_a_film_and_an_image(tmp_path: Path) -> None:
    several = [flat(colour) for colour in COLOURS]
    path = tmp_path / "a.png"  # the suffix tells nothing
    several[0].save(path, save_all=True, append_images=several[1:], duration=[125, 125, 250, 125, 125])
    frames, rate = read_video(path)
    assert rate == pytest.approx(5 / 0.75) and np.array_equal(frames[:, 3, 3], COLOURS)
    assert facts(path) == (5, 16, 16, rate)
    shown = [COLOURS[each] for each in (0, 1, 2, 2, 3, 4)]
    assert np.array_equal(read_frames(path, 9, 8)[:, 3, 3], shown)
    assert np.array_equal(read_picture(path)[3, 3], COLOURS[0])


@pytest.mark.parametrize("fps", [1, 7.5, 24, 24000 / 1001, 60, 240])
def test_the_rate_of_an_apng_is_exact(tmp_path: Path, fps: float) -> None:
    write(tmp_path / "a.apng", np.stack([photo()] * 7), fps)
    assert read_video(tmp_path / "a.apng")[1] == pytest.approx(fps, rel=1e-6)


def test_the_default_image_of_an_apng_is_not_a_frame(tmp_path: Path) -> None:
    several = [flat(colour) for colour in COLOURS]
    flat((9, 99, 9)).save(tmp_path / "a.png", save_all=True, append_images=several, duration=100, default_image=True)
    frames, rate = read_video(tmp_path / "a.png")
    assert np.array_equal(frames[:, 3, 3], COLOURS) and rate == 10
    assert np.array_equal(read_picture(tmp_path / "a.png")[3, 3], (9, 99, 9))


@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_apng_frames_are_composited(tmp_path: Path, disposal: int) -> None:
    left, right = Image.new("RGBA", (16, 16)), Image.new("RGBA", (16, 16))
    left.paste((255, 0, 0, 255), (0, 0, 8, 16))
    right.paste((0, 0, 255, 255), (8, 0, 16, 16))
    path = tmp_path / "a.png"
    left.save(path, save_all=True, append_images=[right, left], duration=100, disposal=disposal, blend=1)
    second = read_video(path)[0][1]
    assert (second[:, 8:] == (0, 0, 255)).all()
    assert (second[:, :8] == ((255, 0, 0) if disposal == 0 else 255)).all()


def test_an_apng_frame_without_duration_lasts_a_tenth_of_a_second(tmp_path: Path) -> None:
    several = [flat(colour) for colour in COLOURS]
    several[0].save(tmp_path / "a.png", save_all=True, append_images=several[1:], duration=0)
    assert facts(tmp_path / "a.png")[3] == 10


def test_an_apng_with_missing_frames_is_refused(tmp_path: Path) -> None:
    several = [flat(colour) for colour in COLOURS]
    several[0].save(tmp_path / "a.png", save_all=True, append_images=several[1:], duration=100)
    data = (tmp_path / "a.png").read_bytes()
    at = data.index(b"acTL") + 4
    (tmp_path / "a.png").write_bytes(data[:at] + struct.pack(">I", 1 << 30) + data[at + 4 :])
    for read in (read_video, facts):
        with pytest.raises(MediaError, match="says 1073741824 frames, and holds 5"):
            read(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(apng(5, declared=1 << 30))
    assert read_picture(tmp_path / "b.png").shape == (1, 1, 3)
    end = data.rindex(b"fcTL") - 4
    (tmp_path / "a.png").write_bytes(data[:end])
    with pytest.raises(MediaError, match="cut short"):
        read_video(tmp_path / "a.png")


def test_the_frames_of_an_avif_picture_are_limited_as_its_decoder_needs(tmp_path: Path) -> None:
    Image.new("RGB", (4097, 4096)).save(tmp_path / "a.avif", speed=10)
    with pytest.raises(MediaError, match="16781312 pixels a frame, more than the limit of 16777216"):
        read_picture(tmp_path / "a.avif")


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.tif", {"compression": "zstd"}, "its TIFF compression zstd is not read"),
        ("a.bmp", {}, "its BMP compression 1 is not read"),
    ],
)
def test_a_compression_that_is_not_read(tmp_path: Path, name: str, options: dict[str, str], reason: str) -> None:
    Image.fromarray(photo()).quantize(16).convert("L").save(tmp_path / name, **options)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:30] + struct.pack("<I", 1) + data[34:] if name == "a.bmp" else data)
    with pytest.raises(MediaError, match=reason):
        read_picture(tmp_path / name)


def test_a_tag_that_is_damaged_does_not_refuse_the_picture(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + struct.pack("<HHII", 270, 2, 60 << 20, 8)
    Image.fromarray(photo()).save(tmp_path / "a.jpg", exif=exif + struct.pack("<HHI", 274, 9, 1 << 30), quality=95)
    assert read_picture(tmp_path / "a.jpg").shape == photo().shape


def test_an_upload_is_decoded_when_it_is_accepted(tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.jpg")
    assert probe.ask("size", tmp_path / "a.jpg").value == [56, 40]
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-300])
    with pytest.raises(MediaError, match="a.jpg: cannot be read"):
        probe.ask("size", tmp_path / "a.jpg")
