"""What a file says about itself, and the recipe it carries."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.media.bombs import png

from flickbook.errors import MediaError
from flickbook.formats import container_of, encoding
from flickbook.media.clip import Clip, frames_sha256, sidecar_path
from flickbook.media.inspect import inspect, read_comment, read_recipe
from flickbook.media.untrusted import probe
from flickbook.media.untrusted.probe import Budget
from flickbook.media.write import MAX_COMMENT_BYTES, MAX_JPEG_COMMENT_BYTES, write, write_png
from flickbook.spec import SCHEMA_VERSION, Placement, Plan, Recipe, Run

RUN = Run(seconds={"denoise": 1.5}, peak_memory_bytes=1, started_at="a", finished_at="b")


def film(frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    t, y, x = np.ogrid[:frames, :height, :width]
    return (
        np.stack([x * 4 + 0 * (t + y), y * 5 + t + 0 * x, t * 20 + 0 * (x + y)], axis=-1).clip(0, 255).astype(np.uint8)
    )


def recipe(frames: np.ndarray) -> Recipe:
    count, height, width, _ = frames.shape
    size = {"width": width, "height": height, "num_frames": count, "fps": 8.0, "container": "mp4"}
    words = {"model": "builtin", "revision": "1", "prompt": "a red circle", "negative_prompt": "", "scheduler": "ddim"}
    plan = Plan.of(task="film", num_inference_steps=25, guidance_scale=3.0, seed=7, **size, **words)
    hashes = {"weights": {"unet": "0" * 64}, "frames_sha256": frames_sha256(frames)}
    return Recipe.of(plan=plan, placement=Placement(), versions={}, device_name="a processor", **hashes)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@settings(max_examples=25)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300))
def test_any_comment_is_read_back(scratch: Path, text: str) -> None:
    write(scratch / "film.mp4", film(1, 4, 4), 8, text, overwrite=True)
    write_png(scratch / "still.png", film(1, 4, 4)[0], text, overwrite=True)
    assert read_comment(scratch / "film.mp4") == text
    assert read_comment(scratch / "still.png") == text


def test_the_longest_and_no_comment_are_read_back(tmp_path: Path) -> None:
    for name, text in (("a", "é" * (MAX_COMMENT_BYTES // 2)), ("b", None)):
        write(tmp_path / f"{name}.mp4", film(1), 8, text)
        write_png(tmp_path / f"{name}.png", film(1)[0], text)
        assert read_comment(tmp_path / f"{name}.mp4") == text
        assert read_comment(tmp_path / f"{name}.png") == text


def test_inspect_describes_a_film_of_flickbook(tmp_path: Path) -> None:
    made = Clip(film(), 8.0, recipe(film()), RUN)
    facts = inspect(made.save(tmp_path / "film.mp4"))
    assert (facts["container"], facts["codec"], facts["width"], facts["height"]) == ("mp4", "h264", 48, 32)
    assert (facts["frames"], facts["fps"], facts["seconds"], facts["problems"]) == (6, 8.0, 0.75, [])
    assert facts["bytes"] == (tmp_path / "film.mp4").stat().st_size and len(facts["sha256"]) == 64
    assert made.recipe is not None and facts["comment"] is None
    assert Recipe.from_json(json.dumps(facts["recipe"])) == made.recipe.encoded(encoding("mp4"))
    assert Run.from_json(json.dumps(facts["run"])) == RUN
    still = film(1)
    picture = inspect(Clip(still, 8.0, recipe(still)).save(tmp_path / "still.png"))
    assert (picture["container"], picture["frames"], picture["fps"], picture["run"]) == ("png", 1, None, None)
    assert picture["recipe"]["frames_sha256"] == frames_sha256(still)
    json.dumps([facts, picture])


def test_inspect_describes_a_foreign_film(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", film(), 8, "holiday in Spain")
    for text in ("{", "[]", '{"run": 3}', "[" * 100_000):
        sidecar_path(tmp_path / "film.mp4").write_text(text)
        facts = inspect(tmp_path / "film.mp4")
        assert (facts["recipe"], facts["run"], facts["comment"]) == (None, None, "holiday in Spain")
        assert len(facts["problems"]) == 2 and "film.mp4.json" in facts["problems"][0]


def test_missing_damaged_and_newer_recipes_are_reported(tmp_path: Path) -> None:
    good = recipe(film()).to_json()
    cases = {
        None: "carries no recipe",
        "holiday": "not a recipe",
        "[" * 100_000: "not a recipe",
        "[]": "damaged",
        good.replace('"seed":7', '"seed":-7'): r"plan\..*seed",
        good.replace('"placement"', '"placment"'): "damaged",
        good.replace(f'"schema_version":{SCHEMA_VERSION}', '"schema_version":99'): "schema 99.*newer Flickbook",
    }
    for comment, reason in cases.items():
        write(tmp_path / "film.mp4", film(1), 8, comment, overwrite=True)
        with pytest.raises(MediaError, match=reason):
            read_recipe(tmp_path / "film.mp4")
    write(tmp_path / "film.mp4", film(1), 8, good, overwrite=True)
    assert read_recipe(tmp_path / "film.mp4") == recipe(film())


@pytest.mark.parametrize(
    ("name", "codec", "container", "shown_as"),
    [
        ("a.mov", "libx264", "mov", "h264"),
        ("a.webm", "libvpx-vp9", "webm", "vp9"),
        ("a.mkv", "libvpx", "matroska", "vp8"),
        ("a.avi", "mpeg4", "avi", "mpeg4"),
        ("a.gif", "gif", "gif", "gif"),
    ],
)
def test_films_of_other_formats_are_inspected(
    tmp_path: Path, encode: Callable[..., Path], name: str, codec: str, container: str, shown_as: str
) -> None:
    facts = inspect(encode(tmp_path / name, film(), codec))
    assert (facts["container"], facts["codec"], facts["width"], facts["height"]) == (container, shown_as, 48, 32)
    assert (facts["frames"], facts["fps"], facts["comment"]) == (6, pytest.approx(8, rel=0.03), None)
    with pytest.raises(MediaError, match="carries no recipe"):
        read_recipe(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "container"), [("a.jpg", "jpeg"), ("a.webp", "webp"), ("a.bmp", "bmp"), ("a.tif", "tiff")]
)
def test_images_of_other_formats_are_inspected(tmp_path: Path, name: str, container: str) -> None:
    Image.fromarray(film(1)[0]).save(tmp_path / name)
    facts = inspect(tmp_path / name)
    assert (facts["container"], facts["codec"], facts["width"], facts["height"]) == (container, container, 48, 32)
    assert (facts["frames"], facts["fps"], facts["comment"], facts["recipe"]) == (1, None, None, None)


FILMS = ["film.mp4", "film.webm", "film.gif", "film.webp", "film.apng"]
PICTURES = ["still.png", "still.jpg", "still.webp", "still.gif", "still.apng"]


@settings(max_examples=10, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=600))
@pytest.mark.parametrize("name", [*FILMS[1:], *PICTURES[1:]])
def test_any_comment_is_read_back_from_every_container(scratch: Path, name: str, text: str) -> None:
    write(scratch / name, film(1 if name.startswith("still") else 2, 8, 8), 8, text, overwrite=True)
    assert read_comment(scratch / name) == text


@pytest.mark.parametrize("name", [*FILMS[1:], *PICTURES[1:]])
def test_the_longest_and_no_comment_of_every_container(tmp_path: Path, name: str) -> None:
    frames = film(1 if name.startswith("still") else 2)
    most = MAX_JPEG_COMMENT_BYTES if name.endswith("jpg") else MAX_COMMENT_BYTES
    write(tmp_path / name, frames, 8, "é" * (most // 2))
    assert read_comment(tmp_path / name) == "é" * (most // 2)
    write(tmp_path / name, frames, 8, overwrite=True)
    assert read_comment(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [
        ("film.webm", "webm", "vp9"),
        ("film.gif", "gif", "gif"),
        ("film.webp", "webp", "webp"),
        ("film.apng", "apng", "apng"),
    ],
)
def test_inspect_describes_films_in_every_container(tmp_path: Path, name: str, container: str, codec: str) -> None:
    made = Clip(film(), 8.0, recipe(film()), RUN)
    facts = inspect(made.save(tmp_path / name))
    assert (facts["container"], facts["codec"], facts["width"], facts["height"]) == (container, codec, 48, 32)
    assert (facts["frames"], facts["fps"], facts["seconds"]) == (6, pytest.approx(8), pytest.approx(0.75))
    assert made.recipe is not None
    assert Recipe.from_json(json.dumps(facts["recipe"])) == made.recipe.encoded(encoding(container_of(name)))
    assert Run.from_json(json.dumps(facts["run"])) == RUN and facts["problems"] == []


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(["a.jpg", "a.webp", "a.apng", "b.webp"]))
def test_a_damaged_description_is_read_or_refused(scratch: Path, data: st.DataObject, name: str) -> None:
    """Whatever stands in the bytes of the description, nothing but MediaError comes of it."""
    write(scratch / name, film(3 if name in ("a.apng", "b.webp") else 1, 8, 8), 8, "a comment", overwrite=True)
    whole = bytearray((scratch / name).read_bytes())
    at = whole.find(b"a comment")
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(max(0, at - 60), min(len(whole), at + 30) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    (scratch / name).write_bytes(whole)
    try:
        assert isinstance(read_comment(scratch / name), str | None)
    except MediaError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("at", [0, 5, 100, 2**32 - 1])
def test_a_description_offset_out_of_bounds_reads_nothing(tmp_path: Path, at: int) -> None:
    write(tmp_path / "a.jpg", film(1), 8, "a comment")
    data = (tmp_path / "a.jpg").read_bytes()
    entry = data.index(struct.pack("<HHI", 0x010E, 2, 10)) + 8
    (tmp_path / "a.jpg").write_bytes(data[:entry] + struct.pack("<I", at) + data[entry + 4 :])
    found = read_comment(tmp_path / "a.jpg")
    assert found is None or (len(found.encode()) <= 40 and found != "a comment")


def test_a_description_that_is_not_text_is_ignored(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", film(1), 8, "a comment")
    data = (tmp_path / "a.jpg").read_bytes()
    entry = data.index(struct.pack("<HHI", 0x010E, 2, 10))
    (tmp_path / "a.jpg").write_bytes(data[:entry] + struct.pack("<HH", 0x010E, 4) + data[entry + 4 :])
    assert read_comment(tmp_path / "a.jpg") is None


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_the_comment_of_an_apng_is_read_without_decoding(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", film(1)[0], "mine")
    data = (tmp_path / "a.png").read_bytes()
    at = data.index(b"IDAT") - 4
    animation = chunk(b"acTL", struct.pack(">II", 1 << 30, 0))
    (tmp_path / "a.png").write_bytes(data[:at] + animation + data[at:])
    assert read_comment(tmp_path / "a.png") == "mine"


def test_an_apng_with_too_many_or_broken_chunks_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.apng", film(3), 8)
    data = (tmp_path / "a.apng").read_bytes()
    end = data.index(b"IEND") - 4
    many = chunk(b"eeEe", b"") * ((1 << 18) + 1)
    for damaged in (data[:end] + many + data[end:], data[:end] + chunk(b"fcTL", b"short"), data[: end - 5]):
        (tmp_path / "a.apng").write_bytes(damaged)
        with pytest.raises(MediaError):
            inspect(tmp_path / "a.apng")


def test_a_png_comment_after_the_pixels_is_found_in_every_text_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, film(1)[0])
    data = path.read_bytes()
    end = data.index(b"IEND") - 4
    packed = zlib.compress("größe".encode())
    kinds = {
        "tEXt": b"comment\0gr\xf6\xdfe",
        "zTXt": b"Comment\0\0" + zlib.compress(b"gr\xf6\xdfe"),
        "iTXt": b"comment\0\0\0\0\0" + "größe".encode(),
        "iTXt, packed": b"comment\0\1\0de\0Kommentar\0" + packed,
    }
    for kind, content in kinds.items():
        path.write_bytes(data[:end] + chunk(kind[:4].encode(), content) + data[end:])
        assert read_comment(path) == "größe", kind
    path.write_bytes(data[:end] + chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(100 << 20))) + data[end:])
    with pytest.raises(MediaError, match="too large"):
        read_comment(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system enforces no such limit")
def test_an_image_is_inspected_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "tall.png"
    path.write_bytes(png(1, 50_000_000, rows=bytes(4 * 50_000_000)))
    less_than_its_pixels = Budget(memory_mib=64, cpu_seconds=300, seconds=3600)
    found = probe.ask("metadata", path, less_than_its_pixels, limits=None, digest=False).value
    assert (found["width"], found["height"], found["comment"]) == (1, 50_000_000, None)
    with pytest.raises(MediaError, match="needs more than 64 MiB of memory"):
        probe.ask("picture", path, less_than_its_pixels, limits=None)
