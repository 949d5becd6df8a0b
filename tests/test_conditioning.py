"""What guides a film besides its prompt: what models read, where images stand, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from flickbook.catalogue import list_models
from flickbook.conditioning import conditions_of, files, paths, relocated
from flickbook.errors import MediaError, RequestError
from flickbook.keyframes import Condition
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """A file; only its bytes are looked at."""
    (tmp_path / "a.png").write_bytes(b"a")
    return str(tmp_path / "a.png")


def plan(model: str, **fields: Any) -> Plan:
    return resolve(Request.of(prompt="a bird", model=model, seed=1, **fields))


def test_inputs_are_kept_by_their_hash_and_at_their_frames(picture: str) -> None:
    digest = hashlib.sha256(b"a").hexdigest()
    conditions = (Condition(image=picture, frame=-9), Condition(image=picture, time=1.0, strength=0.5))
    made = plan("ltx-video", image=picture, last_image=picture, conditions=conditions, num_frames=97)
    assert (made.image, made.last_image) == (digest, digest)
    assert [(each.image, each.frame, each.strength) for each in made.conditions] == [
        (digest, 88, 1.0),
        (digest, 25, 0.5),
    ]
    assert [role for role, _ in files(made)] == ["image", "last_image", "condition", "condition"]
    made = plan("wan-2.1-vace-1.3b", reference_images=(picture, picture), control_video=picture, control="edges")
    assert made.reference_images == (digest, digest) and (made.control_video, made.control) == (digest, "edges")
    assert plan("wan-2.1-vace-1.3b", video=picture, mask=picture).mask == digest


def test_the_paths_of_a_request_follow_the_files_of_its_plan(tmp_path: Path) -> None:
    names = ("image", "last_image", "first", "second", "reference")
    for name in names:
        (tmp_path / name).write_text(name)
    at = {name: str(tmp_path / name) for name in names}
    conditions = (Condition(image=at["first"], frame=40), Condition(image=at["second"], frame=8))
    request = Request(
        prompt="a bird",
        model="wan-2.1-vace-1.3b",
        image=at["image"],
        last_image=at["last_image"],
        conditions=conditions,
        reference_images=(at["reference"],),
    )
    found = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths(request)]
    assert found == [digest for _, digest in files(resolve(request))]
    moved = request.model_copy(update=relocated(request, lambda name, path: f"/{name}"))
    assert paths(moved) == ["/image", "/last_image", "/condition-0", "/condition-1", "/reference-0"]


@pytest.mark.parametrize(
    ("model", "fields", "error"),
    [
        (
            "wan-2.1-1.3b",
            {"last_image": "a"},
            r"last_image=.*takes no last frame; .*a model that does: ltx-video, ltx-video-13b-distilled,",
        ),
        ("builtin", {"conditions": (Condition(image="a", frame=3),)}, "builtin takes no frames at places"),
        ("wan-2.2-5b", {"reference_images": ("a",)}, "no reference images.*wan-2.1-vace-1.3b, wan-2.1-vace-14b"),
        ("ltx-2", {"control_video": "a"}, "takes no control video"),
        ("wan-2.2-i2v-14b", {"last_image": "a"}, "image=.*starts from image; add --image"),
        ("skyreels-v2-df-1.3b", {"last_image": "a"}, "needs the first frame too; add --image"),
        ("ltx-video", {"last_image": "a", "video": "a"}, "cannot be combined with a video"),
        ("ltx-video", {"last_image": "a", "num_frames": 1}, "an image has one frame"),
        (
            "ltx-video",
            {"conditions": (Condition(image="a", frame=161),)},
            "conditions=161: must be a frame from 0 to 160",
        ),
        ("ltx-video", {"conditions": (Condition(image="a", time=9.0),)}, r"conditions=9.0: must be 0 to 6.4 seconds"),
        ("ltx-video", {"conditions": (Condition(image="a"),)}, "needs a frame or a time"),
        ("ltx-video", {"conditions": (Condition(image="a", frame=1, time=1.0),)}, "needs a frame or a time"),
        ("ltx-video", {"conditions": (Condition(image="a", frame=1),) * 2}, "conditions=1: is sent twice"),
        ("ltx-video", {"image": "a", "conditions": (Condition(image="a", frame=0),)}, "frame 0 has image too"),
        ("ltx-video", {"conditions": (Condition(image="a", frame=1, strength=0.0),)}, "strength must be above 0"),
        (
            "ltx-2",
            {"conditions": (Condition(image="a", frame=9), Condition(image="a", frame=16))},
            "conditions=16: ltx-2 makes frames 9 to 16 together, and frame 9 has an image",
        ),
        ("ltx-2", {"last_image": "a", "conditions": (Condition(image="a", frame=-8),)}, "frame 120 has an image"),
        (
            "wan-2.1-vace-1.3b",
            {"conditions": (Condition(image="a", frame=1, strength=0.5),)},
            "conditions=0.5: wan-2.1-vace-1.3b follows conditions exactly",
        ),
        ("wan-2.1-vace-1.3b", {"mask": "a"}, "mask=.*has no effect without a video"),
        ("wan-2.1-vace-1.3b", {"video": "a"}, "remakes the part of a video that a mask shows; add --mask"),
        ("wan-2.1-vace-1.3b", {"control": "edges"}, "control=edges: has no effect without a control video"),
        (
            "animatediff-canny",
            {},
            "control_video=: animatediff-canny makes no film without a control video; add --control",
        ),
        ("wan-2.2-animate-14b", {"image": "a", "control_video": "a"}, "face_video=.*without a face video"),
        ("wan-2.1-vace-1.3b", {"reference_images": ("a",) * 9}, "reference_images=9: must be at most 8"),
    ],
)
def test_what_a_model_cannot_do_is_refused(picture: str, model: str, fields: dict[str, Any], error: str) -> None:
    def real(path: str) -> str:
        return picture if path == "a" else path

    request = Request.of(prompt="a bird", model=model, **fields)
    with pytest.raises(RequestError, match=error):
        resolve(request.model_copy(update=relocated(request, lambda _, path: real(path))))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no.png.*No such file"):
        plan("ltx-video", last_image=str(tmp_path / "no.png"))


def test_some_model_reads_each_input() -> None:
    accepted = {guide for model in list_models() for guide in model.accepts}
    assert accepted == {
        *("last_image", "conditions", "condition_strength", "reference_images", "control_video", "face_video", "mask"),
    }


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a.png@24", Condition(image="a.png", frame=24)),
        ("a.png@-1", Condition(image="a.png", frame=-1)),
        ("x@y.png@1.5s:0.8", Condition(image="x@y.png", time=1.5, strength=0.8)),
    ],
)
def test_a_condition_is_an_image_at_a_place(text: str, condition: Condition) -> None:
    assert conditions_of([text]) == (condition,)


@pytest.mark.parametrize("text", ["a.png", "a.png@", "@3", "a.png@x", "a.png@3:x", "a.png@-1.5s"])
def test_a_condition_without_a_place_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="condition=.*must be IMAGE@FRAME; write for example"):
        conditions_of([text])
