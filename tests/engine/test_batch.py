"""Batches: names that are never evaluated, a journal of seeds, films that go on when one of them fails, the sheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook.engine.batch import FIELDS, SHEET_FILMS, Failure, Film, Seeds, Sheet, Template, made, saved_plan, worst
from flickbook.engine.films import films
from flickbook.engine.rows import Row
from flickbook.errors import Cancelled, FlickbookError, OutputError, RequestError
from flickbook.formats import container_of
from flickbook.media.clip import Clip
from flickbook.media.metrics.quality import LIMITS
from flickbook.media.write import write
from flickbook.resolution import resolve
from flickbook.spec import Network, Placement, Polish, Request, Step

VALUES = {"number": "07", "slug": "a-fox", "seed": "5", "model": "builtin", "name": "shot one"}


def film(path: Path, number: int = 1, drawn: bool = False, **changes: Any) -> Film:
    fields = {"prompt": "a red circle moving left", "num_frames": 4, "num_inference_steps": 2, "seed": number}
    request = Request.of(**{**fields, **changes})
    return Film(Row(number, {}, f"key-{number}"), request, resolve(request), {}, path, drawn)


@pytest.mark.parametrize(
    ("text", "path", "home"),
    [
        ("films/{number}-{slug}-{seed}.mp4", "films/07-a-fox-5.mp4", "films"),
        ("{model}/{name}.mp4", "builtin/shot one.mp4", "."),
        ("a/{model}/b/{number}.png", "a/builtin/b/07.png", "a"),
        ("plain.mp4", "plain.mp4", "."),
        ("/out/{number}/frame-%04d.png", "/out/07/frame-%04d.png", "/out"),
    ],
)
def test_a_template_is_filled(text: str, path: str, home: str) -> None:
    assert Template(text).path(VALUES) == Path(path)
    assert Template(text).home == Path(home)
    assert Template(text, Path("/in")).path(VALUES) == Path("/in") / path


@pytest.mark.parametrize(
    "text",
    [
        "{prompt}",
        "{slug.__class__}",
        "{slug[0]}",
        "{number:03d}",
        "{seed!r}",
        "{}",
        "{{number}}",
        "a{",
        "}b",
        "{ slug }",
    ],
)
def test_only_known_fields_are_replaced(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        Template(f"films/{text}.mp4")
    assert caught.value.field == "output"
    if text not in ("a{", "}b", "{{number}}"):
        assert all(f"{{{field}}}" in str(caught.value) for field in FIELDS)


@given(st.text(alphabet="{}abnumerslg.[]!:/%", max_size=30))
def test_any_template_gives_a_path_or_an_error(text: str) -> None:
    try:
        assert "{" not in str(Template(text).path(VALUES))
    except FlickbookError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a\\b", "c:d", "x" * 101, ".hidden", "end.", "a\tb", "a%04d"])
def test_a_name_must_be_a_single_path_component(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        Template("{name}.mp4").path({**VALUES, "name": name})
    assert caught.value.field == "name"
    assert Template("{number}.mp4").path({**VALUES, "name": name}) == Path("07.mp4")


def test_the_owner_in_a_model_name_makes_no_directory() -> None:
    assert Template("{model}.mp4").path({**VALUES, "model": "../owner/name"}) == Path("..-owner-name.mp4")


def test_drawn_seeds_are_stored(tmp_path: Path) -> None:
    path, rows = tmp_path / "new/seeds.json", [Row(n, {}, f"key-{n}") for n in (1, 2, 3)]
    first = Seeds(path)
    assert first.get(rows[0]) is None
    first.put(rows[0], 2**63 - 1)
    first.put(rows[1], 0)
    first.save()
    again = Seeds(path)
    assert [again.get(row) for row in rows] == [2**63 - 1, 0, None]
    # Rows that are gone for now keep their seeds.
    again.put(rows[2], 7)
    again.save()
    assert [Seeds(path).get(row) for row in rows] == [2**63 - 1, 0, 7]
    assert [each.name for each in path.parent.iterdir()] == ["seeds.json"]


def test_no_journal_is_written_without_drawn_seeds(tmp_path: Path) -> None:
    Seeds(tmp_path / "seeds.json").save()
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=60) | st.builds(lambda x: json.dumps({"seeds": x}).encode(), st.dictionaries(
    st.text(max_size=3), st.integers() | st.none() | st.floats() | st.booleans(), max_size=3)))  # fmt: skip
def test_any_journal_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-seeds.json"
    path.write_bytes(data)
    try:
        kept = Seeds(path)
    except OutputError:
        assert Seeds(path, overwrite=True).get(Row(1, {}, "")) is None
        return
    for key in json.loads(data)["seeds"]:
        seed = kept.get(Row(1, {}, key))
        assert type(seed) is int and 0 <= seed < 2**63


def saved(one: Film) -> Clip:
    clip = next(films([one.plan]))
    clip.save(one.path)
    return clip


@pytest.mark.slow
def test_an_existing_film_is_recognised_by_its_plan(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    one = film(path)
    assert saved_plan(one) is None
    saved(one)
    assert saved_plan(one) == one.plan
    other = film(path, seed=8)
    with pytest.raises(OutputError, match="is another film: seed is 1 in the file, 8 here"):
        saved_plan(other)
    assert saved_plan(other, overwrite=True) is None
    drawn = film(path, seed=8, drawn=True)
    assert saved_plan(drawn) == one.plan
    with pytest.raises(OutputError, match="num_inference_steps is 2 in the file, 3 here"):
        saved_plan(film(path, num_inference_steps=3, drawn=True))


def test_a_foreign_file_is_not_replaced(tmp_path: Path) -> None:
    one = film(tmp_path / "a.mp4")
    one.path.write_bytes(b"x")
    with pytest.raises(OutputError, match="carries no recipe"):
        saved_plan(one)
    one.path.unlink()
    write(one.path, np.zeros((4, 16, 16, 3), np.uint8), 8.0)
    with pytest.raises(OutputError, match="carries no recipe"):
        saved_plan(one)
    numbered = film(tmp_path / "f-%02d.png", container="frames")
    assert saved_plan(numbered) is None
    saved(numbered)
    assert saved_plan(numbered) == numbered.plan


def test_complete_numbered_frames_are_kept(tmp_path: Path) -> None:
    one = film(tmp_path / "f-%02d.png", container="frames")
    saved(one)
    third, fifth = tmp_path / "f-03.png", tmp_path / "f-05.png"
    frame = third.read_bytes()
    third.unlink()
    with pytest.raises(OutputError, match="not with the frames of its recipe"):
        saved_plan(one)
    assert saved_plan(one, overwrite=True) is None
    third.write_bytes(frame)
    assert saved_plan(one) == one.plan
    fifth.write_bytes(frame)
    with pytest.raises(OutputError, match="there are more"):
        saved_plan(one)


@pytest.mark.parametrize("loop", ["pingpong", "blend"])
def test_looped_numbered_frames_are_recognised_by_their_pixels(tmp_path: Path, loop: str) -> None:
    one = film(tmp_path / "f-%d.png", container="frames", polish=Polish(loop=loop))  # type: ignore[arg-type]
    count = len(saved(one).frames)
    assert count < 8 and saved_plan(one) == one.plan
    (tmp_path / f"f-{count}.png").unlink()
    with pytest.raises(OutputError, match="some are missing"):
        saved_plan(one)


@pytest.mark.parametrize("name", ["a.mp4", "a.webp", "a-%d.png"])
def test_a_film_of_schema_1_and_of_any_batch_is_the_same_film(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    one = film(path, container=container_of(path))
    clip = next(films([one.plan]))
    assert clip.recipe is not None
    changes = {"schema_version": 1, "codec": "", "quality": None, "pixel_format": ""}
    plan = clip.recipe.plan.model_copy(update=changes)
    placement = clip.recipe.placement.model_copy(update={"batch": 3})
    recipe = clip.recipe.model_copy(update={"schema_version": 1, "plan": plan, "placement": placement})
    write(path, clip.frames, clip.fps, recipe.to_json())
    assert saved_plan(one) == one.plan
    with pytest.raises(
        OutputError, match="is another film: seed is 1 in the file, 8 here$|seed is 1 in the file, 8 here;"
    ):
        saved_plan(film(path, seed=8, container=container_of(path)))


def test_a_film_of_another_codec_is_another_film(tmp_path: Path) -> None:
    one = film(tmp_path / "a.mp4")
    next(films([one.plan])).save(one.path, codec="h265")
    with pytest.raises(OutputError, match="is another film: codec is h265 in the file, h264 here"):
        saved_plan(one)


def test_a_failing_film_does_not_end_the_batch(tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    saved(film(picture, num_frames=1))
    batch = [
        film(tmp_path / "1.mp4", 1),
        film(tmp_path / "2.mp4", 2, image=str(picture), num_inference_steps=4),
        film(tmp_path / "3.mp4", 3),
        film(tmp_path / "4.mp4", 4),
    ]
    picture.write_bytes(b"damaged since")

    def check(one: Film) -> None:
        if one.row.number == 3:
            raise OutputError(one.path, "no space left", "free some")

    results = [(one.row.number, result) for one, result in made(batch, check=check)]
    assert [number for number, _ in results] == [1, 2, 3, 4]
    assert [type(result) for _, result in results] == [Clip, Failure, Failure, Clip]
    assert [r.code for _, r in results if isinstance(r, Failure)] == ["media", "output"]
    for number, clip in results:
        if isinstance(clip, Clip):
            assert clip.recipe is not None and clip.recipe.plan == batch[number - 1].plan


def test_films_are_yielded_as_they_are_made(tmp_path: Path) -> None:
    steps: list[Step] = []
    one, two = film(tmp_path / "1.mp4", 1), film(tmp_path / "2.mp4", 2)
    results = made([one, two], placement=Placement(), on_step=steps.append)
    next(results)
    done = len(steps)
    next(results)
    assert len(steps) > done


@pytest.mark.slow
def test_adjacent_films_run_as_a_batch_and_are_unchanged(tmp_path: Path) -> None:
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, picture in enumerate(pictures):
        saved(film(picture, number, num_frames=1))
    how = {"num_inference_steps": 4}
    batch = [film(tmp_path / f"{n}.mp4", n, image=str(pictures[n - 1]), **how) for n in (1, 2)]
    together = [result for _, result in made(batch, placement=Placement(batch=2))]
    for one, clip in zip(batch, together, strict=True):
        assert isinstance(clip, Clip) and clip.recipe is not None and clip.run is not None
        assert clip.recipe.placement.batch == 2
        assert clip.run.inputs == {one.plan.image: str(Path(one.request.image or "").absolute())}
        (_, alone), *_ = made([one], placement=Placement())
        assert isinstance(alone, Clip)
        assert np.abs(alone.frames.astype(int) - clip.frames).max() <= 2


@pytest.mark.slow
def test_a_failing_batch_is_retried_film_by_film(tmp_path: Path) -> None:
    """The second is polished with a network that is gone: the first is whole by then, the third is made alone."""
    gone = Polish(upscale=2, upscaler=Network(name="gone", sha256="0" * 64))
    batch = [film(tmp_path / "1.mp4", 1), film(tmp_path / "2.mp4", 2, polish=gone), film(tmp_path / "3.mp4", 3)]
    steps: list[Step] = []
    results = made(batch, placement=Placement(batch=3), on_step=steps.append)
    assert isinstance(next(results)[1], Clip)
    first = len(steps)
    rest = [result for _, result in results]
    assert [type(result) for result in rest] == [Failure, Clip]
    assert sum(step.phase == "denoise" for step in steps[first:]) == 2 * sum(
        step.phase == "denoise" for step in steps[:first]
    )


def test_cancelling_ends_the_batch(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        list(made([film(tmp_path / "1.mp4"), film(tmp_path / "2.mp4", 2)], cancel=lambda: True))


@pytest.mark.parametrize(("count", "cell"), [(1, 128), (3, 128), (20, 96), (200, 64), (1000, 64)])
def test_the_sheet_has_room_for_few_and_many_films(count: int, cell: int) -> None:
    sheet = Sheet(count, 16, 1.0)
    assert (sheet.count, sheet.cell) == (min(count, SHEET_FILMS), cell)
    levels = np.arange(16, dtype=np.uint8).repeat(16 * 16 * 3).reshape(16, 16, 16, 3) * 16
    for number in range(1, count + 1):
        sheet.add(number, f"{number} · a film", None if number == 2 else levels)
    image = sheet.image()
    # A screenful or two, and about as high as wide: a lone row cannot be.
    assert image.width < 3500 and image.height < 4000
    assert count < 3 or 0.4 < image.width / image.height < 2.2


def test_labels_of_images_fit_the_sheet() -> None:
    # Stills alone stand in three columns of labels; beside films their rows are as wide as those.
    for most, width in ((1, 3 * 290), (8, 600)):
        sheet = Sheet(9, most, 1.0)
        for number in range(1, 10):
            sheet.add(number, "a label of some words", np.zeros((1, 8, 8, 3), np.uint8))
        image = sheet.image()
        assert image.width >= width


def test_the_worst_score_is_the_nearest_to_its_limit() -> None:
    assert worst({}) == ""
    close, far = LIMITS["clean"] + 0.01, LIMITS["moving"] + 0.2
    assert worst({"clean": close, "moving": far, "sharp": 0.9}) == f"clean {close:.2f}"
    assert worst({"clean": close, "moving": 0.0, "sharp": 0.9}) == "low: moving 0.00"
    assert worst({"clean": close, "not_frozen": 0.9}) == "low: not_frozen 0.90"


def test_an_unexpected_error_is_one_line() -> None:
    assert Failure.of(ValueError("a\nb")) == Failure("unexpected", "unexpected ValueError: a b")
    assert Failure.of(MemoryError()).code == "out_of_memory"
